"""Puts every query of the protocol to a model and keeps one number a case, so that resampling costs nothing.

Each image is encoded once, with all queries of its batch (views.py). Maps are compared with masks on the native grid of
pixels or voxels, one case at a time. Axes: N cases, K kinds, Q phrasings, T thresholds, M sentences, P patches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from glint.eval import metrics
from glint.eval.anatomy import Anatomy, empty_anatomy, measure_anatomy, structure_queries
from glint.eval.cases import Case, class_queries, negated_queries, present, sentence_query, union_mask
from glint.eval.subject import CXR, Mask, Subject, Wording
from glint.eval.views import BATCHES, Predictor, View, look
from glint.text.semantics import flip_polarity

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]
WORDINGS: tuple[Wording, Wording] = ("train", "new")


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
        extras: Metric -> (N, K), of volumes only, headline wording only (volume_metrics.py).
        dice_guided: (N, K, T) Dice of maps refined with the CT, of volumes only, headline wording only.
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
    extras: dict[str, Array] = field(default_factory=dict[str, Array])
    dice_guided: Array | None = None


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
    """Everything measured on one split: answers for each wording, which kinds are there, and anatomy."""

    kinds: tuple[str, ...]
    present: Mask
    answers: dict[Wording, Answers]
    sentences: dict[Wording, SentenceAnswers]
    anatomy: Anatomy | None = None


def measure(
    model: Predictor,
    cases: Sequence[Case],
    subject: Subject = CXR,
    *,
    wordings: Sequence[Wording] = WORDINGS,
    threshold: float = 0.5,
    progress: Progress | None = None,
) -> Measurement:
    """Put class-level queries, their denials and one sentence a finding to the model, for each wording.

    Args:
        model: What is evaluated.
        cases: On what.
        subject: The evaluation.
        wordings: ("train",) is enough for tuning thresholds.
        threshold: Of the masks whose parts are counted (volumes only).
        progress: Called with (cases done, cases in all).
    """
    kinds = subject.kinds
    answers: dict[Wording, Answers] = {w: _empty(len(cases), subject, w) for w in wordings}
    told: dict[Wording, SentenceAnswers] = {wording: SentenceAnswers() for wording in wordings}
    anatomy = empty_anatomy(cases)
    fixed = [
        query
        for w in wordings
        for k in kinds
        for query in (*class_queries(k, w, subject), *negated_queries(k, w, subject))
    ]
    fixed += structure_queries(subject) if anatomy else []
    batch_size = BATCHES[subject.volumes]
    for start in range(0, len(cases), batch_size):
        batch = cases[start : start + batch_size]
        for offset, view in enumerate(look(model, batch, _queries(batch, fixed, wordings), threshold)):
            number = start + offset
            masks = [union_mask(cases[number], kind) for kind in kinds]
            for wording in wordings:
                _class_level(view, cases[number], masks, wording, answers[wording], number)
                _sentence_level(view, cases[number], number, kinds, wording, told[wording])
            if anatomy:
                measure_anatomy(view, cases[number], number, anatomy)
        if progress is not None:
            progress(min(start + batch_size, len(cases)), len(cases))
    return Measurement(kinds, present(cases, kinds), answers, told, anatomy)


def _queries(batch: Sequence[Case], fixed: Sequence[str], wordings: Sequence[Wording]) -> list[str]:
    """Return all fixed queries, and the sentences about any image of the batch, each with its polarity turned."""
    own = [sentence_query(c, i, w) for w in wordings for c in batch for i in range(len(c.findings))]
    turned = [flip for flip in map(flip_polarity, own) if flip is not None]
    return list(dict.fromkeys([*fixed, *own, *turned]))


def _empty(count: int, subject: Subject, wording: Wording) -> Answers:
    """Return answers full of NaN."""
    kinds = subject.kinds
    phrasings = max(len(class_queries(kind, wording, subject)) for kind in kinds)
    denials = max(len(negated_queries(kind, wording, subject)) for kind in kinds)

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
        dice_guided=nan(len(metrics.THRESHOLDS)) if subject.volumes and wording == "train" else None,
    )


def _class_level(
    view: View, about: Case, masks: Sequence[Mask | None], wording: Wording, into: Answers, case: int
) -> None:
    """Fill row `case` of the answers to one wording."""
    kinds, subject = about.subject.kinds, about.subject
    rows = [view.rows(class_queries(kind, wording, subject)) for kind in kinds]
    for k, kind in enumerate(kinds):
        denials = view.rows(negated_queries(kind, wording, subject))
        into.scores[case, k, : len(rows[k])] = view.scores[rows[k]]
        into.negated[case, k, : len(denials)] = view.scores[denials]
        into.open_fraction[case, k] = view.maps[rows[k]][:, view.valid].mean()
        mask = masks[k]
        if mask is not None and mask.any():
            _localise(view, rows[k], mask, into, (case, k))
            if into.dice_guided is not None:
                _in_depth(view, rows[k][0], about, mask, into, (case, k))
    if wording == "train":
        headline = view.maps[[row[0] for row in rows]]
        into.area[case] = [(view.native(each[None]) > 0.5).mean() for each in headline]
        into.overlap_others[case] = _overlap_others(headline[:, view.valid])


def _in_depth(view: View, row: int, about: Case, mask: Mask, into: Answers, at: tuple[int, int]) -> None:
    """Measure what only volumes have: overlap after refinement, ranking of voxels, parts."""
    assert into.dice_guided is not None
    into.dice_guided[at] = metrics.overlap(view.guided(row), mask).dice
    kind = about.subject.kinds[at[1]]
    parts = [about.subject.read_mask(f.mask) for f in about.findings if f.finding.kind == kind]
    for name, value in view.extras(row, kind, mask, parts).items():
        into.extras.setdefault(name, np.full(into.pointing.shape, np.nan))[at] = value


def _localise(view: View, rows: Sequence[int], mask: Mask, into: Answers, at: tuple[int, int]) -> None:
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
    view: View, case: Case, number: int, kinds: Sequence[str], wording: Wording, into: SentenceAnswers
) -> None:
    """Append one entry for every finding of a case."""
    for i, true in enumerate(case.findings):
        sentence = sentence_query(case, i, wording)
        turned = flip_polarity(sentence)
        row, mask = view.index[sentence], case.subject.read_mask(true.mask)
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
