"""From answers to DICOM results: which headers, which findings, which stamp."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from glint.errors import UsageError
from glint.results import Answer, Answers

if TYPE_CHECKING:  # needs the extra dicom
    from pydicom.dataset import Dataset

    from glint.io.dicom_out.findings import Finding
    from glint.io.dicom_out.segmentation import SegType
    from glint.io.dicom_out.write import Results

PICTURE_SIDE_PX = 1024
"""Longest side of a panel of the secondary capture."""


@dataclass(frozen=True, slots=True)
class DicomOptions:
    """How results are written.

    Attributes:
        seg_type: "binary", "labelmap" or "fractional".
        deidentify: Replace the patient by an alias of the study.
    """

    seg_type: "SegType" = "binary"
    deidentify: bool = False

    def check(self) -> None:
        """Refuse what cannot work before time is spent.

        Raises:
            UsageError: Unknown kind of segmentation, or the extra `dicom` is not installed.
        """
        if find_spec("highdicom") is None:
            raise UsageError("highdicom is not installed", fix='pip install "glint-radiology[dicom]"')
        from glint.io.dicom_out.segmentation import SEG_TYPES

        if self.seg_type not in SEG_TYPES:
            raise UsageError(
                f"there is no segmentation type '{self.seg_type}'",
                where="--seg-type",
                expected=", ".join(SEG_TYPES),
            )


def write_dicom(answers: Answers, folder: Path, options: DicomOptions, *, digest: str) -> list[Path]:
    """Write the answers to a radiograph as DICOM files and return their paths.

    Args:
        answers: Of `segment`, for a DICOM file.
        folder: Made if need be.
        options: How results are written.
        digest: What tells the model from others of its name (glint.model.folder.model_digest).

    Raises:
        DataError: The file does not say which image of which study it is.
        UsageError: The image is not DICOM, or the folder cannot be written.
    """
    from glint.io.dicom_out.write import write_results

    return write_results(
        folder, dicom_results(answers, source_headers(answers, options), options, digest=digest)
    )


def dicom_results(
    answers: Answers, headers: "Sequence[Dataset]", options: DicomOptions, *, digest: str
) -> "Results":
    """Return the answers as DICOM data sets by kind.

    Args:
        answers: Of `segment`.
        headers: Of the source images, see `source_headers`.
        options: How results are written.
        digest: See `write_dicom`.
    """
    from glint.io.dicom_out.stamp import Stamp
    from glint.io.dicom_out.write import results
    from glint.io.picture import overlay

    # A model folder may stand under somebody's name: the last part says enough.
    stamp = Stamp(Path(answers.model).name, digest, answers.threshold)
    panels = [answer.panel() for answer in answers]
    picture = overlay(answers.radiograph.pixels, panels, max_side_px=PICTURE_SIDE_PX)
    return results(
        headers, [finding_of(answer) for answer in answers], stamp, seg_type=options.seg_type, picture=picture
    )


def source_headers(answers: Answers, options: DicomOptions) -> "Sequence[Dataset]":
    """Return the headers that the results take over, read again from the file.

    Raises:
        DataError: They lack UIDs.
        UsageError: The image is not DICOM.
    """
    from glint.io.dicom_out.headers import alias_of, read_header

    check_dicom(answers.radiograph.source)
    header = read_header(answers.radiograph.source)
    if options.deidentify:
        header = read_header(answers.radiograph.source, alias=alias_of(header))
    return [header]


def check_dicom(path: Path) -> None:
    """Refuse an image that belongs to no study.

    Raises:
        UsageError: Not a DICOM file.
    """
    is_dicom = False
    if path.is_file():
        with path.open("rb") as stream:
            is_dicom = stream.read(132)[128:] == b"DICM"
    if not is_dicom:
        raise UsageError(
            "results can be written as DICOM for DICOM images only: they belong to a patient and a study",
            where=str(path),
            fix="leave out --dicom-out, or name the DICOM file",
        )


def finding_of(answer: Answer) -> "Finding":
    """Return an answer on a radiograph as the writers take it: axes (1, Y, X)."""
    from glint.io.dicom_out.findings import Finding

    if answer.mask is None:
        raise UsageError("a classification has no mask to write", fix="use segment")
    point, box = answer.point_px, answer.box_xyxy_px
    return Finding(
        answer.query,
        answer.score,
        answer.mask[None],
        None if answer.heat is None else answer.heat[None],
        None if point is None else (0, point[1], point[0]),
        None if box is None else ((0, box[1], box[0]), (1, box[3], box[2])),
    )
