"""Turn a finished run into a packaged demo model: fp16 weights, recipe, model card with its measured scores.

    python tools/package_model.py runs/phantom-ct/model runs/phantom-ct/eval/results.json

Writes src/glint/weights/<name of the recipe>/. Calibrate first: glint evaluate ... --calibrate.
"""

import json
import sys
from pathlib import Path
from typing import Any

from glint.model.folder import PACKAGED, load_model, save_model
from glint.train.card import write_card

METRICS = {
    "auroc": "AUROC",
    "pointing": "pointing game",
    "dice_fixed": "Dice at the fixed threshold 0.5",
    "dice_val": "Dice at the threshold tuned on validation",
    "contradiction_no_x": '"No X." below "X." where X is',
}


def main(model_folder: Path, results_file: Path) -> None:
    """Package one model."""
    model = load_model(model_folder)
    results = json.loads(results_file.read_text())
    folder = PACKAGED / model.cfg.name
    save_model(model, folder, write_card(model.cfg) + scores(results), half=True)
    print(folder, sum(f.stat().st_size for f in folder.iterdir()) // 1024, "kB")


def scores(results: dict[str, Any]) -> str:
    """Return the card's section on what the model scores, by track."""
    lines = [
        "\n## What it scores\n",
        f"On the phantom test set ({results['provenance']['date'][:10]}), macro averages over all findings, or over",
        "structures (anatomy), with 95 % patient-level bootstrap intervals. The phantom is made from one patient's CT:",
        "this says nothing about patients.\n",
        "| track | metric | value |",
        "|---|---|---|",
    ]
    for track, metrics in results["models"][0]["tracks"].items():
        for key, name in METRICS.items():
            entry = metrics.get(key, {}).get("macro")
            if entry and entry["value"] is not None:
                lines.append(
                    f"| {track} | {name} | {entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}] |"
                )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
