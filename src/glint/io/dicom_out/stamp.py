"""Who answered, under which UIDs: equipment, algorithm, and identifiers that depend on input and settings alone.

UIDs are made from what was asked, of which series, by which model: asking again gives the same UIDs, so that an archive
which is sent a result twice keeps one. They have the form 2.25.<UUID> (DICOM PS3.5 B.2).
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.dataset import Dataset
from pydicom.uid import UID

import glint
from glint.io.dicom_out.codes import SCHEME

MANUFACTURER, MODEL_NAME = "GLINT developers", "GLINT"
_SPACE = uuid.UUID("6f1d3f6e-5b7a-4f0e-9a51-0c1b5d1c7a11")


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who answered what, and how.

    Attributes:
        model: Name of the model.
        fingerprint: What tells two models of one name apart, e.g. a digest of their weights; may be "".
        threshold: Mask = map > threshold.
        more: Names and values of further settings that change masks.
    """

    model: str
    fingerprint: str
    threshold: float
    more: tuple[tuple[str, str], ...] = ()

    @property
    def version(self) -> str:
        """Version of the software."""
        return glint.__version__

    def parameters(self) -> dict[str, str]:
        """Return the settings, as algorithm identifications show them."""
        shown = {"model": self.model, "threshold": f"{self.threshold:g}"} | dict(self.more)
        return shown | ({"weights": self.fingerprint} if self.fingerprint else {})

    def uid(self, kind: str, headers: Sequence[Dataset], *parts: str) -> UID:
        """Return the UID of a result.

        Args:
            kind: What it identifies, e.g. "SEG instance".
            headers: Source images.
            parts: Further settings that make another result, e.g. the queries.
        """
        sources = [str(header.SOPInstanceUID) for header in headers]
        name = [kind, self.version, self.parameters(), sources, list(parts)]
        return UID(f"2.25.{uuid.uuid5(_SPACE, json.dumps(name, sort_keys=True)).int}")

    def series(
        self, kind: str, headers: Sequence[Dataset], parts: Sequence[str], number: int
    ) -> dict[str, Any]:
        """Return what highdicom wants to know of a new series with one instance.

        Args:
            kind: "SEG", "SR", "PR" or "SC".
            headers: Source images.
            parts: Further settings, see `uid`.
            number: SeriesNumber; archives show series in this order.
        """
        return {
            "series_instance_uid": self.uid(f"{kind} series", headers, *parts),
            "sop_instance_uid": self.uid(f"{kind} instance", headers, *parts),
            "series_number": number,
            "instance_number": 1,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": MODEL_NAME,
            "software_versions": self.version,
            "device_serial_number": self.fingerprint[:64] or "none",
            "series_description": f"GLINT {kind}",
            "specific_character_set": "ISO_IR 192",
            "coding_schemes": [CodingSchemeIdentificationItem(SCHEME, name="GLINT private codes")],
        }
