"""Anatomy by text: structures that a scan shows are asked for like findings. Only the phantom as CT has them.

A structure is asked for with the first sentence that reports use for it ("The liver is visible."). "lungs" is the
larger of the maps of both lungs, against both of their masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from glint.eval import metrics
from glint.eval.cases import Case
from glint.eval.subject import Mask, Subject
from glint.eval.views import View
from glint.phantom.ct.schema import CT_STRUCTURES
from glint.phantom.wording import fill, finish, load_wording

Array = NDArray[np.float64]
LUNGS = ("left lung", "right lung")
STRUCTURES = (*CT_STRUCTURES, "lungs")


@dataclass(frozen=True, slots=True)
class Anatomy:
    """How structures were found; NaN where a scan does not show one. A structures.

    Attributes:
        shown: (N, A) whether a scan shows it.
        scores: (N, A).
        pointing: (N, A) 1 where the peak lies in the mask.
        dice: (N, A, T) at every threshold.
    """

    shown: Mask
    scores: Array
    pointing: Array
    dice: Array


def structure_query(structure: str) -> str:
    """Return the sentence that asks for a structure."""
    book = load_wording("ct_train")
    slots = {"structure": (book["anatomy"][structure][0],)}
    return finish(fill(book["anatomy_frames"]["present"][0], slots, Random(0)))


def structure_queries(subject: Subject) -> list[str]:
    """Return the queries about anatomy; none where the phantom has no masks of it."""
    return [structure_query(name) for name in CT_STRUCTURES] if subject.volumes else []


def empty_anatomy(cases: Sequence[Case]) -> Anatomy | None:
    """Return answers full of NaN; None when the cases have no masks of anatomy."""
    if not any(case.structures for case in cases):
        return None
    shape = (len(cases), len(STRUCTURES))
    shown = np.zeros(shape, dtype=bool)
    for n, case in enumerate(cases):
        for a, name in enumerate(STRUCTURES):
            shown[n, a] = all(part in case.structures for part in _parts(name))
    return Anatomy(
        shown,
        np.full(shape, np.nan),
        np.full(shape, np.nan),
        np.full((*shape, len(metrics.THRESHOLDS)), np.nan),
    )


def measure_anatomy(view: View, case: Case, number: int, into: Anatomy) -> None:
    """Fill row `number`."""
    for a, name in enumerate(STRUCTURES):
        rows = view.rows([structure_query(part) for part in _parts(name)])
        into.scores[number, a] = view.scores[rows].min()
        if not into.shown[number, a]:
            continue
        mask = np.logical_or.reduce([case.subject.read_mask(case.structures[part]) for part in _parts(name)])
        values = view.native(view.maps[rows].max(0, keepdims=True))[0]
        into.dice[number, a] = metrics.overlap(values, mask).dice
        best = rows[int(view.evidence[rows].max(1).argmax())]
        into.pointing[number, a] = metrics.hit(view.point(best), mask)


def _parts(name: str) -> tuple[str, ...]:
    return LUNGS if name == "lungs" else (name,)
