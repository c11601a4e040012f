"""From answers to DICOM results: which headers, which findings, which stamp."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from glint.errors import UsageError
from glint.results import Answer, Answers
from glint.volume_results import VolumeAnswer, VolumeAnswers

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


def write_dicom(
    answers: Answers, folder: Path, options: DicomOptions, *, digest: str, series: str = ""
) -> list[Path]:
    """Write the answers to a radiograph as DICOM files and return their paths.

    Args:
        answers: Of `segment`, for a DICOM file.
        folder: Made if need be.
        options: How results are written.
        digest: What tells the model from others of its name (glint.model.folder.model_digest).
        series: As given to `glint.io.radiograph.read_radiograph`.

    Raises:
        DataError: The file does not say which image of which study it is.
        UsageError: The image is not DICOM, or the folder cannot be written.
    """
    from glint.io.dicom_out.write import write_results

    headers = source_headers(answers, options, series=series)
    return write_results(folder, dicom_results(answers, headers, options, digest=digest))


def write_volume_dicom(
    answers: VolumeAnswers,
    source: Path,
    folder: Path,
    options: DicomOptions,
    *,
    digest: str,
    series: str = "",
) -> list[Path]:
    """Write the answers about a CT as DICOM files (segmentation and report) and return their paths.

    Args:
        answers: Of `segment`, for a folder of DICOM slices.
        source: That folder.
        folder: Made if need be.
        options: How results are written.
        digest: See `write_dicom`.
        series: As given to `glint.io.volume.read_volume`.

    Raises:
        DataError: The series has gaps, or does not say which study it belongs to.
        UsageError: The folder cannot be written.
    """
    from glint.io.dicom_out.write import write_results

    headers = scan_headers(source, options, series=series)
    return write_results(folder, scan_results(answers, headers, options, digest=digest))


def scan_results(
    answers: VolumeAnswers, headers: "Sequence[Dataset]", options: DicomOptions, *, digest: str
) -> "Results":
    """Return the answers about a CT as DICOM data sets by kind.

    Args:
        answers: Of `segment`.
        headers: Of the slices, see `scan_headers`.
        options: How results are written.
        digest: See `write_dicom`.
    """
    from glint.io.dicom_out.stamp import Stamp
    from glint.io.dicom_out.write import results

    more = (("refine", answers.refine), ("min_ml", f"{answers.min_ml:g}"))
    stamp = Stamp(Path(answers.model).name, digest, answers.threshold, more)
    # Maps are as large as the scan: only fractional segmentations need them.
    findings = [_volume_finding(answer, options.seg_type == "fractional") for answer in answers.results]
    return results(headers, findings, stamp, seg_type=options.seg_type)


def scan_headers(folder: Path, options: DicomOptions, *, series: str = "") -> "Sequence[Dataset]":
    """Return the headers that the results of a CT take over, in the order of the axes of the scan.

    Raises:
        DataError: The series has gaps, or does not say which study it belongs to.
    """
    from glint.io.dicom_out.headers import read_series_headers

    return read_series_headers(folder, series=series, deidentify=options.deidentify)


def dicom_results(
    answers: Answers, headers: "Sequence[Dataset]", options: DicomOptions, *, digest: str
) -> "Results":
    """Return the answers to a radiograph as DICOM data sets by kind.

    Args:
        answers: Of `segment`.
        headers: Of the source image, see `source_headers`.
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


def source_headers(answers: Answers, options: DicomOptions, *, series: str = "") -> "Sequence[Dataset]":
    """Return the header that the results of a radiograph take over, read again from its file.

    Raises:
        DataError: It lacks UIDs.
        UsageError: The image is not DICOM.
    """
    from glint.io.dicom_out.headers import read_header

    source = answers.radiograph.source
    check_dicom(source)
    return [read_header(source, series=series, deidentify=options.deidentify)]


def _volume_finding(answer: VolumeAnswer, with_heat: bool) -> "Finding":
    from glint.io.dicom_out.findings import Finding, box_around

    mask = answer.mask
    if mask is None:
        raise _no_mask()
    point = None if answer.point_ijk is None else answer.point_ijk[::-1]
    heat = answer.heat if with_heat else None
    return Finding(answer.query, answer.score, mask, heat, point, box_around(mask, point))


def _no_mask() -> UsageError:
    return UsageError("a classification has no mask to write", fix="use segment")


def check_dicom(path: Path) -> None:
    """Refuse a file that belongs to no study; what is in a folder or an archive is seen when it is read.

    Raises:
        UsageError: The image is not DICOM.
    """
    from glint.io.dicom_file import is_dicom
    from glint.io.dicom_out.headers import no_dicom
    from glint.io.sources import Source, is_archive

    if path.is_dir() or (path.is_file() and (is_archive(path) or is_dicom(Source.of(path)))):
        return
    raise no_dicom(str(path))


def finding_of(answer: Answer) -> "Finding":
    """Return an answer on a radiograph as the writers take it: axes (1, Y, X)."""
    from glint.io.dicom_out.findings import Finding

    if answer.mask is None:
        raise _no_mask()
    point, box = answer.point_px, answer.box_xyxy_px
    return Finding(
        answer.query,
        answer.score,
        answer.mask[None],
        None if answer.heat is None else answer.heat[None],
        None if point is None else (0, point[1], point[0]),
        None if box is None else ((0, box[1], box[0]), (1, box[3], box[2])),
    )
