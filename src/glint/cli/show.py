"""Answers as a table on stdout, notes on stderr."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glint.results import Answer, Answers
    from glint.volume_results import VolumeAnswer, VolumeAnswers

PIXELS = ("point [x, y]", "box [x0, y0, x1, y1]", "mask px")
MILLIMETRES = ("point LPS mm", "box LPS mm", "ml", "side")


def show(answers: "Answers | VolumeAnswers") -> None:
    """Print answers as a table, notes on stderr."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from glint.results import Answers

    if isinstance(answers, Answers):
        titles, cells, notes = PIXELS, [_in_pixels(a) for a in answers], answers.radiograph.notes
    else:
        titles, cells, notes = MILLIMETRES, [_in_mm(a) for a in answers], answers.notes
    located = answers.task != "classify"
    table = Table("query", title=Text(f"{answers.image}  ({answers.model})"), title_justify="left")
    table.add_column("score", justify="right")
    for title in titles if located else ():
        table.add_column(title, justify="right")
    for answer, row in zip(answers, cells, strict=True):
        table.add_row(Text(answer.query), f"{answer.score:.3f}", *(row if located else ()))
    Console().print(table)
    for note in notes:
        sys.stderr.write(f"note: {note}\n")


def _in_pixels(answer: "Answer") -> tuple[str, ...]:
    box = answer.box_xyxy_px
    return (
        ", ".join(map(str, answer.point_px or ())),
        "-" if box is None else ", ".join(map(str, box)),
        f"{answer.mask_area_px or 0:,}",
    )


def _in_mm(answer: "VolumeAnswer") -> tuple[str, ...]:
    box = answer.box_lps_mm
    return (
        ", ".join(f"{mm:.0f}" for mm in answer.point_lps_mm or ()),
        "-" if box is None else ", ".join(f"{mm:.0f}" for mm in box),
        f"{answer.volume_ml or 0:,.1f}",
        answer.laterality or "-",
    )
