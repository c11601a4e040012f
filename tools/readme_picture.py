"""Draw the picture of the README: the first test study with each of eight findings, whatever the model says of it.

    python tools/readme_picture.py data/phantom-cxr docs/images/demo.png

Green: truth; red: the mask of the packaged model at 0.5; yellow cross: its point.
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw

from glint.atomic import write_whole
from glint.eval.cases import class_queries, read_cases
from glint.eval.examples import draw
from glint.model.folder import load_model

KINDS = (
    *("pneumothorax", "pleural_effusion", "consolidation", "ground_glass"),
    *("cardiomegaly", "mass", "hilar_enlargement", "pacemaker"),
)
TILE, CAPTION, GAP, PER_ROW = 320, 26, 8, 4


def main(data: Path, target: Path) -> None:
    """Draw and write the picture."""
    model, cases = load_model("glint-cxr-phantom"), read_cases(data, "test")
    rows = -(-len(KINDS) // PER_ROW)
    sheet = Image.new("RGB", (PER_ROW * (TILE + GAP) - GAP, rows * (TILE + CAPTION + GAP) - GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for number, kind in enumerate(KINDS):
        case = next(c for c in cases if any(f.finding.kind == kind for f in c.findings))
        left, top = (number % PER_ROW) * (TILE + GAP), (number // PER_ROW) * (TILE + CAPTION + GAP)
        pen.text((left + 2, top + 5), class_queries(kind, "train")[0], fill="black", font_size=14)
        sheet.paste(
            draw(model, case, kind).resize((TILE, TILE), Image.Resampling.LANCZOS), (left, top + CAPTION)
        )
    write_whole(target, lambda part: sheet.save(part, optimize=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
