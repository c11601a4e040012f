"""Options of `glint segment` that write answers as DICOM."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from glint.archive.answers import DicomOptions
    from glint.io.dicom_out import segmentation
    from glint.results import Answers
    from glint.volume_results import VolumeAnswers

DICOM = "DICOM results"
DicomOut = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Write SEG, structured report, presentation state and overlay for the study of a DICOM image.",
        rich_help_panel=DICOM,
    ),
]
SegType = Annotated[
    str, typer.Option(metavar="TYPE", help="binary, labelmap or fractional.", rich_help_panel=DICOM)
]
Deidentify = Annotated[
    bool,
    typer.Option("--deidentify", help="Write an alias in place of the patient.", rich_help_panel=DICOM),
]
Store = Annotated[
    bool,
    typer.Option(
        "--store", help="Send results to the archive that the image is from.", rich_help_panel=DICOM
    ),
]


@dataclass(frozen=True)
class Words:
    """The options as given."""

    dicom_out: Path | None
    seg_type: str
    deidentify: bool
    store: bool

    def options(self) -> "DicomOptions":
        """Return how results are written.

        Raises:
            UsageError: Unknown kind of segmentation, or the extra `dicom` is missing.
        """
        from glint.archive.answers import DicomOptions

        options = DicomOptions(cast("segmentation.SegType", self.seg_type), self.deidentify)
        options.check()
        return options


def dicom_output(image: Path, words: Words) -> "Callable[[Answers | VolumeAnswers, str], None]":
    """Check the options before anything is computed; return what writes the files afterwards, given answers and series.

    Args:
        image: As given.
        words: The options.

    Raises:
        UsageError: Options that do not fit together, not a DICOM image, or the extra `dicom` is missing.
    """
    from glint.archive.answers import check_dicom, write_dicom, write_volume_dicom
    from glint.errors import UsageError

    folder = words.dicom_out
    if words.store:
        raise UsageError("--store is for images of an archive", expected="dicomweb://HOST/PATH/studies/UID")
    if folder is None:
        if words.deidentify or words.seg_type != "binary":
            raise UsageError(
                "--seg-type and --deidentify are for DICOM results", fix="add --dicom-out FOLDER"
            )
        return lambda answers, series: None
    options = words.options()
    check_dicom(image)

    def write(answers: "Answers | VolumeAnswers", series: str) -> None:
        from glint.model.folder import model_digest
        from glint.results import Answers

        digest = model_digest(answers.model)
        if isinstance(answers, Answers):
            written = write_dicom(answers, folder, options, digest=digest, series=series)
        else:
            written = write_volume_dicom(answers, image, folder, options, digest=digest, series=series)
        for path in written:
            sys.stderr.write(f"wrote {path}\n")

    return write


def refuse_files(output: Path | None, series: str, *, fill_gaps: bool) -> None:
    """Refuse what makes no sense for a study of an archive.

    Args:
        output: A single file, where a study has any number of images.
        series: Named by the address.
        fill_gaps: Results would lie on slices that the archive does not have.

    Raises:
        UsageError: One of them was asked for.
    """
    from glint.errors import UsageError

    if output is not None:
        raise UsageError(
            "--png, --output and --heat are for image files", fix="write DICOM results: --dicom-out FOLDER"
        )
    if series:
        raise UsageError("--series is for folders", fix="name the series in the address: .../series/UID")
    if fill_gaps:
        raise UsageError("results cannot lie on slices that are missing", fix="leave out --fill-gaps")
