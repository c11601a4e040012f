"""Train and evaluate the methods of the comparison table: same data, steps and seeds for every one of them.

    glint pretrain phantom-cxr-pretrain
    python tools/ablation.py phantom-cxr --steps 300 --seeds 0 1 2 [--only glint vlcabs]

Each run is the recipe of the demo model, shorter, with one thing changed. On CT: phantom-ct-pretrain, phantom-ct.
Every finished run is kept (its results.json) and skipped when the command is repeated, so that an interrupted
table goes on where it stopped. Then: python tools/seed_table.py runs/ablation-phantom-cxr.
"""

import argparse
import subprocess
import sys
from pathlib import Path

# name -> overrides of the recipe; the first is the method, the others change one thing each.
METHODS: dict[str, list[str]] = {
    "glint": [],
    "vlcabs": ["align.type=vlcabs"],
    "global": ["align.type=global"],
    "glint-no-dfr": ["loss.dfr=0"],
    "glint-softmax": ["align.gate_activation=softmax"],
    "glint-no-ssl": ["vision.init=''", "loss.dfr=0"],
    "glint-shared-space": ["align.gate_space=shared"],
    "glint-null-mass": ["align.pool=null_mass"],
    "glint-l2-mean": ["align.pool=l2_mean"],
    "glint-all-tokens": ["align.token_keep=1.0"],
    "glint-eps4": ["align.eps0=4.0"],
    "glint-augmented": ["data.augment=1.0"],
    "glint-one-by-one": ["data.together=1"],
    "glint-false-negatives": ["loss.false_negatives=keep"],
}


def main() -> None:
    """Run what is missing, one process after another."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", choices=["phantom-cxr", "phantom-ct"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--data", type=Path, help="default: data/RECIPE")
    parser.add_argument("--out", type=Path, help="default: runs/ablation-RECIPE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=sorted(METHODS), default=list(METHODS))
    parser.add_argument("--set", nargs="*", default=[], help="overrides for every run, key=value")
    args = parser.parse_args()
    data = args.data or Path("data") / args.recipe
    out = args.out or Path("runs") / f"ablation-{args.recipe}"
    for seed in args.seeds:
        for method in args.only:
            run = out / f"{method}-s{seed}"
            if (run / "eval" / "results.json").is_file():
                continue
            overrides = [
                f"data.manifest={data / 'manifest.parquet'}",
                f"train.steps={args.steps}",
                "train.val_every=0",
                f"train.out={run}",
                f"train.seed={seed}",
                f"name={method}",
                *METHODS[method],
                *args.set,
            ]
            glint("train", args.recipe, *overrides)
            where = ["--data", str(data), "--model", str(run / "model"), "--out", str(run / "eval")]
            # Fitted on pairs: where the map of a method is cut is not what methods are compared for.
            glint("evaluate", args.recipe, *where, "--calibrate")


def glint(*arguments: str) -> None:
    """Call the command line; a failing run stops the table."""
    subprocess.run([sys.executable, "-m", "glint", *arguments], check=True)


if __name__ == "__main__":
    main()
