"""`glint demo`: a phantom X-ray never seen in training, a real radiograph, a real CT, and a short training run."""

import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from glint.cli.demo_ct import scan_section
from glint.cli.predict import DEFAULT_MODEL, ModelName
from glint.cli.show import show

if TYPE_CHECKING:
    from glint.api import Glint
    from glint.infer.page import ScanSection, Section
    from glint.results import Answers

TITLE = "GLINT demo: from a sentence to a mask"
TRAIN_STUDIES, VAL_STUDIES, TRAIN_SIZE_PX = 112, 16, 96
TRAIN_SETTINGS = ("train.steps=120", "train.log_every=10", "train.val_every=40", "train.save_every=120")

Losses = list[tuple[int, float]]


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the page and the pictures.")] = Path("demo"),
    model: ModelName = DEFAULT_MODEL,
    training: Annotated[bool, typer.Option(help="End with a short training run.")] = True,
) -> None:
    """Query a new phantom X-ray, a real radiograph and a real CT, write one HTML page, then train for a minute."""
    from glint.api import load
    from glint.infer.examples import real_radiograph
    from glint.infer.page import render_page
    from glint.io.files import make_folder, write_output

    start = time.monotonic()
    real = real_radiograph()  # first: a missing package should not cost a minute
    loaded = load(model)
    make_folder(out)
    sections: list[Section | ScanSection] = [_phantom(loaded, out), _real(loaded, real, out)]
    scan = scan_section(out)
    sections += [scan] if scan else []
    page = out / "index.html"

    def write(losses: Losses) -> None:
        html = render_page(TITLE, sections, losses)
        write_output(page, lambda part: part.write_text(html, encoding="utf-8"))

    write([])
    _say(f"\nThe page is there: {page}")
    if training:
        losses = _train(out)
        write(losses)
        _say(
            f"Loss {losses[0][1]:.3f} -> {losses[-1][1]:.3f} in {losses[-1][0]} steps; the curve is on the page."
        )
    _say(f"Demo done in {time.monotonic() - start:.0f} s. Open {page} in a browser.")


def _phantom(model: "Glint", out: Path) -> "Section":
    from glint.infer.examples import phantom_example
    from glint.infer.page import Section, hit
    from glint.io.picture import overlay, write_picture

    _say("(a) A phantom X-ray: a new patient that no training split contains")
    example = phantom_example(out)
    answers = _segmented(model, example.image, [question.query for question in example.questions])
    show(answers)
    for answer, question in zip(answers, example.questions, strict=True):
        inside = hit(answer, question)
        verdict = f", point in the finding: {inside}" if inside else ""
        typer.echo(f"  truth: {question.truth:<22} {answer.query}{verdict}")
    panels = [
        answer.panel(question.mask) for answer, question in zip(answers, example.questions, strict=True)
    ]
    write_picture(out / "phantom.png", overlay(answers.radiograph.pixels, panels))
    answers.save(out / "phantom.json")
    text = "Computed radiograph of a new deformation of the CT, with inserted findings; the truth is known exactly."
    return Section("(a) A phantom X-ray", text, answers, example.questions, example.report)


def _real(model: "Glint", path: Path, out: Path) -> "Section":
    from glint.infer.examples import RG1_QUERIES
    from glint.infer.page import Section
    from glint.io.picture import overlay, write_picture

    _say("\n(b) A real chest radiograph: RG1 of pydicom-data")
    answers = _segmented(model, path, RG1_QUERIES)
    show(answers)
    panels = [answer.panel() for answer in answers]
    write_picture(out / "radiograph.png", overlay(answers.radiograph.pixels, panels, max_side_px=1024))
    answers.save(out / "radiograph.json")
    text = (
        "RG1 of pydicom-data (NEMA WG-4 sample): many rounded masses on both sides are visible; there is no report. "
        "The model has never seen a real radiograph: this shows that the software runs, not that the answer is right."
    )
    return Section("(b) A real radiograph", text, answers)


def _segmented(model: "Glint", image: Path, queries: Sequence[str]) -> "Answers":
    """Ask a model of X-rays."""
    return cast("Answers", model.segment(image, queries))


def _train(out: Path) -> Losses:
    """Make a tiny data set, train a tiny model on it, keep the log only; return its losses."""
    from glint.config import load_config
    from glint.io.files import write_output
    from glint.phantom.generate import generate
    from glint.train.log import counter
    from glint.train.loop import train

    _say(f"\nA short training run: {TRAIN_STUDIES} new phantom studies, a tiny model, about a minute")
    with tempfile.TemporaryDirectory(prefix="glint-demo-") as folder:
        data, run = Path(folder) / "data", Path(folder) / "run"
        manifest = generate(
            data,
            train=TRAIN_STUDIES,
            val=VAL_STUDIES,
            test=0,
            seed=1,
            workers=min(2, os.cpu_count() or 1),
            size_px=TRAIN_SIZE_PX,
            progress=counter("studies"),
        )
        train(load_config("smoke", [f"data.manifest={manifest}", f"train.out={run}", *TRAIN_SETTINGS]))
        log = (run / "log.jsonl").read_text(encoding="utf-8")
    write_output(out / "training-log.jsonl", lambda part: part.write_text(log, encoding="utf-8"))
    lines = [json.loads(line) for line in log.splitlines()]
    return [(int(line["step"]), float(line["loss"])) for line in lines if "loss" in line]


def _say(text: str) -> None:
    typer.echo(text, err=True)
