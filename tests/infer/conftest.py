"""Models that point where the image is bright, and count how often they are asked; scans of a made-up patient."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from glint.config.schema import GlintConfig
from glint.io.grid_chain import GridChain
from glint.io.volume import Provenance, Volume
from glint.io.voxel_grid import VoxelGrid
from glint.model.align import Patches
from glint.model.glint import GlintModel, Prediction


class Vision:
    """Says how many pixels a token has."""

    patch = (16, 16)


@dataclass
class BrightSpotModel:
    """Maps are the brightness of each token; scores their maximum."""

    cfg: GlintConfig = field(default_factory=GlintConfig)
    vision: Vision = field(default_factory=Vision)
    calls: list[tuple[Tensor, Tensor | None, list[str]]] = field(default_factory=list)

    def predict(self, images: Tensor, valid: Tensor | None, queries: list[str]) -> Prediction:
        """Answer every query alike."""
        self.calls.append((images, valid, queries))
        tokens = F.avg_pool2d(images, 16)
        maps = tokens.flatten(1)[None].expand(len(queries), -1, -1)
        return Prediction(maps.amax(-1), maps, maps, (tokens.shape[2], tokens.shape[3]))


@pytest.fixture
def model() -> BrightSpotModel:
    """A fresh model."""
    torch.manual_seed(0)
    return BrightSpotModel()


CT = {"spacing_mm": [4, 4, 4], "crop": [16, 24, 24], "windows_hu": [[-1000, 1000]]}


class Voxels:
    """An encoder whose token is the mean of its voxels."""

    patch = (2, 2, 2)

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, images: Tensor) -> Any:
        self.calls += 1
        tokens = F.avg_pool3d(images, 2)
        return SimpleNamespace(tokens=tokens.flatten(2).transpose(1, 2), grid=tuple(tokens.shape[2:]))


class HUModel:
    """Its gate follows the density: closed below 200 HU, open from 600 HU. Every query is answered alike."""

    opens, width = 0.6, 0.2

    def __init__(self, **volume: Any) -> None:
        self.cfg = GlintConfig.model_validate({"data": {"volume": CT | volume}})
        self.vision = Voxels()
        self.asked: list[int] = []

    def project(self, tokens: Tensor, valid: Tensor | None) -> Patches:
        assert valid is not None
        return Patches(tokens, None, valid)

    def align_patches(self, patches: Patches, queries: list[str]) -> Any:
        self.asked.append(len(queries))
        gate = ((patches.values[..., 0] - self.opens) / self.width).clamp(0, 1) * patches.valid
        maps = gate[None].expand(len(queries), -1, -1)
        return SimpleNamespace(scores=maps.sum(-1) / (1 + maps.sum(-1)), maps=maps, evidence=maps, null=None)

    def calibrated(self, raw: Tensor, queries: list[str]) -> Tensor:
        return raw.sigmoid()


@pytest.fixture
def hu_model() -> Callable[..., HUModel]:
    """Make a model of dense places; settings of data.volume may be given."""
    return HUModel


@pytest.fixture(scope="session")
def ct_model() -> GlintModel:
    """A real model with random weights and a tiny V-JEPA; its gate is as at the start of training."""
    torch.manual_seed(0)
    volume = {"spacing_mm": [6, 6, 6], "crop": [16, 32, 32], "windows_hu": [[-1000, 1000]]}
    arch = {"patch_px": 8, "tubelet": 4, "width": 48, "depth": 2, "heads": 4}
    cfg = {"data": {"volume": volume}, "vision": {"name": "vjepa", "arch": arch}}
    return GlintModel(GlintConfig.model_validate(cfg)).eval()


def make_patient(grid: VoxelGrid, blob_lps_mm: tuple[float, float, float], sigma_mm: float = 9.0) -> Volume:
    """Return a body with two lungs and a dense Gaussian blob, on any grid; the middle of the patient is at 0."""
    index = np.stack(np.meshgrid(*[np.arange(side) for side in grid.shape], indexing="ij"), -1).reshape(-1, 3)
    x, y, z = grid.to_lps(index.astype(np.float64)).T
    hu = np.where((x / 150) ** 2 + (y / 100) ** 2 < 1, 30.0, -1000.0)
    for side in (-65, 65):
        hu[((x - side) / 45) ** 2 + (y / 70) ** 2 + (z / 100) ** 2 < 1] = -800
    apart = sum((a - b) ** 2 for a, b in zip((x, y, z), blob_lps_mm, strict=True))
    share = np.exp(-apart / (2 * sigma_mm**2))
    values: NDArray[np.float32] = (hu * (1 - share) + 2000 * share).reshape(grid.shape).astype(np.float32)
    return Volume(values, None, Provenance(Path("made"), "made"), GridChain.begin(grid))


@pytest.fixture
def patient() -> Callable[..., Volume]:
    """See `make_patient`."""
    return make_patient


def straight_grid(spacing_mm: tuple[float, float, float] = (4, 4, 4)) -> VoxelGrid:
    """Return a canonical grid of 200 x 240 x 340 mm around 0."""
    z, y, x = (round(mm / s) for mm, s in zip((200, 240, 340), spacing_mm, strict=True))
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing_mm[::-1])[:, ::-1]
    affine[:3, 3] = [-s * (n - 1) / 2 for s, n in zip(spacing_mm[::-1], (x, y, z), strict=True)]
    return VoxelGrid((z, y, x), affine)


@pytest.fixture
def grid() -> VoxelGrid:
    """A canonical grid, 4 mm."""
    return straight_grid()
