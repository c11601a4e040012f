"""Plots of an evaluation (needs matplotlib, the `eval` extra) and pictures of its best, median and worst cases."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glint.atomic import write_whole
from glint.eval.examples import contact_sheet
from glint.eval.tables import TITLES
from glint.eval.tracks import Evaluated, Splits

SHOWN = ("auroc", "pointing", "dice_fixed", "dice_val")
DPI = 110


def write_plots(
    results: Mapping[str, Any], done: Sequence[Evaluated], splits: Splits, out: Path
) -> list[Path]:
    """Write all pictures into a folder and return their paths."""
    paths = [out / "per_finding.png", out / "reliability.png"]
    _save(per_finding(results["models"]), paths[0])
    _save(reliability(results["models"]), paths[1])
    for number, model in enumerate(done):
        path = out / f"examples_{number}.png"
        sheet = contact_sheet(model, splits.cases["test"])
        write_whole(path, lambda part, sheet=sheet: sheet.save(part, format="PNG"))
        paths.append(path)
    return paths


def per_finding(models: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw one panel a metric: bars of all models for each finding, with intervals."""
    kinds = list(models[0]["findings"]["test"])
    figure, axes = plt.subplots(len(SHOWN), 1, figsize=(11, 2.4 * len(SHOWN)), sharex=True)
    width = 0.8 / len(models)
    for axis, metric in zip(axes, SHOWN, strict=True):
        for number, model in enumerate(models):
            track = model["tracks"]["standard"]
            if metric in track:
                places = [i + (number + 0.5) * width - 0.4 for i in range(len(kinds))]
                _bars(
                    axis, places, [track[metric]["per_finding"][kind] for kind in kinds], width, model["name"]
                )
        axis.set_ylabel(TITLES[metric], fontsize=8)
        axis.set_ylim(0, 1)
        axis.grid(axis="y", alpha=0.3)
    axes[-1].set_xticks(
        range(len(kinds)), [kind.replace("_", " ") for kind in kinds], rotation=30, ha="right"
    )
    axes[0].legend(loc="lower right", fontsize=8)
    figure.suptitle("Standard test split, 95 % intervals over patients")
    figure.tight_layout()
    return figure


def _bars(
    axis: Axes,
    places: Sequence[float],
    entries: Sequence[Mapping[str, float | None]],
    width: float,
    name: str,
) -> None:
    values = [entry["value"] or 0.0 for entry in entries]
    below = [
        max(0.0, v - (v if e["low"] is None else e["low"])) for v, e in zip(values, entries, strict=True)
    ]
    above = [
        max(0.0, (v if e["high"] is None else e["high"]) - v) for v, e in zip(values, entries, strict=True)
    ]
    axis.bar(places, values, width, yerr=[below, above], label=name, error_kw={"lw": 0.8})


def reliability(models: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw observed share of positives against mean score."""
    figure, axis = plt.subplots(figsize=(4.5, 4.5))
    axis.plot([0, 1], [0, 1], color="0.6", lw=1)
    for model in models:
        found = model["reliability"]
        axis.plot(
            found["mean_score"], found["observed"], "o-", label=f"{model['name']} (ECE {found['ece']:.3f})"
        )
    axis.set_xlabel("mean score of headline queries")
    axis.set_ylabel("share of images with the finding")
    axis.legend(fontsize=8)
    figure.tight_layout()
    return figure


def _save(figure: Figure, path: Path) -> None:
    write_whole(path, lambda part: figure.savefig(part, dpi=DPI, format="png"))
    plt.close(figure)
