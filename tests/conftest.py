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
from glint.io.volume_nifti import write_nifti
from glint.io.voxel_grid import VoxelGrid

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


def write_scan(path: Path, shape: tuple[int, int, int], spots: list[int], seed: int) -> None:
    """Write a body of 12 mm voxels with gas inside and a dense cube for each finding."""
    hu = np.random.default_rng(seed).integers(20, 60, shape).astype(np.int16)
    hu[:, 4:-4, 4:-4] = -850
    for k in spots:
        hu[2:5, 4 + 3 * k : 6 + 3 * k, 5:9] = 400
    affine = np.eye(4)
    affine[:3, :3] = np.diag((12.0, 12.0, 12.0))[:, ::-1]
    write_nifti(path, hu, VoxelGrid(shape, affine))


def write_ct_pairs(folder: Path, counts: dict[str, int]) -> Path:
    """Write scans of several sizes with reports in the words of `write_pairs`; return the manifest."""
    wording = random.Random(0)
    (folder / "images").mkdir(parents=True)
    (folder / "reports").mkdir()
    rows = []
    for split, count in counts.items():
        for i in range(count):
            name = f"{split}{i:03d}"
            present = [k for k in range(3) if wording.random() < 0.5]
            write_scan(folder / "images" / f"{name}.nii.gz", (8 + i % 3, 18, 22 + i % 2), present, i)
            lines = [f"There is a {f}." if k in present else f"No {f}." for k, f in enumerate(FINDINGS[:3])]
            (folder / "reports" / f"{name}.txt").write_text(" ".join(lines))
            rows.append({"study_id": name, "patient_id": f"p{i // 4}", "split": split})
            rows[-1] |= {"image": f"images/{name}.nii.gz", "report": f"reports/{name}.txt"}
    manifest = folder / "manifest.parquet"
    pq.write_table(pa.Table.from_pylist(rows), manifest)
    return manifest


@pytest.fixture(scope="session")
def ct_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of 12 training and 5 validation scans of about 100 x 216 x 264 mm; do not change its files."""
    return write_ct_pairs(tmp_path_factory.mktemp("ct"), {"train": 12, "val": 5})


@pytest.fixture
def tiny_ct_cfg(ct_manifest: Path, tmp_path: Path) -> GlintConfig:
    """The recipe of the CT demo made smaller: 4 steps of 4 scans, 16 x 24 x 24 voxels of 12 mm."""
    return load_config(
        "phantom-ct",
        [
            f"data.manifest={ct_manifest}",
            f"train.out={tmp_path / 'run'}",
            "data.volume.spacing_mm=[12, 12, 12]",
            "data.volume.crop=[16, 24, 24]",
            "data.together=2",
            "vision.init=''",
            "vision.arch={widths: [8, 8, 16], depths: [0, 1, 1], coarsest_stride: 4, token_stride: 4, neck_width: 16}",
            "vision.arch.mean=[0.4, 0.4, 0.5]",
            "vision.arch.std=[0.3, 0.4, 0.3]",
            "text.adapter_hidden=64",
            "loss.dfr=0",
            "pretrain.mask_block_px=8",
            "train.steps=4",
            "train.batch_size=4",
            "train.log_every=1",
            "train.val_every=2",
            "train.save_every=2",
            "train.device=cpu",
            "train.precision=fp32",  # on any machine: auto is bf16 where there is AMX
            "optim.warmup_steps=2",
        ],
    )


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
            "train.precision=fp32",  # on any machine: auto is bf16 where there is AMX
            "optim.warmup_steps=2",
        ],
    )


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Bit-exact comparisons need the same reduction order; two cores are shared with other work."""
    torch.set_num_threads(1)
