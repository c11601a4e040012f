"""One study of an archive: its radiographs fetched, asked about, and the results sent back."""

import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from glint.archive.answers import DicomOptions, dicom_results, source_headers
from glint.archive.client import Archive, Instance
from glint.errors import DataError
from glint.io.dicom_out.headers import alias_of
from glint.io.dicom_out.write import Results
from glint.results import Answers

MODALITIES = ("CR", "DX")
MAX_IMAGES = 100
"""Radiographs of one study; more is no study of one patient."""


@dataclass(frozen=True)
class Question:
    """What is asked of every image.

    Attributes:
        ask: Answers the queries on an image file.
        digest: What tells the model from others of its name.
        options: How results are written.
    """

    ask: Callable[[Path], Answers]
    digest: str
    options: DicomOptions


def radiographs(archive: Archive, study: str, series: str = "") -> list[Instance]:
    """Return the radiographs of a study, in a fixed order.

    Raises:
        ArchiveError: The archive fails.
        DataError: There is none, or there are too many.
    """
    found = [item for item in archive.instances(study, series) if item.modality in MODALITIES]
    if not found:
        raise DataError("the study holds no radiograph", expected=f"modality {' or '.join(MODALITIES)}")
    if len(found) > MAX_IMAGES:
        raise DataError(f"the study holds {len(found)} radiographs", expected=f"at most {MAX_IMAGES}")
    return sorted(found, key=lambda item: (item.series, item.uid))


def answer_image(archive: Archive, instance: Instance, question: Question) -> tuple[Answers, Results]:
    """Fetch one image, answer, and return the answers, named by the alias of the study, and the results.

    Raises:
        ArchiveError: The archive fails.
        DataError: The image cannot be used.
    """
    with _folder() as folder:
        path = folder / "image.dcm"
        archive.fetch(instance, path)
        answers = question.ask(path)
        headers = source_headers(answers, question.options)
        written = dicom_results(answers, headers, question.options, digest=question.digest)
    return replace(answers, image=alias_of(headers[0])), written


def process(archive: Archive, study: str, question: Question) -> int:
    """Answer all radiographs of a study and store the results; return how many results there are.

    All are sent at once, after the last image is answered: a study has all of its results or none.

    Raises:
        GlintError: Something failed; nothing of the study may be taken as done.
    """
    found: Sequence[Results] = [
        answer_image(archive, instance, question)[1] for instance in radiographs(archive, study)
    ]
    written = [data for results in found for data in results.values()]
    archive.store(written)
    return len(written)


@contextmanager
def _folder() -> Generator[Path]:
    """Give a folder that only we can read, and that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="glint-") as name:
        yield Path(name)
