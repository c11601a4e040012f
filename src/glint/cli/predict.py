"""`glint classify`, `glint ground`, `glint segment`: one X-ray or one CT, any number of free-text queries."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glint.archive.address import is_archive
from glint.cli import archive
from glint.cli.archive import DEFAULT_MODEL
from glint.cli.dicom import Deidentify, DicomOut, SegType, Store, Words, dicom_output, refuse_files
from glint.cli.show import show

if TYPE_CHECKING:
    from glint.io.radiograph import Radiograph
    from glint.io.volume import Volume
    from glint.results import Answers, Task
    from glint.volume_results import VolumeAnswers

CT = "CT volumes"
NIFTI = (".nii.gz", ".nii")

ImagePath = Annotated[
    Path,
    typer.Argument(
        metavar="IMAGE",
        help="X-ray: a DICOM, PNG or JPEG file. CT: a NIfTI or NRRD file, or DICOM slices. A folder or an archive "
        "(ZIP, tar) may hold either.",
    ),
]
Queries = Annotated[
    list[str] | None, typer.Option("--query", "-q", metavar="TEXT", help="What to ask; may be repeated.")
]
ModelName = Annotated[
    str, typer.Option("--model", "-m", help="Packaged model, or a folder of `glint train`.")
]
AnyModel = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Packaged model, or a folder of `glint train`.",
        show_default="the packaged one for the kind of image",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Png = Annotated[
    Path | None,
    typer.Option(
        "--png", metavar="OUT.png", help="Write an overlay; of a CT, three planes through each point."
    ),
]
Threshold = Annotated[float, typer.Option(help="Mask = map > threshold.")]
Device = Annotated[str, typer.Option(help="Torch device: cpu or cuda.")]
Refine = Annotated[
    str, typer.Option(help="guided gives masks the edges of the CT; none.", rich_help_panel=CT)
]
MinMl = Annotated[
    float, typer.Option(help="Drop connected parts of masks smaller than this.", rich_help_panel=CT)
]
Overlap = Annotated[
    float, typer.Option(help="Of sliding windows, as a share of their side.", rich_help_panel=CT)
]
Series = Annotated[
    str,
    typer.Option(
        help="Which series of a folder or archive: its number, alias or UID (glint check lists them)."
    ),
]
FillGaps = Annotated[
    bool, typer.Option("--fill-gaps", help="Interpolate missing DICOM slices.", rich_help_panel=CT)
]
AddHu = Annotated[
    float, typer.Option(help="Added to all values of a scan that is known to be shifted.", rich_help_panel=CT)
]


@dataclass(frozen=True)
class Asked:
    """What a command line asks for, the same for all verbs."""

    image: Path
    queries: list[str]
    model: str
    device: str
    as_json: bool
    png: Path | None
    reading: dict[str, Any]
    options: dict[str, Any]
    mask: Path | None = None
    heat: Path | None = None


def classify(
    image: ImagePath,
    query: Queries = None,
    model: AnyModel = "",
    as_json: AsJson = False,
    png: Png = None,
    device: Device = "cpu",
    overlap: Overlap = 0.5,
    series: Series = "",
    fill_gaps: FillGaps = False,
    add_hu: AddHu = 0.0,
) -> None:
    """Score texts on an X-ray or a CT: how well does the image fit each one?"""
    reading = {"series": series, "fill_gaps": fill_gaps, "add_hu": add_hu}
    _answer("classify", Asked(image, query or [], model, device, as_json, png, reading, {"overlap": overlap}))


def ground(
    image: ImagePath,
    query: Queries = None,
    model: AnyModel = "",
    as_json: AsJson = False,
    png: Png = None,
    threshold: Threshold = 0.5,
    device: Device = "cpu",
    refine: Refine = "none",
    min_ml: MinMl = 0.05,
    overlap: Overlap = 0.5,
    series: Series = "",
    fill_gaps: FillGaps = False,
    add_hu: AddHu = 0.0,
) -> None:
    """Score texts and point at what they speak of: point and box, in pixels of an X-ray or millimetres of a CT."""
    reading = {"series": series, "fill_gaps": fill_gaps, "add_hu": add_hu}
    options = {"threshold": threshold, "refine": refine, "min_ml": min_ml, "overlap": overlap}
    _answer("ground", Asked(image, query or [], model, device, as_json, png, reading, options))


def segment(
    image: ImagePath,
    query: Queries = None,
    model: AnyModel = "",
    as_json: AsJson = False,
    png: Png = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="MASK",
            help="Write the mask: .png, 0 or 255, of an X-ray; .nii.gz, 0 or 1, of a CT. With several queries a file "
            "each, numbered: MASK-1, MASK-2 ... (masks may overlap).",
        ),
    ] = None,
    threshold: Threshold = 0.5,
    device: Device = "cpu",
    heat: Annotated[
        Path | None,
        typer.Option(metavar="HEAT.nii.gz", help="Write the map, numbered like masks.", rich_help_panel=CT),
    ] = None,
    refine: Refine = "none",
    min_ml: MinMl = 0.05,
    overlap: Overlap = 0.5,
    series: Series = "",
    fill_gaps: FillGaps = False,
    add_hu: AddHu = 0.0,
    dicom_out: DicomOut = None,
    seg_type: SegType = "binary",
    deidentify: Deidentify = False,
    store: Store = False,
) -> None:
    """Score texts and outline what they speak of, on the pixel grid of an X-ray or the voxel grid of a CT.

    IMAGE may be the address of a study: dicomweb://HOST[:PORT]/PATH/studies/UID[/series/UID].
    """
    words = Words(dicom_out, seg_type, deidentify, store)
    options = {"threshold": threshold, "refine": refine, "min_ml": min_ml, "overlap": overlap}
    if is_archive(image):
        refuse_files(png or output or heat, series, fill_gaps=fill_gaps)
        wanted = archive.Asked(query or [], model, "", device, options, add_hu)
        archive.segment_archive(image, wanted, words, as_json=as_json)
        return
    write_dicom = dicom_output(image, words)
    reading = {"series": series, "fill_gaps": fill_gaps, "add_hu": add_hu}
    asked = Asked(image, query or [], model, device, as_json, png, reading, options, output, heat)
    write_dicom(*_answer("segment", asked))


def _answer(task: "Task", asked: Asked) -> "tuple[Answers | VolumeAnswers, str]":
    """Check everything that can be checked early, then answer, write files, print; return answers and series."""
    from glint.api import DEFAULT_CT_MODEL, check_kind, load
    from glint.infer.predict import check_queries
    from glint.model.folder import reads_volumes

    texts = check_queries(asked.queries)
    volumes = reads_volumes(asked.model) if asked.model else None
    is_volume, series = _kind(asked, volumes)
    asked = replace(asked, reading=asked.reading | {"series": series})
    name = asked.model or (DEFAULT_CT_MODEL if is_volume else DEFAULT_MODEL)
    if volumes is None:
        volumes = reads_volumes(name)
    if volumes is not None:
        check_kind(name, volumes, asked.image)
    masks, heats = (numbered(path, len(texts)) for path in (asked.mask, asked.heat))
    _check_paths(asked, is_volume, masks, heats)
    options = _checked_options(asked, is_volume)
    image = _read(asked, is_volume=is_volume if volumes is None else volumes)
    answers = getattr(load(name, device=asked.device), task)(image, texts, **options)
    written = [
        *((path, answer.save) for path, answer in zip(masks, answers, strict=False)),
        *((path, answer.save_heat) for path, answer in zip(heats, answers, strict=False)),
        *([(asked.png, answers.save)] if asked.png else []),
    ]
    for path, save in written:
        save(path)
    if asked.as_json:
        typer.echo(json.dumps(answers.to_dict(), indent=2))
    else:
        show(answers)
    for path, _ in written:
        sys.stderr.write(f"wrote {path}\n")
    return answers, series


def _kind(asked: Asked, volumes: bool | None) -> tuple[bool, str]:
    """Say whether the image is a CT, and which series of a folder or an archive is meant, "" for a file."""
    from glint.errors import UsageError
    from glint.io.contents import Reader
    from glint.io.kind import kind_of_path
    from glint.io.untrusted import pick_image

    series = str(asked.reading["series"])
    kind = kind_of_path(asked.image)
    if kind != "several":
        if series and kind == "picture":
            raise UsageError("--series is for folders and archives", where=str(asked.image))
        return kind == "volume", series
    readers: list[Reader] = ["radiograph", "volume"]
    if volumes is not None:
        readers = ["volume" if volumes else "radiograph"]
    item = pick_image(asked.image, series, readers)
    return item.reader == "volume", str(item.number)


def _read(asked: Asked, *, is_volume: bool) -> "Radiograph | Volume":
    from glint.io.untrusted import read_radiograph, read_volume

    if is_volume:
        return read_volume(asked.image, **asked.reading)
    return read_radiograph(asked.image, series=asked.reading["series"])


def _checked_options(asked: Asked, is_volume: bool) -> dict[str, Any]:
    """Refuse bad numbers before anything is read, and options of a CT for an X-ray; return those for the image."""
    from glint.errors import UsageError
    from glint.infer.volume import VolumeOptions

    options = VolumeOptions(**asked.options)
    options.check()
    if is_volume:
        return asked.options
    of_ct = asked.reading["fill_gaps"] or asked.reading["add_hu"] or asked.heat
    if of_ct or options != VolumeOptions(options.threshold):
        raise UsageError(
            "options of CT volumes were given for an X-ray",
            where=str(asked.image),
            fix="leave out --heat, --refine, --min-ml, --overlap, --fill-gaps and --add-hu",
        )
    return {name: value for name, value in asked.options.items() if name == "threshold"}


def _check_paths(asked: Asked, is_volume: bool, masks: Sequence[Path], heats: Sequence[Path]) -> None:
    """Refuse output paths that cannot work, or that are the same."""
    from glint.errors import UsageError
    from glint.io.files import check_output

    for path in masks:
        check_output(path, NIFTI if is_volume else ".png", asked.image)
    for path in heats:
        check_output(path, NIFTI, asked.image)
    if asked.png is not None:
        check_output(asked.png, ".png", asked.image)
    paths = [*masks, *heats, *([asked.png] if asked.png else [])]
    twice = [path for path in paths if paths.count(path) > 1]
    if twice:
        raise UsageError("two outputs have the same file name", where=str(twice[0]), fix="choose another one")


def numbered(output: Path | None, count: int) -> list[Path]:
    """Return one path a query: the given one, or numbered ones when there are several queries."""
    if output is None:
        return []
    if count == 1:
        return [output]
    ending = next((e for e in NIFTI if output.name.lower().endswith(e)), output.suffix)
    stem = output.name[: len(output.name) - len(ending)]
    ending = output.name[len(stem) :]
    return [output.with_name(f"{stem}-{number}{ending}") for number in range(1, count + 1)]
