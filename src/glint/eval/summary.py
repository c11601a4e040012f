"""From measurements to estimates: every metric for every kind, on all bootstrap resamples at once.

A track is one question asked of the model ("standard", "new wording" ...): a split, a wording, and which findings
count. Thresholds come from the validation split; only the one called oracle looks at the test split.
Axes: R resamples (row 0 as observed), N cases, K kinds, T thresholds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glint.eval import metrics, stats
from glint.eval.anatomy import STRUCTURES, Anatomy
from glint.eval.measure import Answers, Measurement, SentenceAnswers
from glint.eval.subject import Mask, Wording

Array = NDArray[np.float64]
SMALL = ("nodule",)
"""Kinds that macro averages are also given without."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Indices into metrics.THRESHOLDS chosen on validation.

    Attributes:
        common: One for all kinds.
        per_kind: (K,) one for each.
        guided: One for all kinds, of maps refined with the CT.
    """

    common: int
    per_kind: NDArray[np.int64]
    guided: int = metrics.FIXED

    def to_dict(self, kinds: tuple[str, ...]) -> dict[str, object]:
        """Return the thresholds themselves."""
        each = {kind: float(metrics.THRESHOLDS[i]) for kind, i in zip(kinds, self.per_kind, strict=True)}
        return {"common": float(metrics.THRESHOLDS[self.common]), "per_finding": each}


def tune(validation: Measurement) -> Thresholds:
    """Choose thresholds by the mean Dice of the headline queries on validation cases."""
    curves = mean_dice(validation.answers["train"].dice)  # (K, T)
    common = best(curves)
    per_kind = [common if np.isnan(curve).all() else int(np.nanargmax(curve)) for curve in curves]
    guided = validation.answers["train"].dice_guided
    refined = metrics.FIXED if guided is None else best(mean_dice(guided))
    return Thresholds(common, np.array(per_kind, dtype=np.int64), refined)


def mean_dice(dice: Array) -> Array:
    """Return (K, T) mean Dice over cases; NaN for kinds that no case shows."""
    known = ~np.isnan(dice[:, :, 0])
    total = np.where(known[:, :, None], dice, 0.0).sum(0)
    count = known.sum(0)[:, None].astype(np.float64)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def best(curves: Array) -> int:
    """Return the index of the threshold with the best macro Dice; the one nearest to 0.5 without any curve."""
    known = curves[~np.isnan(curves[:, 0])]
    return int(known.mean(0).argmax()) if len(known) else metrics.FIXED


def class_metrics(
    measured: Measurement,
    wording: Wording,
    weights: Array,
    thresholds: Thresholds,
    counted: Mask | None = None,
) -> dict[str, Array]:
    """Return metric -> (R, K) for class-level queries.

    Args:
        measured: One split.
        wording: Which queries.
        weights: (R, N) bootstrap weights of its cases.
        thresholds: From validation.
        counted: (N, K) findings that localisation and contradiction count; all by default. Cases that show a
            kind in another way are then left out of it, so that positives of the AUROC are those that count.
    """
    answers, shown = measured.answers[wording], measured.present
    counted = shown if counted is None else counted & shown
    left_out = shown & ~counted
    result = _scores(answers, weights, counted, left_out)
    result |= _localisation(answers, weights, thresholds, counted)
    result |= _specificity(answers, weights, shown, counted)
    return {name: values for name, values in result.items() if not np.isnan(values[0]).all()}


def _scores(answers: Answers, weights: Array, counted: Mask, left_out: Mask) -> dict[str, Array]:
    """Areas under the curve of affirming and denying queries, and how often a denial scores below."""
    auroc = np.full((len(weights), counted.shape[1]), np.nan)
    denied = auroc.copy()
    for k in range(counted.shape[1]):
        rows, one = ~left_out[:, k], slice(k, k + 1)
        label = counted[rows, one]
        auroc[:, one] = stats.auroc_per_kind(weights[:, rows], answers.scores[rows, one], label)
        denied[:, one] = stats.auroc_per_kind(weights[:, rows], answers.negated[rows, one], ~label)
    below = _share_below(answers.negated, answers.scores)
    literal = _share_below(answers.negated[:, :, :1], answers.scores)
    return {
        "auroc": auroc,
        "auroc_denial": denied,
        "contradiction": stats.weighted_mean(weights, np.where(counted, below, np.nan)),
        "contradiction_no_x": stats.weighted_mean(weights, np.where(counted, literal, np.nan)),
    }


def _share_below(denials: Array, affirmations: Array) -> Array:
    """Return (N, K): share of (denial, affirmation) pairs where the denial scores strictly lower."""
    pairs = denials[:, :, :, None] - affirmations[:, :, None, :]
    known = ~np.isnan(pairs)
    count = known.sum((2, 3))
    lower = (known & (np.where(known, pairs, 0.0) < 0)).sum((2, 3)).astype(np.float64)
    return np.divide(lower, count, out=np.full_like(lower, np.nan), where=count > 0)


def _localisation(
    answers: Answers, weights: Array, thresholds: Thresholds, counted: Mask
) -> dict[str, Array]:
    """Pointing, Dice and IoU over the findings that count."""
    dice = np.where(counted[:, :, None], answers.dice, np.nan)
    own = np.take_along_axis(dice, thresholds.per_kind[None, :, None], axis=2)[:, :, 0]
    values = {
        "pointing": answers.pointing,
        "pointing_near": answers.pointing_near,
        "pointing_smooth": answers.pointing_smooth,
        "dice_fixed": dice[:, :, metrics.FIXED],
        "dice_val": dice[:, :, thresholds.common],
        "dice_val_per_finding": own,
        "dice_oracle": dice[:, :, best(mean_dice(dice))],
        "miou_fixed": answers.iou_fixed,
        "miou_biovil": answers.iou_biovil,
        **_in_depth(answers, dice, thresholds),
    }
    return {
        name: stats.weighted_mean(weights, np.where(counted, each, np.nan)) for name, each in values.items()
    }


def _in_depth(answers: Answers, dice: Array, thresholds: Thresholds) -> dict[str, Array]:
    """Return what only volumes have (N, K): hit rates, refinement with the CT, ranking of voxels, parts."""
    if answers.dice_guided is None:
        return {}
    at_val = dice[:, :, thresholds.common]
    return {
        "hit_005": np.where(np.isnan(at_val), np.nan, at_val >= 0.05),
        "hit_010": np.where(np.isnan(at_val), np.nan, at_val >= 0.10),
        "dice_guided_fixed": answers.dice_guided[:, :, metrics.FIXED],
        "dice_guided_val": answers.dice_guided[:, :, thresholds.guided],
        **answers.extras,
    }


def anatomy_metrics(
    found: Anatomy, weights: Array, thresholds: Thresholds
) -> tuple[tuple[str, ...], dict[str, Array]]:
    """Return the structures that some scan shows, and metric -> (R, A) over them."""
    columns = np.flatnonzero(found.shown.any(0))
    dice = found.dice[:, columns]
    values = {
        "pointing": found.pointing[:, columns],
        "dice_fixed": dice[:, :, metrics.FIXED],
        "dice_val": dice[:, :, thresholds.common],
        "dice_oracle": dice[:, :, best(mean_dice(dice))],
    }
    result = {name: stats.weighted_mean(weights, each) for name, each in values.items()}
    scores = found.scores[:, columns, None]
    result["auroc"] = stats.auroc_per_kind(weights, scores, found.shown[:, columns])
    return tuple(STRUCTURES[a] for a in columns), result


def _specificity(answers: Answers, weights: Array, shown: Mask, counted: Mask) -> dict[str, Array]:
    """What the map does where the kind is absent, and how much maps of different queries resemble each other."""
    any_area = np.where(np.isnan(answers.area), np.nan, answers.area > 0)
    values = {
        "area_absent": np.where(shown, np.nan, answers.area),
        "false_mask_rate": np.where(shown, np.nan, any_area),
        "open_present": np.where(counted, answers.open_fraction, np.nan),
        "open_absent": np.where(shown, np.nan, answers.open_fraction),
        "map_overlap": np.where(counted, answers.overlap_others, np.nan),
    }
    return {name: stats.weighted_mean(weights, each) for name, each in values.items()}


def sentence_metrics(
    told: SentenceAnswers, num_kinds: int, weights: Array, thresholds: Thresholds
) -> dict[str, Array]:
    """Return metric -> (R, K) for sentences about single findings."""
    if not told.case:
        return {}
    kind, own = np.array(told.kind), weights[:, told.case]
    dice = np.array(told.dice)
    score, flipped = np.array(told.score), np.array(told.flipped)
    values = {
        "pointing": np.array(told.pointing),
        "dice_fixed": dice[:, metrics.FIXED],
        "dice_val": dice[:, thresholds.common],
        "contradiction": np.where(np.isnan(flipped), np.nan, flipped < score),
    }
    columns = np.arange(num_kinds)[None] == kind[:, None]
    return {
        name: stats.weighted_mean(own, np.where(columns, each[:, None], np.nan))
        for name, each in values.items()
    }


def macro_columns(kinds: tuple[str, ...], subset: frozenset[str] | None = None) -> dict[str, list[int]]:
    """Return name of an average -> columns: all kinds, and without the small ones."""
    used = [k for k, kind in enumerate(kinds) if subset is None or kind in subset]
    return {"macro": used, "macro_without_nodule": [k for k in used if kinds[k] not in SMALL]}
