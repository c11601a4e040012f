"""Put the results of several training seeds into one Markdown table.

    python tools/seed_table.py runs/ablation [--track standard] [--out docs/table.md]

Reads every RUNS/{method}-s{seed}/eval/results.json. For each method and metric: mean over seeds, the least and
the largest value, and a 95 % t-interval of the mean. Then the difference of the first method (--reference, default
glint) and each other one, paired by seed, with its own t-interval and the p-value of a paired t-test. These
intervals speak of training again; those inside results.json speak of other patients.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import t as student

from glint.atomic import write_text

METRICS = {
    "auroc": "AUROC",
    "pointing": "pointing",
    "dice_fixed": "Dice at 0.5",
    "dice_val": "Dice, val threshold",
    "miou_fixed": "mIoU at 0.5",
    "contradiction": "contradictions below",
    "open_present": "open, present",
    "open_absent": "open, absent",
}
RUN = re.compile(r"(?P<method>.+)-s(?P<seed>\d+)")
AVERAGES = {"macro": "all findings", "macro_without_nodule": "without nodules"}
Values = dict[str, dict[int, float]]  # method -> seed -> value


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its 95 % t-interval; NaN bounds for a single seed."""

    value: float
    low: float
    high: float
    p: float

    def text(self, signed: bool = False) -> str:
        """Return "0.912 [0.900, 0.924]"."""
        value = f"{self.value:+.3f}" if signed else f"{self.value:.3f}"
        return value if math.isnan(self.low) else f"{value} [{self.low:.3f}, {self.high:.3f}]"


def mean_of(values: Sequence[float]) -> Mean:
    """Return mean, 95 % t-interval and two-sided p-value of "the mean is 0"."""
    count, mean = len(values), sum(values) / len(values)
    if count < 2:
        return Mean(mean, math.nan, math.nan, math.nan)
    error = math.sqrt(sum((v - mean) ** 2 for v in values) / (count - 1) / count)
    half = float(student.ppf(0.975, count - 1)) * error
    if error == 0:
        return Mean(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    return Mean(mean, mean - half, mean + half, float(2 * student.sf(abs(mean) / error, count - 1)))


def read(runs: Path, track: str) -> dict[tuple[str, str], Values]:
    """Return (metric, average) -> method -> seed -> value."""
    found: dict[tuple[str, str], Values] = {}
    hashes: dict[str, Path] = {}
    for path in sorted(runs.glob("*/eval/results.json")):
        named = RUN.fullmatch(path.parent.parent.name)
        if named is None:
            continue
        results = json.loads(path.read_text())
        hashes[json.dumps([results["data"]["sha256"], results["settings"]["limit"]], sort_keys=True)] = path
        for metric, entry in results["models"][0]["tracks"].get(track, {}).items():
            for average in AVERAGES.keys() & entry.keys():
                if entry[average]["value"] is not None:
                    values = found.setdefault((metric, average), {}).setdefault(named["method"], {})
                    values[int(named["seed"])] = entry[average]["value"]
    if len(hashes) > 1:
        sys.exit("these runs were measured on different data:\n" + "\n".join(map(str, hashes.values())))
    return found


def method_order(found: dict[tuple[str, str], Values], reference: str) -> list[str]:
    """Return the reference, then the others by name."""
    methods = {method for values in found.values() for method in values}
    return sorted(methods, key=lambda method: (method != reference, method))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def means(found: dict[tuple[str, str], Values], methods: Sequence[str], average: str) -> str:
    """Return the table of means."""
    shown = [metric for metric in METRICS if (metric, average) in found]
    rows: list[list[str]] = []
    for method in methods:
        seeds = sorted({s for m in shown for s in found[m, average].get(method, {})})
        cells = [_cell(list(found[metric, average].get(method, {}).values())) for metric in shown]
        rows.append([method, ", ".join(map(str, seeds)), *cells])
    return table(["method", "seeds", *(METRICS[m] for m in shown)], rows)


def _cell(values: list[float]) -> str:
    return f"{mean_of(values).text()}, {min(values):.3f} to {max(values):.3f}" if values else "-"


def differences(found: dict[tuple[str, str], Values], methods: Sequence[str], average: str) -> str:
    """Return the table of paired differences, reference minus other."""
    reference, *others = methods
    shown = [metric for metric in METRICS if (metric, average) in found]
    rows: list[list[str]] = []
    for other in others:
        cells: list[str] = []
        for metric in shown:
            one, two = (found[metric, average].get(name, {}) for name in (reference, other))
            pairs = [one[seed] - two[seed] for seed in sorted(one.keys() & two.keys())]
            found_mean = mean_of(pairs) if pairs else None
            p = "" if found_mean is None or math.isnan(found_mean.p) else f", p {found_mean.p:.3f}"
            cells.append("-" if found_mean is None else found_mean.text(signed=True) + p)
        rows.append([f"{reference} - {other}", *cells])
    return table(["paired by seed", *(METRICS[m] for m in shown)], rows) if rows else ""


def page(runs: Path, track: str, reference: str) -> str:
    """Return the whole Markdown text."""
    found = read(runs, track)
    if not found:
        sys.exit(f"no RUNS/METHOD-sSEED/eval/results.json with a track '{track}' under {runs}")
    methods = method_order(found, reference)
    parts = [f"Track: {track}. Mean over seeds [95 % t-interval], least to largest."]
    for average, title in AVERAGES.items():
        if not any(key == average for _, key in found):
            continue
        parts += [f"### Macro average, {title}", means(found, methods, average)]
        parts.append(differences(found, methods, average))
    return "\n\n".join(part for part in parts if part) + "\n"


def main() -> None:
    """Read the arguments, print or write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path)
    parser.add_argument("--track", default="standard")
    parser.add_argument("--reference", default="glint")
    parser.add_argument("--out", type=Path, help="file to write; printed otherwise")
    args = parser.parse_args()
    text = page(args.runs, args.track, args.reference)
    if args.out is None:
        print(text, end="")
        return
    write_text(args.out, text)


if __name__ == "__main__":
    main()
