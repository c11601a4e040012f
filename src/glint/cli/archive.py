"""`glint watch`, and `glint segment dicomweb://...`: images from a DICOMweb archive, results back into it."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from glint.cli.dicom import SegType, Words

if TYPE_CHECKING:
    from glint.archive.answers import DicomOptions
    from glint.archive.studies import Question
    from glint.results import Answers

DEFAULT_MODEL = "glint-cxr-phantom"


def watch(
    archive: Annotated[
        str, typer.Argument(metavar="URL", help="dicomweb://HOST[:PORT]/PATH of the archive.")
    ],
    query: Annotated[
        list[str], typer.Option("--query", "-q", metavar="TEXT", help="What to ask of each study.")
    ],
    out: Annotated[Path, typer.Option(metavar="JOURNAL", help="File that remembers which studies are done.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Packaged model, or a folder.")] = DEFAULT_MODEL,
    threshold: Annotated[float, typer.Option(help="Mask = map > threshold.")] = 0.5,
    device: Annotated[str, typer.Option(help="Torch device: cpu or cuda.")] = "cpu",
    seg_type: SegType = "binary",
    every: Annotated[float, typer.Option(metavar="SECONDS", help="Pause between polls.")] = 30.0,
    polls: Annotated[int, typer.Option(metavar="N", help="End after N polls; 0: never.")] = 0,
    since: Annotated[str, typer.Option(metavar="YYYYMMDD", help="Leave out older studies.")] = "",
) -> None:
    """Answer each new X-ray study of an archive once and store the results there; runs until it is ended."""
    from glint.archive.address import parse_address
    from glint.errors import UsageError

    address = parse_address(archive)
    options = Words(None, seg_type, deidentify=False, store=True).options()
    if (
        address.study
        or not 0 < every <= 86_400
        or polls < 0
        or (since and not (since.isdigit() and len(since) == 8))
    ):
        raise UsageError(
            "the watch cannot be understood", expected="an archive, --every > 0, --since YYYYMMDD"
        )
    from glint.archive.client import Archive
    from glint.archive.journal import Journal
    from glint.archive.watch import watch as watch_archive

    client = Archive(address)
    question = _question(query, model, threshold, device, options)
    task = {"archive": address.url, "queries": query, "model": question.digest, "threshold": threshold}
    journal = Journal(out, task | {"seg_type": seg_type})
    try:
        watch_archive(client, journal, question, every_s=every, polls=polls, since=since, tell=_tell)
    finally:
        journal.close()


def segment_archive(
    image: Path, query: list[str], model: str, device: str, threshold: float, words: Words, *, as_json: bool
) -> None:
    """Answer on all radiographs of a study or series; see `glint segment`.

    Raises:
        GlintError: Bad words, an archive that fails, or a study that cannot be used.
    """
    from glint.archive.address import EXPECTED, parse_address
    from glint.errors import UsageError

    address = parse_address(image)
    if not address.study:
        raise UsageError("the address names no study", where=str(image), expected=EXPECTED)
    if words.store and words.deidentify:
        raise UsageError(
            "de-identified results cannot be stored in the archive: they would belong to no patient of it",
            fix="leave out --store or --deidentify",
        )
    options = words.options()
    from glint.archive.client import Archive
    from glint.archive.studies import answer_image, radiographs
    from glint.cli.show import show
    from glint.io.dicom_out.write import write_results

    archive = Archive(address)
    question = _question(query, model, threshold, device, options)
    found = [
        answer_image(archive, item, question) for item in radiographs(archive, address.study, address.series)
    ]
    for _, results in found:
        for path in write_results(words.dicom_out, results) if words.dicom_out else ():
            _tell(f"wrote {path}")
    if words.store:
        archive.store([data for _, results in found for data in results.values()])
        _tell(f"stored {sum(len(results) for _, results in found)} results")
    if as_json:
        typer.echo(json.dumps([answers.to_dict() for answers, _ in found], indent=2))
        return
    for answers, _ in found:
        show(answers)


def _question(
    query: list[str], model: str, threshold: float, device: str, options: "DicomOptions"
) -> "Question":
    """Load the model and return what is asked of each image."""
    from glint.api import load
    from glint.archive.studies import Question
    from glint.infer.predict import check_queries, check_threshold
    from glint.io.untrusted import read_radiograph
    from glint.model.folder import model_digest

    texts = check_queries(query)
    check_threshold(threshold)
    loaded, digest = load(model, device=device), model_digest(model)

    def ask(path: Path) -> "Answers":
        return cast("Answers", loaded.segment(read_radiograph(path), texts, threshold=threshold))

    return Question(ask, digest, options)


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
