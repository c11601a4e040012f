"""Which images of a study can be asked about: radiographs one by one, CT series as volumes; and why others cannot."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.uid import CTImageStorage

from glint.archive.client import Instance
from glint.errors import DataError
from glint.io.limits import MIN_VOLUME_SIDE

RADIOGRAPHS, CT = ("CR", "DX"), "CT"
MODALITIES = (*RADIOGRAPHS, CT)
MAX_RADIOGRAPHS, MAX_SCANS = 100, 20
"""Of one study; more is no study of one patient."""
MAX_SLICES = 4096
"""Of one scan: two metres in steps of half a millimetre."""
TOO_FEW = f"a CT series has fewer than {MIN_VOLUME_SIDE} slices: a localizer, or no volume"


@dataclass(frozen=True, slots=True)
class Image:
    """What one question is about.

    Attributes:
        instances: One radiograph, or the slices of one CT series; their order says nothing.
        is_scan: Whether it is a CT.
    """

    instances: tuple[Instance, ...]
    is_scan: bool


def select(found: Sequence[Instance], *, radiographs: bool, scans: bool) -> tuple[list[Image], list[str]]:
    """Return what can be asked about, in a fixed order, and why other radiographs and CT cannot.

    Secondary captures and dose sheets among CT (other SOP classes) are no slices. What needs a look into the files,
    e.g. which slices are a localizer, is seen after they are fetched.

    Args:
        found: Objects of a study.
        radiographs: Whether there is a model that reads them.
        scans: The same for CT.

    Raises:
        DataError: More images than a study has.
    """
    ordered = sorted(found, key=lambda item: (item.series, item.uid))
    plain = [item for item in ordered if item.modality in RADIOGRAPHS]
    series: dict[str, list[Instance]] = defaultdict(list)
    for item in ordered:
        if item.modality == CT:
            series[item.series].append(item)
    left: list[str] = []
    images: list[Image] = []
    if plain and radiographs:
        _check_count(len(plain), MAX_RADIOGRAPHS, "radiographs in the study")
        images += [Image((item,), is_scan=False) for item in plain]
    elif plain:
        left.append("radiographs: there is no model for them")
    if series and scans:
        slices = [[item for item in items if _is_slice(item)] for items in series.values()]
        chosen = [items for items in slices if len(items) >= MIN_VOLUME_SIDE]
        _check_count(len(chosen), MAX_SCANS, "CT series in the study")
        for items in chosen:
            _check_count(len(items), MAX_SLICES, "slices in a CT series")
        images += [Image(tuple(items), is_scan=True) for items in chosen]
        left += [TOO_FEW] * (len(chosen) < len(series))
    elif series:
        left.append("CT: there is no model for it")
    return images, left


def _is_slice(item: Instance) -> bool:
    return item.sop_class in ("", CTImageStorage)


def _check_count(count: int, most: int, what: str) -> None:
    if count > most:
        raise DataError(f"there are {count} {what}", expected=f"at most {most}")
