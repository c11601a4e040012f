"""Puts every query of the protocol to a model and keeps one number a case, so that resampling costs nothing.

Each image is encoded once, with all queries of its batch. Maps are compared with masks on the native pixel grid,
one case at a time. Axes: N cases, K kinds, Q phrasings, T thresholds, M sentences, P patches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glint.eval import metrics
from glint.eval.cases import (
    Case,
    Mask,
    Wording,
    class_queries,
    negated_queries,
    present,
    read_mask,
    sentence_query,
    union_mask,
)
from glint.infer.maps import native_map, peak_point
from glint.io.letterbox import Letterbox, letterbox
from glint.io.radiograph import read_radiograph
from glint.text.semantics import flip_polarity

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]
BATCH = 32
WORDINGS: tuple[Wording, Wording] = ("train", "new")


class Predictor(Protocol):
    """What evaluation asks of a model: cfg.data.size_px, vision.patch and answers to queries."""

    cfg: Any
    vision: Any

    def predict(self, images: Tensor, valid: Tensor | None, queries: list[str]) -> Any:
        """Return scores_SB, maps_SBP, evidence_SBP and grid for (B, 1, Y, X) images and S queries."""
        ...


@dataclass(frozen=True, slots=True)
class Answers:
    """How one wording of the class-level queries was answered; localisation is NaN where a kind is absent.

    With several phrasings every value is the mean over the phrasings of that case; only scores stay apart.

    Attributes:
        scores: (N, K, Q).
        negated: (N, K, Qn) scores of denials of the kind.
        pointing: (N, K) 1 where the peak lies in the mask.
        pointing_near: (N, K) the same with a tolerance of one patch.
        pointing_smooth: (N, K) the same for the point that `glint ground` returns (peak of the smoothed evidence).
        dice: (N, K, T) at every threshold.
        iou_fixed: (N, K) at 0.5.
        iou_biovil: (N, K) BioViL's mean over thresholds.
        open_fraction: (N, K) mean of the map over valid patches.
        area: (N, K) share of pixels above 0.5, headline wording only.
        overlap_others: (N, K) mean soft IoU of the map with those of the other kinds, headline wording only.
    """

    scores: Array
    negated: Array
    pointing: Array
    pointing_near: Array
    pointing_smooth: Array
    dice: Array
    iou_fixed: Array
    iou_biovil: Array
    open_fraction: Array
    area: Array
    overlap_others: Array


@dataclass(slots=True)
class SentenceAnswers:
    """How sentences about single findings were answered, one entry a finding, M in all.

    Attributes:
        case: Index of the case.
        kind: Index of the kind.
        score: Score of the sentence.
        flipped: Score of the sentence with its polarity turned; NaN where that is not safe.
        pointing: 1 where the peak lies in the mask of this finding.
        dice: (T,) at every threshold.
    """

    case: list[int] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    flipped: list[float] = field(default_factory=list)
    pointing: list[float] = field(default_factory=list)
    dice: list[metrics.Curve] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Measurement:
    """Everything measured on one split: answers for each wording, and which kinds are there."""

    kinds: tuple[str, ...]
    present: Mask
    answers: dict[Wording, Answers]
    sentences: dict[Wording, SentenceAnswers]


@dataclass(frozen=True, slots=True)
class _View:
    """Answers about one image: scores (S,), maps and evidence (S, P), validity (P,), and the way to native pixels."""

    scores: Array
    maps: NDArray[np.float32]
    evidence: NDArray[np.float32]
    valid: Mask
    index: dict[str, int]
    grid: tuple[int, int]
    fit: Letterbox

    def rows(self, texts: Sequence[str]) -> list[int]:
        return [self.index[text] for text in texts]

    def native(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        return to_native(maps, self.grid, self.fit)

    def point(self, row: int) -> tuple[int, int]:
        """Return (row, column) of the point that inference answers with."""
        x, y = peak_point(self.evidence[row].reshape(self.grid), self.fit)
        return y, x

    @property
    def patch_px(self) -> float:
        """Return the side of a patch in native pixels."""
        return max(self.fit.native) / max(self.grid)


def measure(
    model: Predictor,
    cases: Sequence[Case],
    kinds: tuple[str, ...],
    *,
    wordings: Sequence[Wording] = WORDINGS,
    progress: Progress | None = None,
) -> Measurement:
    """Put class-level queries, their denials and one sentence a finding to the model, for each wording.

    Args:
        model: What is evaluated.
        cases: On what.
        kinds: Kinds of finding, the K axis.
        wordings: ("train",) is enough for tuning thresholds.
        progress: Called with (cases done, cases in all).
    """
    answers: dict[Wording, Answers] = {wording: _empty(len(cases), kinds, wording) for wording in wordings}
    told: dict[Wording, SentenceAnswers] = {wording: SentenceAnswers() for wording in wordings}
    fixed = [q for w in wordings for k in kinds for q in (*class_queries(k, w), *negated_queries(k, w))]
    for start in range(0, len(cases), BATCH):
        batch = cases[start : start + BATCH]
        for offset, view in enumerate(_look(model, batch, fixed, wordings)):
            number = start + offset
            masks = [union_mask(cases[number], kind) for kind in kinds]
            for wording in wordings:
                _class_level(view, masks, kinds, wording, answers[wording], number)
                _sentence_level(view, cases[number], number, kinds, wording, told[wording])
        if progress is not None:
            progress(min(start + BATCH, len(cases)), len(cases))
    return Measurement(kinds, present(cases, kinds), answers, told)


def load_images(cases: Sequence[Case], size_px: int) -> tuple[Tensor, list[Letterbox]]:
    """Return (B, 1, Y, X) network inputs in [0, 1] and the letterbox of each."""
    return load_pixels([case.image for case in cases], size_px)


def load_pixels(paths: Sequence[Path], size_px: int) -> tuple[Tensor, list[Letterbox]]:
    """Return the same for image files."""
    pairs = [letterbox(read_radiograph(path).pixels, size_px) for path in paths]
    return torch.from_numpy(np.stack([pixels for pixels, _ in pairs]))[:, None], [fit for _, fit in pairs]


def to_native(maps: NDArray[np.float32], grid: tuple[int, int], fit: Letterbox) -> NDArray[np.float32]:
    """Bring maps (Q, P) to the native pixel grid, (Q, Y, X), as inference does."""
    return np.stack([native_map(each.reshape(grid), fit) for each in maps])


def _look(
    model: Predictor, batch: Sequence[Case], fixed: Sequence[str], wordings: Sequence[Wording]
) -> list[_View]:
    """Ask a batch of images all fixed queries and the sentences about any of them."""
    own = [sentence_query(c, i, w) for w in wordings for c in batch for i in range(len(c.findings))]
    turned = [flip for flip in map(flip_polarity, own) if flip is not None]
    queries = list(dict.fromkeys([*fixed, *own, *turned]))
    index = {text: row for row, text in enumerate(queries)}
    size_px = int(model.cfg.data.size_px)
    images, fits = load_images(batch, size_px)
    valid = np.stack([np.asarray(fit.valid_patches(model.vision.patch[-1])).reshape(-1) for fit in fits])
    answer = model.predict(images, torch.from_numpy(valid), queries)
    scores = answer.scores_SB.double().cpu().numpy()
    maps, evidence = (part.float().cpu().numpy() for part in (answer.maps_SBP, answer.evidence_SBP))
    return [
        _View(scores[:, b], maps[:, b], evidence[:, b], valid[b], index, answer.grid, fit)
        for b, fit in enumerate(fits)
    ]


def _empty(count: int, kinds: tuple[str, ...], wording: Wording) -> Answers:
    """Return answers full of NaN."""
    phrasings = max(len(class_queries(kind, wording)) for kind in kinds)
    denials = max(len(negated_queries(kind, wording)) for kind in kinds)

    def nan(*tail: int) -> Array:
        return np.full((count, len(kinds), *tail), np.nan)

    return Answers(
        scores=nan(phrasings),
        negated=nan(denials),
        pointing=nan(),
        pointing_near=nan(),
        pointing_smooth=nan(),
        dice=nan(len(metrics.THRESHOLDS)),
        iou_fixed=nan(),
        iou_biovil=nan(),
        open_fraction=nan(),
        area=nan(),
        overlap_others=nan(),
    )


def _class_level(
    view: _View,
    masks: Sequence[Mask | None],
    kinds: Sequence[str],
    wording: Wording,
    into: Answers,
    case: int,
) -> None:
    """Fill row `case` of the answers to one wording."""
    rows = [view.rows(class_queries(kind, wording)) for kind in kinds]
    for k, kind in enumerate(kinds):
        denials = view.rows(negated_queries(kind, wording))
        into.scores[case, k, : len(rows[k])] = view.scores[rows[k]]
        into.negated[case, k, : len(denials)] = view.scores[denials]
        into.open_fraction[case, k] = view.maps[rows[k]][:, view.valid].mean()
        mask = masks[k]
        if mask is not None and mask.any():
            _localise(view, rows[k], mask, into, (case, k))
    if wording == "train":
        headline = view.maps[[row[0] for row in rows]]
        into.area[case] = (view.native(headline) > 0.5).mean((1, 2))
        into.overlap_others[case] = _overlap_others(headline[:, view.valid])


def _localise(view: _View, rows: Sequence[int], mask: Mask, into: Answers, at: tuple[int, int]) -> None:
    """Compare the maps of all phrasings of one kind with its mask; the mean over the phrasings is kept."""
    maps = view.native(view.maps[rows])
    curves = [metrics.overlap(values, mask) for values in maps]
    peaks = [metrics.peak(values) for values in view.native(view.evidence[rows])]
    into.dice[at] = np.mean([curve.dice for curve in curves], axis=0)
    into.iou_fixed[at] = np.mean([curve.iou[metrics.FIXED] for curve in curves])
    into.iou_biovil[at] = np.mean([metrics.biovil_miou(values, mask) for values in maps])
    into.pointing[at] = np.mean([metrics.hit(point, mask) for point in peaks])
    into.pointing_smooth[at] = np.mean([metrics.hit(view.point(row), mask) for row in rows])
    into.pointing_near[at] = np.mean([metrics.hit(point, mask, view.patch_px) for point in peaks])


def _overlap_others(maps: NDArray[np.float32]) -> Array:
    """Return (K,) mean soft IoU of each map (K, P) with the maps of the other kinds."""
    pairs = metrics.soft_iou(maps[:, None], maps[None])
    return (pairs.sum(1) - pairs.diagonal()) / max(1, len(maps) - 1)


def _sentence_level(
    view: _View, case: Case, number: int, kinds: Sequence[str], wording: Wording, into: SentenceAnswers
) -> None:
    """Append one entry for every finding of a case."""
    for i, true in enumerate(case.findings):
        sentence = sentence_query(case, i, wording)
        turned = flip_polarity(sentence)
        row, mask = view.index[sentence], read_mask(true.mask)
        into.case.append(number)
        into.kind.append(kinds.index(true.finding.kind))
        into.score.append(float(view.scores[row]))
        into.flipped.append(float(view.scores[view.index[turned]]) if turned else float("nan"))
        if mask.any():
            values, evidence = view.native(view.maps[[row]])[0], view.native(view.evidence[[row]])[0]
            into.pointing.append(float(metrics.hit(metrics.peak(evidence), mask)))
            into.dice.append(metrics.overlap(values, mask).dice)
        else:
            into.pointing.append(float("nan"))
            into.dice.append(np.full(len(metrics.THRESHOLDS), np.nan))
