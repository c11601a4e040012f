"""All results of one image, and their files."""

import hashlib
import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from pydicom.dataset import Dataset

from glint.io.dicom_file import quiet
from glint.io.dicom_out.capture import capture
from glint.io.dicom_out.findings import Finding
from glint.io.dicom_out.presentation import presentation
from glint.io.dicom_out.report import report
from glint.io.dicom_out.segmentation import SegType, segmentation
from glint.io.dicom_out.stamp import Stamp
from glint.io.files import make_folder, write_output

Results = Mapping[str, Dataset]
"""Kind ("SEG", "SR", "PR", "SC") -> data set."""


def results(
    headers: Sequence[Dataset],
    findings: Sequence[Finding],
    stamp: Stamp,
    *,
    seg_type: SegType = "binary",
    picture: Image.Image | None = None,
) -> Results:
    """Return segmentation, report, presentation state and secondary capture, as far as there is something to say.

    Args:
        headers: Headers of the source images (headers.py), in the order of the first axis of the masks. One header
            is a radiograph.
        findings: What was found.
        stamp: Who answered.
        seg_type: See `segmentation`.
        picture: The overlay for a secondary capture; None writes none.

    Raises:
        DataError: A mask does not have the shape of the source.
    """
    parts = [seg_type]
    found: dict[str, Dataset | None] = {}
    with silent():
        segmented = found["SEG"] = segmentation(headers, findings, stamp, seg_type=seg_type)
        found["SR"] = report(headers, findings, stamp, segmented=segmented, parts=parts)
        if len(headers) == 1:
            found["PR"] = presentation(headers[0], findings, stamp, parts=parts)
        if picture is not None:
            found["SC"] = capture(headers[0], picture, findings, stamp, parts=parts)
    return {kind: data for kind, data in found.items() if data is not None}


def write_results(folder: Path, written: Results) -> list[Path]:
    """Write each result to a file of its own, whole or not at all; return the paths.

    A name is made of kind and UID: results of many studies fit into one folder, and writing again replaces.

    Raises:
        UsageError: The folder or a file cannot be written.
    """
    make_folder(folder)
    paths: list[Path] = []
    for kind, data in written.items():
        digest = hashlib.sha256(str(data.SOPInstanceUID).encode()).hexdigest()
        path = folder / f"GLINT-{kind}-{digest[:12]}.dcm"
        write_output(path, lambda part, data=data: _save(data, part))
        paths.append(path)
    return paths


@contextmanager
def silent() -> Generator[None]:
    """Keep highdicom and pydicom silent: their warnings quote names of patients."""
    logger = logging.getLogger("highdicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with quiet():
            yield
    finally:
        logger.setLevel(level)


def _save(data: Dataset, path: Path) -> None:
    with silent():
        data.save_as(path, enforce_file_format=True)
