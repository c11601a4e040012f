"""The tasks `phantom-cxr` and `phantom-ct`: models on a phantom test set (protocol: docs/evaluation.md).

model -> measure (val, test, test_combo) -> tracks of metrics on shared resamples -> report, comparisons
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from glint.errors import UsageError
from glint.eval.cases import data_hash
from glint.eval.report import compare, report_model
from glint.eval.tracks import Evaluated, Options, Progress, Splits, evaluate_model, read_splits
from glint.eval.views import Predictor
from glint.model.folder import load_model


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
        "task": options.subject.name,
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
