"""Uncertainty of evaluation numbers: patients, not studies, are resampled, and models share the resamples.

A bootstrap is a matrix of weights (R, N): how often study n is in resample r. Row 0 is all ones, so every
statistic is computed for the point estimate and all resamples at once, and two models that are given the same
matrix are compared on the same resamples. Axes: R resamples (0 = as observed), N studies, K kinds of finding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
CHUNK = 250  # resamples handled at once by auroc: bounds memory at about 10 MB per 1,000 studies


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with its 95 % bootstrap percentile interval.

    Attributes:
        value: The number as observed.
        low: 2.5th percentile of the resamples; NaN when there are none.
        high: 97.5th percentile.
    """

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """Return JSON-ready numbers, None for what cannot be computed."""
        return {name: finite(getattr(self, name)) for name in ("value", "low", "high")}


@dataclass(frozen=True, slots=True)
class Difference:
    """First minus second with its interval and two-sided bootstrap p-value."""

    interval: Interval
    p: float

    def to_dict(self) -> dict[str, float | None]:
        """Return JSON-ready numbers."""
        return {**self.interval.to_dict(), "p": finite(self.p)}


def finite(value: float, digits: int = 5) -> float | None:
    """Return a rounded number, or None for NaN and infinity, which JSON does not have."""
    return round(float(value), digits) if np.isfinite(value) else None


def bootstrap_weights(patients: Sequence[str], resamples: int, seed: int = 0) -> Array:
    """Return (1 + resamples, N) counts: row 0 as observed, the others draw whole patients with replacement.

    Args:
        patients: Patient of each of the N studies.
        resamples: How many times to draw.
        seed: The same patients and seed give the same draws.
    """
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / max(1, len(names))), size=resamples)
    return np.vstack([np.ones(len(owner)), drawn[:, owner].astype(np.float64)])


def weighted_mean(weights: Array, values: Array) -> Array:
    """Return (R, K) means of values (N, K) over the studies where they are not NaN; NaN without any."""
    known = ~np.isnan(values)
    count = weights @ known.astype(np.float64)
    total = weights @ np.where(known, values, 0.0)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def auroc(weights: Array, scores: Array, positive: NDArray[np.bool_]) -> Array:
    """Return (R,) areas under the ROC curve: P(score of a positive > of a negative) + half of the ties.

    Args:
        weights: (R, N) counts.
        scores: (N,) scores.
        positive: (N,) labels.
    """
    order = np.argsort(scores, kind="stable")
    ranked, label = scores[order], positive[order].astype(np.float64)
    first = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])  # start of each group of ties
    areas = np.empty(len(weights))
    for start in range(0, len(weights), CHUNK):
        part = weights[start : start + CHUNK, order]
        positives = np.add.reduceat(part * label, first, axis=1)
        negatives = np.add.reduceat(part * (1 - label), first, axis=1)
        below = np.cumsum(negatives, axis=1) - negatives
        pairs = positives.sum(1) * negatives.sum(1)
        won = (positives * (below + negatives / 2)).sum(1)
        areas[start : start + CHUNK] = np.divide(won, pairs, out=np.full_like(won, np.nan), where=pairs > 0)
    return areas


def auroc_per_kind(weights: Array, scores: Array, positive: NDArray[np.bool_]) -> Array:
    """Return (R, K) areas; scores (N, K, Q) of Q phrasings give the mean of Q areas, NaN phrasings left out."""
    result = np.full((len(weights), positive.shape[1]), np.nan)
    for k in range(positive.shape[1]):
        used = [q for q in range(scores.shape[2]) if not np.isnan(scores[:, k, q]).any()]
        if used:
            areas = [auroc(weights, scores[:, k, q], positive[:, k]) for q in used]
            result[:, k] = np.mean(areas, axis=0)
    return result


def macro(per_kind: Array) -> Array:
    """Return (R,) means over the kinds that have a value in a resample."""
    known = ~np.isnan(per_kind)
    count = known.sum(1)
    total = np.where(known, per_kind, 0.0).sum(1)
    return np.divide(total, count, out=np.full(len(per_kind), np.nan), where=count > 0)


def interval(replicates: Array) -> Interval:
    """Return the value of row 0 and the percentiles of the other rows."""
    resampled = replicates[1:][~np.isnan(replicates[1:])]
    if len(resampled) == 0:
        return Interval(float(replicates[0]), float("nan"), float("nan"))
    low, high = np.percentile(resampled, (2.5, 97.5))
    return Interval(float(replicates[0]), float(low), float(high))


def difference(first: Array, second: Array) -> Difference:
    """Return first minus second (R,) on shared resamples.

    p = 2 min(P(d* <= 0), P(d* >= 0)) over the resampled differences d*, with one added to count and number so
    that it is never 0; at most 1.
    """
    delta = first - second
    resampled = delta[1:][~np.isnan(delta[1:])]
    tail = min(int((resampled <= 0).sum()), int((resampled >= 0).sum()))
    p = min(1.0, 2 * (tail + 1) / (len(resampled) + 1)) if len(resampled) else float("nan")
    return Difference(interval(delta), p)
