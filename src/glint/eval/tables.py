"""Results as files: results.json for programs, results.md for readers. Written whole or not at all."""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from glint.atomic import write_text

# metric -> column title; the order is that of the tables.
TITLES = {
    "auroc": "AUROC",
    "pointing": "pointing",
    "pointing_near": "pointing, 1 patch tolerance",
    "pointing_smooth": "pointing of `glint ground`",
    "dice_fixed": "Dice at 0.5",
    "dice_val": "Dice, val threshold",
    "dice_val_per_finding": "Dice, val threshold per finding",
    "dice_oracle": "Dice, ORACLE threshold (chosen on test)",
    "miou_fixed": "mIoU at 0.5",
    "miou_biovil": "mIoU, BioViL",
    "dice_guided_fixed": "Dice at 0.5, guided",
    "dice_guided_val": "Dice, val threshold, guided",
    "aupr": "AUPR of voxels",
    "hit_005": "hit rate, Dice 0.05",
    "hit_010": "hit rate, Dice 0.1",
}
PARTS = {
    f"{name}_{rate}": f"{name} {rate}"
    for name in ("instance", "distance")
    for rate in ("precision", "recall", "f1")
}
"""Of parts of masks, volumes only (volume_metrics.py)."""
SPECIFICITY = {
    "area_absent": "mask area where absent",
    "false_mask_rate": "absent with any mask",
    "open_present": "open fraction, present",
    "open_absent": "open fraction, absent",
    "map_overlap": "map overlap with other queries",
}
NEGATION = {
    "contradiction_no_x": '"No {x}." below "{x}"',
    "contradiction": "all denials below",
    "auroc_denial": "AUROC of denials for absence",
}
PER_FINDING = ("auroc", "pointing", "dice_fixed", "dice_val", "miou_fixed")
PACKAGES = ("glint-radiology", "torch", "numpy", "scipy", "transformers", "pydicom", "pillow")
Model = Mapping[str, Any]


def write_results(results: Mapping[str, Any], folder: Path) -> None:
    """Write results.json and results.md."""
    write_text(folder / "results.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    write_text(folder / "results.md", markdown(results))


def provenance() -> dict[str, Any]:
    """Return how results came about: command, versions, machine, date."""
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}},
        "machine": {"system": platform.platform(), "cpus": os.cpu_count(), "threads": _threads()},
    }


def weights_hash(model: Any) -> str:
    """Return a sha256 of all tensors of a model, by name; "" for a model that has none."""
    if not hasattr(model, "state_dict"):
        return ""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def number(entry: Mapping[str, float | None] | None, *, signed: bool = False) -> str:
    """Return "0.912 [0.900, 0.924]", or a dash."""
    if entry is None or entry["value"] is None:
        return "-"
    value = f"{entry['value']:+.3f}" if signed else f"{entry['value']:.3f}"
    if entry["low"] is None:
        return value
    return f"{value} [{entry['low']:.3f}, {entry['high']:.3f}]"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def markdown(results: Mapping[str, Any]) -> str:
    """Return the whole page."""
    parts = [f"# {results['task']}", _head(results)]
    for model in results["models"]:
        parts.append(f"## {model['name']}")
        parts += [
            _summary(model, "macro", "all findings", TITLES),
            _summary(model, "macro_without_nodule", "without nodules", TITLES),
            _summary(model, "macro", "parts of masks", PARTS),
        ]
        parts += [
            _per_finding(model, results),
            _specificity(model),
            _negation(model),
            _gaps(model),
            _footer(model),
        ]
    if results["comparisons"]:
        parts.append(_comparisons(results["comparisons"]))
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(results: Mapping[str, Any]) -> str:
    data = results["data"]
    counts = ", ".join(
        f"{split}: {count} studies of {data['patients'][split]} patients"
        for split, count in data["studies"].items()
    )
    how = results.get("provenance", {})
    lines = [
        f"Data: {data['folder']} ({counts}). Brackets are 95 % intervals of a bootstrap over patients "
        f"({results['settings']['bootstrap']} resamples). What each number means: docs/evaluation.md.",
        f"Made by `{how.get('command', '')}` on {how.get('date', '')}.",
    ]
    lines += [results["note"]] if "note" in results else []
    if results["settings"]["limit"]:
        lines.insert(0, f"**Only the first {results['settings']['limit']} studies of each split.**")
    return "\n\n".join(lines)


def _summary(model: Model, average: str, title: str, titles: Mapping[str, str]) -> str:
    """Return a table of averages: metrics that no track has are left out, and tracks that have none."""
    tracks = {name: track for name, track in model["tracks"].items() if titles.keys() & track.keys()}
    shown = [metric for metric in titles if any(metric in track for track in tracks.values())]
    rows = [
        [name, *(number(track.get(metric, {}).get(average)) for metric in shown)]
        for name, track in tracks.items()
        if any(average in track.get(metric, {}) for metric in shown)
    ]
    if not rows:
        return ""
    return f"### Macro average, {title}\n\n" + table(["track", *(titles[m] for m in shown)], rows)


def _per_finding(model: Model, results: Mapping[str, Any]) -> str:
    parts: list[str] = []
    for name, track in model["tracks"].items():
        shown = [metric for metric in PER_FINDING if metric in track]
        if name == "standard, same kinds" or not shown:
            continue
        split = "test_combo" if name.startswith("new combinations") else "test"
        counts = model["structures"] if name == "anatomy" else model["findings"][split]
        of = "" if name == "new combinations only" else f" (n of {results['data']['studies'][split]})"
        rows = [
            [
                kind + ("" if not of else f" ({counts[kind]})"),
                *(number(track[m]["per_finding"][kind]) for m in shown),
            ]
            for kind in track[shown[0]]["per_finding"]
        ]
        parts.append(
            f"### Per finding: {name}\n\n" + table([f"finding{of}", *(TITLES[m] for m in shown)], rows)
        )
    return "\n\n".join(parts)


def _specificity(model: Model) -> str:
    track = model["tracks"]["standard"]
    shown = [metric for metric in SPECIFICITY if metric in track]
    rows = [["all findings", *(number(track[m]["macro"]) for m in shown)]]
    rows += [
        [kind, *(number(track[m]["per_finding"][kind]) for m in shown)]
        for kind in track[shown[0]]["per_finding"]
    ]
    return "### Specificity of maps (standard)\n\n" + table(
        ["finding", *(SPECIFICITY[m] for m in shown)], rows
    )


def _negation(model: Model) -> str:
    rows = [
        [name, *(number(track[m]["macro"]) if m in track else "-" for m in NEGATION)]
        for name, track in model["tracks"].items()
        if "contradiction" in track and name != "standard, same kinds"
    ]
    return "### Sentences that contradict the image\n\n" + table(["track", *NEGATION.values()], rows)


def _gaps(model: Model) -> str:
    rows = [
        [
            f"{g['track']} - {g['reference']}",
            _title(g),
            number(g, signed=True),
            _p(g),
        ]
        for g in model["gaps"]
        if g["average"] == "macro"
    ]
    if not rows:
        return ""
    return "### Change against the reference\n\n" + table(["tracks", "metric", "difference", "p"], rows)


def _footer(model: Model) -> str:
    return (
        f"Threshold from validation: {model['thresholds_from_val']['common']:.2f}. "
        f"Calibration of headline scores on test: ECE {model['reliability']['ece']:.3f}, "
        f"Brier {model['reliability']['brier']:.3f}. Evaluated in {model['seconds']:.0f} s."
    )


def _comparisons(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        [
            r["model"],
            r["against"],
            r["track"],
            _title(r),
            number(r, signed=True),
            _p(r),
        ]
        for r in rows
        if r["average"] == "macro"
    ]
    header = ["model", "against", "track", "metric", "difference of macro averages", "p"]
    return "## Comparison (paired, same resamples)\n\n" + table(header, lines)


def _title(row: Mapping[str, Any]) -> str:
    metric = str(row["metric"])
    return TITLES.get(metric) or PARTS.get(metric) or NEGATION.get(metric) or metric


def _p(row: Mapping[str, Any]) -> str:
    return "-" if row["p"] is None else f"{row['p']:.3f}"
