"""One study of an archive: its radiographs and CT series fetched, asked about, and the results sent back."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from glint.archive.answers import DicomOptions, dicom_results, scan_headers, scan_results, source_headers
from glint.archive.client import Archive
from glint.archive.images import TOO_FEW, Image, select
from glint.archive.scratch import scratch
from glint.errors import DataError
from glint.io.dicom_out.write import Results
from glint.io.phi import alias
from glint.io.untrusted import read_contents
from glint.results import Answers
from glint.volume_results import VolumeAnswers

MAX_SCAN_BYTES = 1 << 32
"""Of the files of one CT series."""
Answered = tuple[Answers | VolumeAnswers, Results]


@dataclass(frozen=True)
class Question:
    """What is asked of every image; a kind of image without a model is left.

    Attributes:
        ask: Answers the queries on the file of a radiograph; None without a model of radiographs.
        digest: What tells this model from others of its name.
        options: How results are written.
        ask_scan: Answers them on a folder with the slices of a CT; None without a model of CT.
        scan_digest: As `digest`.
    """

    ask: Callable[[Path], Answers] | None
    digest: str
    options: DicomOptions
    ask_scan: Callable[[Path], VolumeAnswers] | None = None
    scan_digest: str = ""


def answer_study(
    archive: Archive, study: str, question: Question, left: list[str], *, series: str = ""
) -> Iterator[Answered]:
    """Answer on all radiographs and CT of a study, one after the other: a scan and its answers are large.

    Args:
        archive: Where the study is.
        study: StudyInstanceUID.
        question: What is asked.
        left: Takes the reasons why images were left out.
        series: SeriesInstanceUID of the only series that is meant, or "".

    Yields:
        Answers, named by the alias of the study, and their results.

    Raises:
        ArchiveError: The archive fails.
        DataError: An image cannot be used, or there is none to ask about.
    """
    images, reasons = select(
        archive.instances(study, series),
        radiographs=question.ask is not None,
        scans=question.ask_scan is not None,
    )
    count = 0
    for image in images:
        answered = _answer_image(archive, image, question)
        if answered is not None:
            count += 1
            yield answered
        elif TOO_FEW not in reasons:
            reasons.append(TOO_FEW)
    if not count:
        raise DataError(
            f"the study holds nothing to ask about: {'; '.join(reasons) or 'no radiograph and no CT'}",
            expected="radiographs (CR, DX) or CT series, and a model for them",
        )
    left += reasons


def process(archive: Archive, study: str, question: Question) -> tuple[int, list[str]]:
    """Answer on a study and store the results; return how many results there are, and why images were left out.

    All are sent at once, after the last image is answered: a study has all of its results or none.

    Raises:
        GlintError: Something failed; nothing of the study may be taken as done.
    """
    left: list[str] = []
    written = [
        data for _, results in answer_study(archive, study, question, left) for data in results.values()
    ]
    archive.store(written)
    return len(written), left


def _answer_image(archive: Archive, image: Image, question: Question) -> Answered | None:
    """Fetch one image and answer; None for a CT series that turns out to be no volume."""
    with scratch() as folder:
        if image.is_scan:
            _fetch_slices(archive, image, folder)
            return _answer_scan(folder, question)
        path = folder / "image.dcm"
        archive.fetch(image.instances[0], path)
        assert question.ask is not None  # noqa: S101 - `select` chose no radiograph otherwise
        answers = question.ask(path)
        headers = source_headers(answers, question.options)
        written = dicom_results(answers, headers, question.options, digest=question.digest)
    return replace(answers, image=alias(str(headers[0].StudyInstanceUID))), written


def _answer_scan(folder: Path, question: Question) -> Answered | None:
    # The child looks first: headers are read in this process, and only those of files that it could read.
    found = read_contents(folder)
    if found.damaged:
        raise DataError(**found.damaged[0])
    if not any(item.reader == "volume" for item in found.items):
        return None
    # Before the model is asked: a scan that no result can lie on need not be.
    headers = scan_headers(folder, question.options)
    assert question.ask_scan is not None  # noqa: S101 - `select` chose no CT otherwise
    answers = question.ask_scan(folder)
    written = scan_results(answers, headers, question.options, digest=question.scan_digest)
    return replace(answers, image=alias(str(headers[0].StudyInstanceUID))), written


def _fetch_slices(archive: Archive, image: Image, folder: Path) -> None:
    size = 0
    for n, instance in enumerate(image.instances):
        path = folder / f"{n:05d}.dcm"
        archive.fetch(instance, path)
        size += path.stat().st_size
        if size > MAX_SCAN_BYTES:
            raise DataError("a CT series is too large", expected=f"at most {MAX_SCAN_BYTES >> 20} MiB")
