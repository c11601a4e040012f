"""Fixtures shared by all tests: a tiny data set of noise images with reports, and a recipe that trains in seconds."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import settings
from PIL import Image

from glint.config import GlintConfig, load_config

# How long an example takes says more about what else runs on the machine than about our code.
settings.register_profile("glint", deadline=None)
settings.load_profile("glint")

FINDINGS = ("pleural effusion", "pneumothorax", "consolidation", "cardiomegaly")


def write_pairs(folder: Path, counts: dict[str, int], size: tuple[int, int] = (72, 64)) -> Path:
    """Write noise images with a bright square where the report says so; return the manifest."""
    rng, wording = np.random.default_rng(0), random.Random(0)
    (folder / "images").mkdir(parents=True)
    (folder / "reports").mkdir()
    rows = []
    for split, count in counts.items():
        for i in range(count):
            name = f"{split}{i:03d}"
            pixels = rng.integers(0, 120, size)
            lines = []
            for k, finding in enumerate(FINDINGS):
                present = wording.random() < 0.5
                if present:
                    pixels[8 + 14 * k : 18 + 14 * k, 8 + 14 * k : 18 + 14 * k] = 230
                lines.append(f"There is a {finding}." if present else f"No {finding}.")
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{name}.png")
            (folder / "reports" / f"{name}.txt").write_text("FINDINGS: " + " ".join(lines))
            rows.append({"study_id": name, "patient_id": name, "split": split, "view": "PA"})
            rows[-1] |= {"image": f"images/{name}.png", "report": f"reports/{name}.txt"}
    manifest = folder / "manifest.parquet"
    pq.write_table(pa.Table.from_pylist(rows), manifest)
    return manifest


@pytest.fixture(scope="session")
def pairs_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of 40 training, 10 validation and 6 test studies; do not change its files."""
    return write_pairs(tmp_path_factory.mktemp("pairs"), {"train": 40, "val": 10, "test": 6})


@pytest.fixture
def own_manifest(tmp_path: Path) -> Path:
    """A fresh data set of 24 training studies, to be damaged by a test."""
    return write_pairs(tmp_path / "own", {"train": 24, "val": 4})


@pytest.fixture
def tiny_cfg(pairs_manifest: Path, tmp_path: Path) -> GlintConfig:
    """The smoke recipe made smaller: 6 steps of 8 images of 64 pixels."""
    return load_config(
        "smoke",
        [
            f"data.manifest={pairs_manifest}",
            f"train.out={tmp_path / 'run'}",
            "data.size_px=64",
            "data.sentences_per_image=3",
            "vision.arch.widths=[8, 8, 16, 16]",
            "vision.arch.neck_width=16",
            "train.steps=6",
            "train.batch_size=8",
            "train.log_every=1",
            "train.val_every=3",
            "train.save_every=2",
            "train.device=cpu",
            "optim.warmup_steps=2",
        ],
    )


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Bit-exact comparisons need the same reduction order; two cores are shared with other work."""
    torch.set_num_threads(1)
