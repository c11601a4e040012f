"""`glint watch`, and `glint segment dicomweb://...`: images from a DICOMweb archive, results back into it."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from glint.cli.dicom import SegType, Words

if TYPE_CHECKING:
    from glint.archive.address import Address
    from glint.archive.answers import DicomOptions
    from glint.archive.studies import Question
    from glint.results import Answers
    from glint.volume_results import VolumeAnswers

DEFAULT_MODEL = "glint-cxr-phantom"


@dataclass(frozen=True)
class Asked:
    """What is asked of an archive.

    Attributes:
        queries: As given.
        model: Of radiographs, or "".
        ct_model: Of CT, or "".
        device: Torch device.
        options: Those of glint.infer.volume.VolumeOptions.
        add_hu: As `--add-hu`.
    """

    queries: list[str]
    model: str
    ct_model: str
    device: str
    options: dict[str, Any]
    add_hu: float = 0.0


def watch(
    archive: Annotated[
        str, typer.Argument(metavar="URL", help="dicomweb://HOST[:PORT]/PATH of the archive.")
    ],
    query: Annotated[
        list[str], typer.Option("--query", "-q", metavar="TEXT", help="What to ask of each study.")
    ],
    out: Annotated[Path, typer.Option(metavar="JOURNAL", help="File that remembers which studies are done.")],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="For radiographs: packaged model, or a folder.",
            show_default=f"{DEFAULT_MODEL}; none with --ct-model alone",
        ),
    ] = "",
    ct_model: Annotated[
        str, typer.Option(help="For CT: packaged model, or a folder.", show_default="none")
    ] = "",
    threshold: Annotated[float, typer.Option(help="Mask = map > threshold.")] = 0.5,
    device: Annotated[str, typer.Option(help="Torch device: cpu or cuda.")] = "cpu",
    seg_type: SegType = "binary",
    every: Annotated[float, typer.Option(metavar="SECONDS", help="Pause between polls.")] = 30.0,
    polls: Annotated[int, typer.Option(metavar="N", help="End after N polls; 0: never.")] = 0,
    since: Annotated[str, typer.Option(metavar="YYYYMMDD", help="Leave out older studies.")] = "",
) -> None:
    """Answer each new study of an archive once and store the results there; runs until it is ended.

    X-rays need a model of X-rays, CT one of CT; a study without a model for it is noted and left.
    """
    address = _check_watch(archive, every, polls, since)
    options = Words(None, seg_type, deidentify=False, store=True).options()
    from glint.archive.client import Archive
    from glint.archive.journal import Journal
    from glint.archive.scratch import sweep
    from glint.archive.watch import watch as watch_archive

    client = Archive(address)
    model = model or ("" if ct_model else DEFAULT_MODEL)
    question = _question(Asked(query, model, ct_model, device, {"threshold": threshold}), options)
    task = {"archive": address.url, "queries": query, "threshold": threshold, "seg_type": seg_type}
    journal = Journal(out, task | {"model": question.digest, "ct_model": question.scan_digest})
    sweep()
    try:
        watch_archive(client, journal, question, every_s=every, polls=polls, since=since, tell=_tell)
    finally:
        journal.close()


def _check_watch(archive: str, every: float, polls: int, since: str) -> "Address":
    from glint.archive.address import parse_address
    from glint.errors import UsageError

    address = parse_address(archive)
    is_date = not since or (since.isdigit() and len(since) == 8)
    if address.study or not 0 < every <= 86_400 or polls < 0 or not is_date:
        raise UsageError(
            "the watch cannot be understood", expected="an archive, --every > 0, --since YYYYMMDD"
        )
    return address


def segment_archive(image: Path, asked: Asked, words: Words, *, as_json: bool) -> None:
    """Answer on all radiographs and CT of a study or series; see `glint segment`.

    Args:
        image: The address.
        asked: `model` is of whatever kind; without one, each kind of image has its packaged model, if there is one.
        words: How results are written.
        as_json: Print JSON instead of tables.

    Raises:
        GlintError: Bad words, an archive that fails, or a study that cannot be used.
    """
    address = _check_study(image, words)
    options = words.options()
    from glint.archive.client import Archive
    from glint.archive.studies import answer_study
    from glint.cli.show import show
    from glint.io.dicom_out.write import Results, write_results

    archive = Archive(address)
    question = _question(_by_kind(asked), options)
    found: list[Results] = []
    documents: list[dict[str, Any]] = []
    left: list[str] = []
    for answers, results in answer_study(archive, address.study, question, left, series=address.series):
        # A scan is large: only what is printed and written is kept of its answers.
        found.append(results)
        if as_json:
            documents.append(answers.to_dict())
        else:
            show(answers)
    for results in found:
        for path in write_results(words.dicom_out, results) if words.dicom_out else ():
            _tell(f"wrote {path}")
    if words.store:
        archive.store([data for results in found for data in results.values()])
        _tell(f"stored {sum(map(len, found))} results")
    for reason in left:
        _tell(f"note: left out: {reason}")
    if as_json:
        typer.echo(json.dumps(documents, indent=2))


def _check_study(image: Path, words: Words) -> "Address":
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
    return address


def _by_kind(asked: Asked) -> Asked:
    """Return the models for radiographs and for CT, of which the command line names one or none."""
    from glint.api import DEFAULT_CT_MODEL
    from glint.model.folder import packaged_models, reads_volumes

    if not asked.model:
        packaged = DEFAULT_CT_MODEL if DEFAULT_CT_MODEL in packaged_models() else ""
        return replace(asked, model=DEFAULT_MODEL, ct_model=packaged)
    if reads_volumes(asked.model):
        return replace(asked, model="", ct_model=asked.model)
    return asked


def _question(asked: Asked, written: "DicomOptions") -> "Question":
    """Load the models and return what is asked of each image.

    Raises:
        UsageError: Bad queries or options, no such model, or one for another kind of image.
    """
    from glint.archive.studies import Question
    from glint.errors import UsageError
    from glint.infer.predict import check_queries
    from glint.infer.volume import VolumeOptions
    from glint.io.untrusted import read_radiograph, read_volume

    texts = check_queries(asked.queries)
    options = VolumeOptions(**asked.options)
    options.check()
    if not asked.ct_model and (asked.add_hu or options != VolumeOptions(options.threshold)):
        raise UsageError("options of CT volumes were given without a model of CT", fix="leave them out")
    plain, digest = _load(asked.model, asked.device, volumes=False)
    scans, scan_digest = _load(asked.ct_model, asked.device, volumes=True)

    def ask(path: Path) -> "Answers":
        found = plain.segment(read_radiograph(path), texts, threshold=options.threshold)
        return cast("Answers", found)

    def ask_scan(folder: Path) -> "VolumeAnswers":
        volume = read_volume(folder, add_hu=asked.add_hu)
        return cast("VolumeAnswers", scans.segment(volume, texts, **asked.options))

    return Question(ask if plain else None, digest, written, ask_scan if scans else None, scan_digest)


def _load(name: str, device: str, *, volumes: bool) -> "tuple[Any, str]":
    """Return a model and its digest; nothing for no name."""
    from glint.api import load
    from glint.errors import UsageError
    from glint.model.folder import model_digest

    if not name:
        return None, ""
    loaded = load(name, device=device)
    if loaded.reads_volumes != volumes:
        given, wanted, option = ("CT", "radiographs", "--ct-model")
        if volumes:
            given, wanted, option = ("radiographs", "CT", "--model")
        raise UsageError(
            f"a model of {given} was given for {wanted}", where=name, fix=f"name it with {option}"
        )
    return loaded, model_digest(name)


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
