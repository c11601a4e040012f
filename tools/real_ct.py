"""Ask a CT model about the real CT of the demo, at full resolution, and compare with its truth.

python tools/real_ct.py MODEL [--refine guided] [--threshold 0.5] [--overlap 0.5] [--png OUT.png]
"""

import argparse
import resource
import time
from pathlib import Path

from glint.infer.real_ct import evaluate_real_ct
from glint.infer.volume import VolumeOptions
from glint.model.folder import load_model


def main() -> None:
    """Print Dice and hits, time and peak memory; write the montage when asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="model folder, or the name of a packaged model")
    parser.add_argument("--refine", default="none")
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--min-ml", type=float, default=0.05)
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--png", type=Path)
    given = parser.parse_args()
    options = VolumeOptions(given.threshold, given.min_ml, given.refine, given.overlap)
    model = load_model(given.model)
    start = time.perf_counter()
    answers, verdicts = evaluate_real_ct(model, name=given.model, options=options)
    seconds = time.perf_counter() - start
    print("| truth | ml | Dice | point inside | score | mask ml | side |\n|---|--:|--:|---|--:|--:|---|")
    rows: list[tuple[str, ...]] = [
        (f"{a.score:.3f}", f"{a.volume_ml or 0:.0f}", a.laterality or "-") for a in answers
    ]
    for verdict, row in zip(verdicts, [*rows, ("-", "-", "-")], strict=True):
        hit = {True: "yes", False: "no", None: "-"}[verdict.hit]
        print(f"| {verdict.name} | {verdict.truth_ml:.0f} | {verdict.dice:.3f} | {hit} | {' | '.join(row)} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\n{len(answers)} queries in {seconds:.0f} s with reading and truth; peak {peak:.1f} GiB")
    for note in answers.notes:
        print(f"note: {note}")
    if given.png:
        answers.save(given.png)


if __name__ == "__main__":
    main()
