"""A new patient from the base volume: smooth deformation, size, habitus and density.

All randomness is drawn on the CPU from one seed, so that a patient is the same on every device. Axes
(Z, Y, X): +X = patient left, +Y = posterior, +Z = superior. Displacements say, in mm of the base volume,
where a voxel of the new patient is fetched from.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from glint.phantom.base import LABELS, LUNG_LEFT, LUNG_RIGHT, Base

LUNG_CODES = tuple(LABELS[name] for name in (*LUNG_LEFT, *LUNG_RIGHT))
CONTROL_POINTS = (6, 5, 6)  # of the random field, along z, y, x
SHELL_LIMIT_MM = 60.0


@dataclass(frozen=True)
class Anatomy:
    """One patient without findings.

    Attributes:
        hu: (Z, Y, X) float32, Hounsfield units; -1000 outside the body.
        labels: (Z, Y, X) uint8, codes of phantom/base.py LABELS.
        lung_depth_mm: (Z, Y, X) float32, distance to the surface of the own lung, 0 outside lungs. It is
            deformed with the patient rather than measured again, so it is right within about 15 %.
        spacing_mm: (z, y, x); carries the size of the patient.
        seed: What the patient was made from.
    """

    hu: Tensor
    labels: Tensor
    lung_depth_mm: Tensor
    spacing_mm: tuple[float, float, float]
    seed: int

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml."""
        return math.prod(self.spacing_mm) / 1000


@dataclass(frozen=True)
class Build:
    """What is drawn for one patient, apart from the random field.

    Attributes:
        scale: Size relative to the base along (z, y, x).
        roughness_mm: Standard deviation of the random field's control points.
        dome_mm: How far the (right, left) hemidiaphragm stands higher.
        heart: Size of the heart relative to the base.
        habitus: Thickness of the soft tissue outside the skeleton relative to the base.
        lung_hu: Offset of the lung parenchyma.
        vessel_gain: Contrast of the lung's vessels.
        soft_hu: Offset of soft tissue.
        bone_gain: Density of bone relative to the base.
    """

    scale: tuple[float, float, float]
    roughness_mm: float
    dome_mm: tuple[float, float]
    heart: float
    habitus: float
    lung_hu: float
    vessel_gain: float
    soft_hu: float
    bone_gain: float


def sample_build(generator: torch.Generator) -> Build:
    """Draw one patient's build."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    size = uniform(0.92, 1.08)
    dome = uniform(-26, 12)
    return Build(
        scale=(size * uniform(0.93, 1.07), size * uniform(0.9, 1.12), size * uniform(0.92, 1.06)),
        roughness_mm=uniform(4, 11),
        dome_mm=(dome + uniform(-4, 6), dome + uniform(-8, 4)),
        heart=uniform(0.9, 1.05),
        habitus=uniform(0.35, 1.7),
        lung_hu=uniform(-30, 45),
        vessel_gain=uniform(0.9, 1.8),
        soft_hu=uniform(-20, 15),
        bone_gain=uniform(0.85, 1.5),
    )


def sample_anatomy(base: Base, seed: int, device: str | torch.device = "cpu") -> Anatomy:
    """Make one patient.

    Args:
        base: From load_base.
        seed: The patient; equal seeds give equal patients.
        device: Where the volume is made and stays.

    Returns:
        The patient, on the voxel grid of the base with a spacing of its own.
    """
    generator = torch.Generator().manual_seed(seed)
    build = sample_build(generator)
    displacement_mm = _displacement(base, build, generator)
    grid = _sampling_grid(base, displacement_mm.to(device))

    volumes = np.stack([base.hu.astype(np.float32), base.lung_depth_mm])
    fetched = F.grid_sample(
        torch.from_numpy(volumes).to(device)[None],
        grid,
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )[0]
    codes = torch.from_numpy(base.labels).to(device, torch.float32)[None, None]
    labels = F.grid_sample(codes, grid, mode="nearest", padding_mode="border", align_corners=True)[0, 0]
    labels = labels.to(torch.uint8)
    in_lung = _in_lung(labels)
    size = float(np.prod(build.scale)) ** (1 / 3)
    z_mm, y_mm, x_mm = (s * k for s, k in zip(base.spacing_mm, build.scale, strict=True))
    return Anatomy(
        hu=_change_density(fetched[0], in_lung, build),
        labels=labels,
        lung_depth_mm=fetched[1] * in_lung * size,
        spacing_mm=(z_mm, y_mm, x_mm),
        seed=seed,
    )


def _in_lung(labels: Tensor) -> Tensor:
    """Return a bool volume: True in any lobe."""
    table = torch.zeros(256, dtype=torch.bool, device=labels.device)
    table[list(LUNG_CODES)] = True
    return table[labels.int()]


def _change_density(hu: Tensor, in_lung: Tensor, build: Build) -> Tensor:
    """Shift parenchyma, scale vessels and bone; outside air stays -1000."""
    parenchyma = -860.0
    lung = parenchyma + build.lung_hu + build.vessel_gain * (hu - parenchyma)
    hu = torch.where(in_lung, lung.clamp(-1000, 80), hu)
    # Full offset above fat, none below -300 HU: air keeps its value and the edge stays smooth.
    hu = hu + build.soft_hu * ((hu + 300) / 200).clamp(0, 1) * ~in_lung
    return hu + (build.bone_gain - 1) * (hu - 150).clamp(min=0)


def _displacement(base: Base, build: Build, generator: torch.Generator) -> Tensor:
    """Return (3, Zc, Yc, Xc) mm on the coarse grid: (z, y, x) from a new voxel to the base voxel it shows."""
    shape = base.dome.shape[1:]
    weights = [_bspline(n, m) for n, m in zip(shape, CONTROL_POINTS, strict=True)]
    knots = torch.randn((3, *CONTROL_POINTS), generator=generator) * build.roughness_mm
    knots *= torch.tensor([1.0, 0.7, 1.0])[:, None, None, None]
    field = torch.einsum("dabc,za,yb,xc->dzyx", knots, *weights)
    # Shape of the trunk along z: width and sideways bend.
    along_z = _bspline(shape[0], 6) @ (torch.randn((6, 2), generator=generator) * torch.tensor([0.045, 4.5]))
    z, y, x = _positions_mm(base)
    field[2] += along_z[:, 0, None, None] * x + along_z[:, 1, None, None]

    dome = torch.from_numpy(base.dome)
    field[0] -= build.dome_mm[0] * dome[0] + build.dome_mm[1] * dome[1]
    shell = torch.from_numpy(base.shell_mm).clamp(-SHELL_LIMIT_MM, SHELL_LIMIT_MM)
    field[1:] += (1 / build.habitus - 1) * shell * (shell.norm(dim=0) / 8).clamp(max=1)
    return field + _heart_growth(base, build.heart, (z, y, x))


def _heart_growth(base: Base, scale: float, positions: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the displacement (3, Zc, Yc, Xc), mm, that scales the heart about its centre."""
    half = [(n - 1) * s / 2 for n, s in zip(base.hu.shape, base.spacing_mm, strict=True)]
    centre = [c * s - h for c, s, h in zip(base.heart_centre, base.spacing_mm, half, strict=True)]
    away = torch.stack(torch.broadcast_tensors(*(p - c for p, c in zip(positions, centre, strict=True))))
    reach = base.heart_radius_mm * 1.3
    weight = torch.exp(-0.5 * away.square().sum(dim=0) / reach**2)
    return away * (1 / scale - 1) * weight


def _positions_mm(base: Base) -> tuple[Tensor, Tensor, Tensor]:
    """Return broadcastable (z, y, x) positions of the coarse grid, mm from the centre of the volume."""
    axes: list[Tensor] = []
    for n, m, s in zip(base.hu.shape, base.dome.shape[1:], base.spacing_mm, strict=True):
        half = (n - 1) * s / 2
        axes.append(torch.linspace(-half, half, m))
    return axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]


def _bspline(points: int, knots: int) -> Tensor:
    """Return the (points, knots) matrix of the uniform cubic B-spline, scaled to keep the knots' variance."""
    at = torch.linspace(1, knots - 2, points)[:, None] - torch.arange(knots)
    distance = at.abs()
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clamp(min=0) ** 3 / 6
    weight = torch.where(distance < 1, near, far)
    return weight / weight.norm(dim=1, keepdim=True)


def _sampling_grid(base: Base, displacement_mm: Tensor) -> Tensor:
    """Return the (1, Z, Y, X, 3) normalised (x, y, z) positions for grid_sample."""
    z, y, x = base.hu.shape
    device = displacement_mm.device
    half = [(n - 1) * s / 2 for n, s in zip((z, y, x), base.spacing_mm, strict=True)]
    unit = displacement_mm / torch.tensor(half, device=device)[:, None, None, None]
    fine = F.interpolate(unit[None], size=(z, y, x), mode="trilinear", align_corners=True)[0]
    for axis, n in enumerate((z, y, x)):
        shape = [1, 1, 1]
        shape[axis] = n
        fine[axis] += torch.linspace(-1, 1, n, device=device).view(shape)
    return fine.flip(0).permute(1, 2, 3, 0)[None]
