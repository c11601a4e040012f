"""A small random model in a folder, a radiograph-like PNG, and the command as a function."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.io.conftest import make_scan

from glint.cli.main import run
from glint.config import load_config
from glint.config.schema import GlintConfig
from glint.io.volume_nifti import write_nifti
from glint.io.voxel_grid import VoxelGrid
from glint.model.folder import save_model
from glint.model.glint import GlintModel


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    status: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def glint(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `glint ...` in this process."""

    def command(*words: object, debug: bool = False) -> Done:
        capsys.readouterr()
        status = run([str(word) for word in words], debug=debug)
        return Done(status, *capsys.readouterr())

    return command


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model; do not change its files."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    save_model(GlintModel(load_config("smoke", ["data.size_px=64"])), folder, "# A card\n")
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A PNG of 90 x 80 pixels."""
    rows, columns = np.mgrid[:90, :80]
    pixels = 120 + 80 * np.sin(rows / 9) * np.cos(columns / 11)
    path = tmp_path / "chest.png"
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


AFFINE = np.array([[0, 0, 8.0, -128], [0, 8.0, 0, -104], [10.0, 0, 0, -100], [0, 0, 0, 1]])


def save_ct_model(folder: Path) -> Path:
    """Write an untrained model of CT whose gates are half open."""
    torch.manual_seed(0)
    volume = {"spacing_mm": [8, 8, 8], "crop": [16, 32, 32], "windows_hu": [[-1000, 1000]]}
    arch = {"patch_px": 8, "tubelet": 4, "width": 48, "depth": 1, "heads": 4}
    align = {"gate_bias_init": 0.0, "gate_scale_init": 1.0}
    cfg = {"data": {"volume": volume}, "vision": {"name": "vjepa", "arch": arch}, "align": align}
    save_model(GlintModel(GlintConfig.model_validate(cfg)), folder, "# A card\n")
    return folder


@pytest.fixture(scope="session")
def ct_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `save_ct_model`; do not change its files."""
    return save_ct_model(tmp_path_factory.mktemp("ct-model"))


def write_scan(path: Path, hu: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    write_nifti(path, hu, VoxelGrid(hu.shape, affine))  # pyright: ignore[reportArgumentType]
    return path


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    return write_scan(tmp_path / "scan.nii.gz", make_scan())
