"""From a model and a phantom test set to tracks: every question of the protocol with all its metrics."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from glint.errors import DataError, UsageError
from glint.eval import stats
from glint.eval.cases import Case, present, read_cases, split_names
from glint.eval.measure import Measurement, measure
from glint.eval.metrics import THRESHOLDS
from glint.eval.subject import CXR, Subject, Wording
from glint.eval.summary import (
    Thresholds,
    anatomy_metrics,
    class_metrics,
    macro_columns,
    sentence_metrics,
    tune,
)
from glint.eval.views import Predictor

Array = NDArray[np.float64]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How to evaluate.

    Attributes:
        data: Folder written by the command of the subject.
        limit: Studies of each split; 0 means all.
        bootstrap: Resamples.
        seed: Seed of the resamples.
        subject: X-rays or CT.
    """

    data: Path
    limit: int = 0
    bootstrap: int = 1000
    seed: int = 0
    subject: Subject = CXR


@dataclass(frozen=True, slots=True)
class Splits:
    """The cases of an evaluation and the resamples that all models share (R, N)."""

    cases: dict[str, list[Case]]
    weights: dict[str, Array]


@dataclass(frozen=True, slots=True)
class Track:
    """One question asked of a model: metric -> (R, K), the K names, and the columns that averages are over."""

    metrics: dict[str, Array]
    kinds: tuple[str, ...]
    columns: dict[str, list[int]]

    def averages(self, metric: str) -> dict[str, Array]:
        """Return "macro" and "macro_without_nodule" (R,)."""
        return {name: stats.macro(self.metrics[metric][:, cols]) for name, cols in self.columns.items()}


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A model's results: for the report, for comparisons (`tracks`), for pictures (`test`)."""

    name: str
    source: str
    subject: Subject
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
            fix=f"`{options.subject.command} --out DIR --val 200 --test 500`",
        )
    cases = {
        s: read_cases(options.data, s, options.limit, options.subject)
        for s in ("val", "test", "test_combo")
        if s in there
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
    """Measure one model on all splits; `load` makes a model of `source`.

    Raises:
        UsageError: The model is one of CT and the data are X-rays, or the reverse.
    """
    start = perf_counter()
    subject = splits.cases["val"][0].subject
    model = load(source)
    _check_kind(model, source, subject)

    def tell(split: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(f"{name}: {split}", done, total) if progress else None

    validation = measure(model, splits.cases["val"], subject, wordings=("train",), progress=tell("val"))
    thresholds = tune(validation)
    threshold = float(THRESHOLDS[thresholds.common])
    measured = {
        split: measure(model, splits.cases[split], subject, threshold=threshold, progress=tell(split))
        for split in splits.cases
        if split != "val"
    }
    tracks = make_tracks(measured, splits, thresholds)
    return Evaluated(
        name, source, subject, model, thresholds, tracks, measured["test"], perf_counter() - start
    )


def _check_kind(model: Predictor, source: str, subject: Subject) -> None:
    volumes = getattr(model.cfg.data, "volume", None) is not None
    if volumes != subject.volumes:
        raise UsageError(
            f"{subject.name} is about {'CT' if subject.volumes else 'X-rays'}, and this model is not",
            where=source,
            fix=f"glint evaluate {'phantom-ct' if volumes else 'phantom-cxr'}",
        )


def make_tracks(measured: dict[str, Measurement], splits: Splits, thresholds: Thresholds) -> dict[str, Track]:
    """Compute all metrics of all tracks."""
    test, weights = measured["test"], splits.weights["test"]
    kinds = test.kinds
    held_kinds = frozenset(kind for kind, _ in splits.cases["test"][0].subject.held_out)
    every, held = macro_columns(kinds), macro_columns(kinds, held_kinds)
    standard = class_metrics(test, "train", weights, thresholds)
    tracks = {
        "standard": Track(standard, kinds, every),
        "new wording": Track(class_metrics(test, "new", weights, thresholds), kinds, every),
    }
    if "test_combo" in measured:
        combo, own = measured["test_combo"], splits.weights["test_combo"]
        only = present(splits.cases["test_combo"], combo.kinds, new_combinations=True)
        metrics = class_metrics(combo, "train", own, thresholds)
        tracks["new combinations"] = Track(metrics, kinds, every)
        metrics = class_metrics(combo, "train", own, thresholds, only)
        tracks["new combinations only"] = Track(metrics, kinds, held)
        tracks["standard, same kinds"] = Track(standard, kinds, held)
    titles: dict[Wording, str] = {"train": "sentences", "new": "sentences, new wording"}
    for wording, title in titles.items():
        told = sentence_metrics(test.sentences[wording], len(kinds), weights, thresholds)
        if told:
            tracks[title] = Track(told, kinds, every)
    if test.anatomy:
        names, found = anatomy_metrics(test.anatomy, weights, thresholds)
        tracks["anatomy"] = Track(found, names, {"macro": list(range(len(names)))})
    return tracks
