"""Pictures of single answers: truth outlined green, prediction outlined red, point of inference as a yellow cross."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion

from glint.config.volume import CHEST_HU
from glint.eval.cases import Case, class_queries, union_mask
from glint.eval.metrics import FIXED, THRESHOLDS
from glint.eval.subject import Mask
from glint.eval.tracks import Evaluated
from glint.eval.views import Predictor, look
from glint.io.ct import windowed
from glint.io.radiograph import read_radiograph
from glint.io.volume import read_volume

TILE = 224
CAPTION = 26
PER_ROW = 4
ROWS = ("best", "median", "worst")
GREEN, RED, YELLOW, WHITE = (60, 220, 90), (240, 60, 60), (255, 220, 0), (255, 255, 255)


def contact_sheet(result: Evaluated, cases: Sequence[Case]) -> Image.Image:
    """Return the best, median and worst answers to headline queries by Dice at 0.5, a row each."""
    sheet = Image.new("RGB", (PER_ROW * TILE, len(ROWS) * (TILE + CAPTION)))
    for row, (title, chosen) in enumerate(choose(result).items()):
        for column, (case, kind, dice) in enumerate(chosen):
            picture = draw(result.model, cases[case], result.test.kinds[kind])
            caption = f"{title}: {result.test.kinds[kind].replace('_', ' ')}\n{cases[case].study_id}, Dice {dice:.2f}"
            at = (column * TILE, row * (TILE + CAPTION))
            sheet.paste(picture.resize((TILE, TILE)), (at[0], at[1] + CAPTION))
            ImageDraw.Draw(sheet).multiline_text(
                (at[0] + 3, at[1] + 1), caption, fill=WHITE, font_size=10, spacing=1
            )
    return sheet


def choose(result: Evaluated) -> dict[str, list[tuple[int, int, float]]]:
    """Return row title -> (case, kind, Dice), each row from different kinds where there are enough."""
    dice = result.test.answers["train"].dice[:, :, FIXED]
    found = [(int(n), int(k), float(dice[n, k])) for n, k in np.argwhere(~np.isnan(dice))]
    ranked = sorted(found, key=lambda entry: -entry[2])
    if not ranked:
        return {}
    middle = ranked[len(ranked) // 2][2]
    orders = (ranked, sorted(ranked, key=lambda entry: abs(entry[2] - middle)), ranked[::-1])
    return {title: _varied(order) for title, order in zip(ROWS, orders, strict=True)}


def _varied(order: Sequence[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
    """Return the first entries of distinct kinds."""
    first: dict[int, tuple[int, int, float]] = {}
    for entry in order:
        first.setdefault(entry[1], entry)
    return list(first.values())[:PER_ROW]


def draw(model: Predictor, case: Case, kind: str) -> Image.Image:
    """Return the radiograph, or the axial slice through the point, with truth, prediction and point of a kind's
    headline query.
    """
    (view,) = look(model, [case], list(class_queries(kind, "train", case.subject)), THRESHOLDS[FIXED])
    values, point = view.native(view.maps[[0]])[0], view.point(0)
    truth = union_mask(case, kind)
    if case.subject.volumes:
        slice_px, point = point[0], point[1:]
        values, truth = values[slice_px], None if truth is None else truth[slice_px]
        grey = windowed(read_volume(case.image).hu[slice_px], [CHEST_HU])[0]
    else:
        grey = read_radiograph(case.image).pixels
    pixels = np.repeat((grey * 255).clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    _outline(pixels, values > THRESHOLDS[FIXED], RED)
    if truth is not None:
        _outline(pixels, truth, GREEN)
    picture = Image.fromarray(pixels)
    row, column = point
    pen, arm = ImageDraw.Draw(picture), max(4, picture.width // 40)
    pen.line((column - arm, row, column + arm, row), fill=YELLOW, width=2)
    pen.line((column, row - arm, column, row + arm), fill=YELLOW, width=2)
    return picture


def _outline(pixels: NDArray[np.uint8], mask: Mask, colour: tuple[int, int, int]) -> None:
    width = max(1, mask.shape[1] // 200)
    pixels[mask & ~binary_erosion(mask, iterations=width)] = colour
