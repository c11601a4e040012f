"""The task `phantom-cxr`: one or more models on the phantom X-ray test set (protocol: docs/evaluation.md).

model -> measure (val, test, test_combo) -> tracks of metrics on shared resamples -> report, comparisons
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glint.errors import DataError, UsageError
from glint.eval import metrics, stats
from glint.eval.cases import Case, Wording, data_hash, present, read_cases, split_names
from glint.eval.measure import Measurement, Predictor, measure
from glint.eval.summary import Thresholds, class_metrics, macro_columns, sentence_metrics, tune
from glint.model.folder import load_model
from glint.phantom.schema import HELD_OUT_COMBINATIONS, KINDS

Array = NDArray[np.float64]
Progress = Callable[[str, int, int], None]
NAME = "phantom-cxr"
HELD_OUT_KINDS = frozenset(kind for kind, _ in HELD_OUT_COMBINATIONS)
COMPARED = ("auroc", "pointing", "dice_fixed", "dice_val", "miou_fixed", "contradiction")
GAPS = (
    ("new wording", "standard"),
    ("new combinations", "standard"),
    ("new combinations only", "standard, same kinds"),
    ("sentences, new wording", "sentences"),
)


@dataclass(frozen=True, slots=True)
class Options:
    """How to evaluate.

    Attributes:
        data: Folder written by `glint phantom`.
        limit: Studies of each split; 0 means all.
        bootstrap: Resamples.
        seed: Seed of the resamples.
    """

    data: Path
    limit: int = 0
    bootstrap: int = 1000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Splits:
    """The cases of an evaluation and the resamples that all models share (R, N)."""

    cases: dict[str, list[Case]]
    weights: dict[str, Array]


@dataclass(frozen=True, slots=True)
class Track:
    """One question asked of a model: metric -> (R, K), and the columns that averages are over."""

    metrics: dict[str, Array]
    columns: dict[str, list[int]]

    def averages(self, metric: str) -> dict[str, Array]:
        """Return "macro" and "macro_without_nodule" (R,)."""
        return {name: stats.macro(self.metrics[metric][:, cols]) for name, cols in self.columns.items()}


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A model's results: for the report, for comparisons (`tracks`), for pictures (`test`)."""

    name: str
    source: str
    model: Predictor
    thresholds: Thresholds
    tracks: dict[str, Track]
    test: Measurement
    seconds: float


def read_splits(options: Options) -> Splits:
    """Read the cases and draw the resamples.

    Raises:
        UsageError: A number is out of range.
        DataError: The data set is incomplete.
    """
    if options.limit < 0 or options.bootstrap < 0:
        raise UsageError("--limit and --bootstrap cannot be negative")
    there = split_names(options.data)
    missing = {"val", "test"} - there
    if missing:
        raise DataError(
            f"the data set has no split {' and no split '.join(sorted(missing))}",
            where=str(options.data),
            expected="val (thresholds) and test",
            fix="`glint phantom --out DIR --val 200 --test 500`",
        )
    cases = {
        s: read_cases(options.data, s, options.limit) for s in ("val", "test", "test_combo") if s in there
    }
    weights = {
        split: stats.bootstrap_weights(
            [c.patient_id for c in found], options.bootstrap, options.seed + number
        )
        for number, (split, found) in enumerate(cases.items())
    }
    return Splits(cases, weights)


def evaluate_model(
    name: str,
    source: str,
    splits: Splits,
    *,
    load: Callable[[str], Predictor],
    progress: Progress | None = None,
) -> Evaluated:
    """Measure one model on all splits; `load` makes a model of `source`."""
    start = perf_counter()
    model, kinds = load(source), tuple(KINDS)

    def tell(split: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(f"{name}: {split}", done, total) if progress else None

    validation = measure(model, splits.cases["val"], kinds, wordings=("train",), progress=tell("val"))
    thresholds = tune(validation)
    measured = {
        split: measure(model, splits.cases[split], kinds, progress=tell(split))
        for split in splits.cases
        if split != "val"
    }
    tracks = make_tracks(measured, splits, thresholds)
    return Evaluated(name, source, model, thresholds, tracks, measured["test"], perf_counter() - start)


def make_tracks(measured: dict[str, Measurement], splits: Splits, thresholds: Thresholds) -> dict[str, Track]:
    """Compute all metrics of all tracks."""
    test, weights = measured["test"], splits.weights["test"]
    every, held = macro_columns(test.kinds), macro_columns(test.kinds, HELD_OUT_KINDS)
    standard = class_metrics(test, "train", weights, thresholds)
    tracks = {
        "standard": Track(standard, every),
        "new wording": Track(class_metrics(test, "new", weights, thresholds), every),
    }
    if "test_combo" in measured:
        combo, own = measured["test_combo"], splits.weights["test_combo"]
        only = present(splits.cases["test_combo"], combo.kinds, new_combinations=True)
        tracks["new combinations"] = Track(class_metrics(combo, "train", own, thresholds), every)
        tracks["new combinations only"] = Track(class_metrics(combo, "train", own, thresholds, only), held)
        tracks["standard, same kinds"] = Track(standard, held)
    titles: dict[Wording, str] = {"train": "sentences", "new": "sentences, new wording"}
    for wording, title in titles.items():
        told = sentence_metrics(test.sentences[wording], len(test.kinds), weights, thresholds)
        if told:
            tracks[title] = Track(told, every)
    return tracks


def report_model(result: Evaluated, splits: Splits) -> dict[str, Any]:
    """Return the JSON-ready results of one model."""
    kinds = result.test.kinds
    scores = result.test.answers["train"].scores[:, :, 0]
    return {
        "name": result.name,
        "source": result.source,
        "seconds": round(result.seconds, 1),
        "thresholds_from_val": result.thresholds.to_dict(kinds),
        "tracks": {title: _report_track(track, kinds) for title, track in result.tracks.items()},
        "gaps": _gaps(result.tracks),
        "reliability": _reliability(metrics.reliability(scores, result.test.present)),
        "findings": {
            split: dict(zip(kinds, present(cases, kinds).sum(0).tolist(), strict=True))
            for split, cases in splits.cases.items()
        },
    }


def _report_track(track: Track, kinds: tuple[str, ...]) -> dict[str, Any]:
    shown = track.columns["macro"]
    return {
        metric: {
            **{name: stats.interval(each).to_dict() for name, each in track.averages(metric).items()},
            "per_finding": {kinds[k]: stats.interval(values[:, k]).to_dict() for k in shown},
        }
        for metric, values in track.metrics.items()
    }


def _reliability(found: metrics.Reliability) -> dict[str, Any]:
    return {
        "mean_score": [stats.finite(v) for v in found.centres],
        "observed": [stats.finite(v) for v in found.observed],
        "count": found.counts,
        "ece": stats.finite(found.ece),
        "brier": stats.finite(found.brier),
    }


def _gaps(tracks: dict[str, Track]) -> list[dict[str, Any]]:
    """Return how much each changed track differs from its reference, within one model."""
    return [
        {"track": changed, "reference": reference, "metric": metric, "average": average, **gap.to_dict()}
        for changed, reference in GAPS
        if changed in tracks and reference in tracks
        for metric, average, gap in _differences(tracks[changed], tracks[reference])
    ]


def compare(first: Evaluated, others: Sequence[Evaluated]) -> list[dict[str, Any]]:
    """Return paired differences first minus other on shared resamples."""
    return [
        {
            "model": first.name,
            "against": other.name,
            "track": title,
            "metric": metric,
            "average": average,
            **gap.to_dict(),
        }
        for other in others
        for title, track in first.tracks.items()
        if title != "standard, same kinds"
        for metric, average, gap in _differences(track, other.tracks[title])
    ]


def _differences(one: Track, two: Track) -> list[tuple[str, str, stats.Difference]]:
    return [
        (metric, average, stats.difference(mine, two.averages(metric)[average]))
        for metric in COMPARED
        if metric in one.metrics and metric in two.metrics
        for average, mine in one.averages(metric).items()
    ]


def evaluate(
    models: Sequence[str],
    options: Options,
    *,
    load: Callable[[str], Predictor] = load_model,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[Evaluated], Splits]:
    """Evaluate models, the first against each of the others.

    Returns:
        The JSON-ready results (without how they came about), and what pictures are made from.

    Raises:
        UsageError: No model, or the same one twice.
        DataError: The data set cannot be used.
    """
    if not models or len(set(models)) < len(models):
        raise UsageError(
            "name each model once", where=", ".join(models) or "--model", expected="at least one"
        )
    splits = read_splits(options)
    names = labels(models)
    done = [
        evaluate_model(name, source, splits, load=load, progress=progress)
        for name, source in zip(names, models, strict=True)
    ]
    results = {
        "task": NAME,
        "data": {
            "folder": str(options.data),
            "sha256": {split: data_hash(cases) for split, cases in splits.cases.items()},
            "studies": {split: len(cases) for split, cases in splits.cases.items()},
            "patients": {split: len({c.patient_id for c in cases}) for split, cases in splits.cases.items()},
        },
        "settings": {"limit": options.limit, "bootstrap": options.bootstrap, "seed": options.seed},
        "models": [report_model(result, splits) for result in done],
        "comparisons": compare(done[0], done[1:]),
    }
    return results, done, splits


def labels(models: Sequence[str]) -> list[str]:
    """Return short distinct names: the folder's name, or its parent's for folders called "model"."""
    short = [Path(m).parent.name if Path(m).name == "model" else Path(m).name for m in models]
    return [
        name if name and short.count(name) == 1 else model for name, model in zip(short, models, strict=True)
    ]
