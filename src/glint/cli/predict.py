"""`glint classify`, `glint ground`, `glint segment`: one image, any number of free-text queries."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glint.archive.address import is_archive
from glint.cli.archive import segment_archive
from glint.cli.dicom import Deidentify, DicomOut, SegType, Store, Words, dicom_output, refuse_files

if TYPE_CHECKING:
    from glint.results import Answers, Task

ImagePath = Annotated[Path, typer.Argument(metavar="IMAGE", help="DICOM, PNG or JPEG file.")]
Queries = Annotated[
    list[str] | None, typer.Option("--query", "-q", metavar="TEXT", help="What to ask; may be repeated.")
]
ModelName = Annotated[
    str, typer.Option("--model", "-m", help="Packaged model, or a folder of `glint train`.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Png = Annotated[Path | None, typer.Option("--png", metavar="OUT.png", help="Write an overlay picture.")]
Threshold = Annotated[float, typer.Option(help="Mask = map > threshold.")]
Device = Annotated[str, typer.Option(help="Torch device: cpu or cuda.")]
DEFAULT_MODEL = "glint-cxr-phantom"


def classify(
    image: ImagePath,
    query: Queries = None,
    model: ModelName = DEFAULT_MODEL,
    as_json: AsJson = False,
    png: Png = None,
    device: Device = "cpu",
) -> None:
    """Score texts on an X-ray: how well does the image fit each one?"""
    _answer("classify", image, query, model, device, as_json, png, None, 0.5)


def ground(
    image: ImagePath,
    query: Queries = None,
    model: ModelName = DEFAULT_MODEL,
    as_json: AsJson = False,
    png: Png = None,
    threshold: Threshold = 0.5,
    device: Device = "cpu",
) -> None:
    """Score texts and point at what they speak of: point and box in pixels of the file."""
    _answer("ground", image, query, model, device, as_json, png, None, threshold)


def segment(
    image: ImagePath,
    query: Queries = None,
    model: ModelName = DEFAULT_MODEL,
    as_json: AsJson = False,
    png: Png = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="MASK.png",
            help="Write the mask, 0 or 255; with several queries MASK-1.png, MASK-2.png ...",
        ),
    ] = None,
    threshold: Threshold = 0.5,
    device: Device = "cpu",
    dicom_out: DicomOut = None,
    seg_type: SegType = "binary",
    deidentify: Deidentify = False,
    store: Store = False,
) -> None:
    """Score texts and outline what they speak of: point, box and mask on the pixel grid of the file.

    IMAGE may be the address of a study: dicomweb://HOST[:PORT]/PATH/studies/UID[/series/UID].
    """
    words = Words(dicom_out, seg_type, deidentify, store)
    if is_archive(image):
        refuse_files(png, output)
        segment_archive(image, query or [], model, device, threshold, words, as_json=as_json)
        return
    dicom = dicom_output(image, words, model)
    answers = _answer("segment", image, query, model, device, as_json, png, output, threshold)
    dicom(answers)


def _answer(
    task: "Task",
    image: Path,
    query: list[str] | None,
    model: str,
    device: str,
    as_json: bool,
    png: Path | None,
    output: Path | None,
    threshold: float,
) -> "Answers":
    """Check everything that can be checked early, then answer, write files, print."""
    from glint.api import load
    from glint.infer.predict import check_queries, check_threshold
    from glint.io.files import check_output
    from glint.io.radiograph import read_radiograph

    texts = check_queries(query or [])
    check_threshold(threshold)
    masks = mask_paths(output, len(texts))
    for path in [*([png] if png else []), *masks]:
        check_output(path, ".png", image)
    if png in masks:
        from glint.errors import UsageError

        raise UsageError("overlay and mask have the same file name", where=str(png), fix="choose another one")
    radiograph = read_radiograph(image)
    answers = getattr(load(model, device=device), task)(
        radiograph, texts, **({} if task == "classify" else {"threshold": threshold})
    )
    for answer, path in zip(answers, masks, strict=False):
        answer.save(path)
    if png is not None:
        answers.save(png)
    if as_json:
        typer.echo(json.dumps(answers.to_dict(), indent=2))
    else:
        show(answers)
    for path in [*masks, *([png] if png else [])]:
        sys.stderr.write(f"wrote {path}\n")
    return answers


def mask_paths(output: Path | None, count: int) -> list[Path]:
    """Return one mask path a query: the given one, or numbered ones when there are several queries."""
    if output is None:
        return []
    if count == 1:
        return [output]
    return [output.with_name(f"{output.stem}-{number}{output.suffix}") for number in range(1, count + 1)]


def show(answers: "Answers") -> None:
    """Print answers as a table, notes on stderr."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table("query", title=Text(f"{answers.image}  ({answers.model})"), title_justify="left")
    table.add_column("score", justify="right")
    located = answers.task != "classify"
    if located:
        table.add_column("point [x, y]", justify="right")
        table.add_column("box [x0, y0, x1, y1]", justify="right")
        table.add_column("mask px", justify="right")
    for answer in answers:
        row = [Text(answer.query), f"{answer.score:.3f}"]
        if located:
            box = answer.box_xyxy_px
            row += [
                ", ".join(map(str, answer.point_px or ())),
                "-" if box is None else ", ".join(map(str, box)),
                f"{answer.mask_area_px:,}",
            ]
        table.add_row(*row)
    console.print(table)
    for note in answers.radiograph.notes:
        sys.stderr.write(f"note: {note}\n")
