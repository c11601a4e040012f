"""Evaluates, then writes everything: results.json, results.md, plots and example pictures."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from glint.errors import DataError
from glint.eval.phantom import evaluate
from glint.eval.tables import provenance, weights_hash, write_results
from glint.eval.tracks import Options, Progress
from glint.eval.views import Predictor
from glint.model.folder import load_model


def run(
    models: Sequence[str],
    options: Options,
    out: Path,
    *,
    load: Callable[[str], Predictor] = load_model,
    progress: Progress | None = None,
) -> Path:
    """Evaluate models and return the path of results.md.

    Args:
        models: Folders or names; the first is compared with each of the others.
        options: Data set, limits, resamples.
        out: Folder to write to; earlier results in it are replaced.
        load: Makes a model of a name.
        progress: Called with (what, done, in all).

    Raises:
        UsageError: Wrong numbers or models.
        DataError: The data set cannot be used, or `out` is a file.
        WeightsError: A model cannot be loaded.
    """
    if out.exists() and not out.is_dir():
        raise DataError("the output is a file", where=str(out), expected="a folder")
    results, done, splits = evaluate(models, options, load=load, progress=progress)
    for entry, model in zip(results["models"], done, strict=True):
        entry["weights_sha256"] = weights_hash(model.model)
    results["provenance"] = provenance()
    plots = find_spec("matplotlib") is not None
    if not plots:
        results["note"] = "No plots: matplotlib is not installed (pip install 'glint-radiology[eval]')."
    write_results(results, out)
    if plots:
        from glint.eval.plots import write_plots

        write_plots(results, done, splits, out)
    return out / "results.md"
