"""Group the blocks of a phantom CT by what they show: a batch then holds one place of different bodies.

    python tools/group_blocks.py data/phantom-ct-blocks

Writes grouped.parquet beside manifest.parquet: the same studies, but those of `train` have their group for
`patient_id`, which `data.together` goes by. Blocks of one place differ in their findings and in little else; from
blocks of all places a model learns first that calcified coronaries mean "the heart is in the block"
(docs/experiments.md). Groups come from reports alone: which structures a report affirms, in 64 clusters (k-means).
"""

import re
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.cluster import MiniBatchKMeans

STRUCTURES = (
    "left lung",
    "right lung",
    "heart",
    "aorta",
    "trachea",
    "spine",
    "liver",
    "left clavicle",
    "right clavicle",
    "left scapula",
    "right scapula",
    "left upper lobe",
    "left lower lobe",
    "right upper lobe",
    "right middle lobe",
    "right lower lobe",
    "spleen",
    "stomach",
    "sternum",
)
GROUPS = 64
DENIES = re.compile(r"\b(no|not|without|absent)\b")


def main(folder: Path) -> None:
    """Write grouped.parquet."""
    table = pq.read_table(folder / "manifest.parquet")
    rows = table.to_pylist()
    shown = np.array([affirmed((folder / row["report"]).read_text()) for row in rows], dtype=np.float32)
    groups = MiniBatchKMeans(GROUPS, random_state=0, n_init=3).fit_predict(shown)
    owners = [
        f"place-{group:02d}" if row["split"] == "train" else row["patient_id"]
        for group, row in zip(groups, rows, strict=True)
    ]
    at = table.schema.get_field_index("patient_id")
    pq.write_table(table.set_column(at, "patient_id", pa.array(owners)), folder / "grouped.parquet")
    sizes = np.bincount(groups, minlength=GROUPS)
    print(
        f"{len(rows)} blocks in {GROUPS} groups of {sizes.min()} to {sizes.max()}: {folder / 'grouped.parquet'}"
    )


def affirmed(report: str) -> list[bool]:
    """Say of each of STRUCTURES whether the findings of a report name it without denying it."""
    findings = report.lower().split("impression")[0]
    told = [sentence for sentence in re.split(r"[.\n]", findings) if not DENIES.search(sentence)]
    return [any(name in sentence for sentence in told) for name in STRUCTURES]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
