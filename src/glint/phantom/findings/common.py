"""Tools shared by all findings: boxes of voxels, smooth noise, soft painting, thin tubes.

Volumes are (Z, Y, X); +X is the patient's left, +Y posterior, +Z superior. Distances are millimetres from
the centre of voxel (0, 0, 0). Every painter changes a copy of the volume inside a small box only, so that
the rest of the image stays the same to the last bit: the evidence of a finding lies where its mask says.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from glint.phantom.anatomy import Anatomy
from glint.phantom.labels import LABELS
from glint.phantom.schema import Finding

LOBE_LABELS = {
    "left upper lobe": "lung_upper_lobe_left",
    "left lower lobe": "lung_lower_lobe_left",
    "right upper lobe": "lung_upper_lobe_right",
    "right middle lobe": "lung_middle_lobe_right",
    "right lower lobe": "lung_lower_lobe_right",
}
SMALLEST_CHANGE_HU = 12.0
"""A voxel that changes by less is left as it was: nobody could see it, and it would widen the mask."""


@dataclass(frozen=True)
class Inserted:
    """A volume with one more finding.

    Attributes:
        hu: (Z, Y, X) new volume, Hounsfield units.
        mask: (Z, Y, X) bool, True exactly where the volume changed (cardiomegaly: the whole large heart).
        finding: The finding as it was realised (final size).
    """

    hu: Tensor
    mask: Tensor
    finding: Finding


@dataclass(frozen=True)
class Box:
    """A block of voxels: half-open index ranges along Z, Y and X."""

    z: slice
    y: slice
    x: slice

    @property
    def index(self) -> tuple[slice, slice, slice]:
        """Return the slices, ready to index a volume."""
        return (self.z, self.y, self.x)

    def coordinates_mm(self, anatomy: Anatomy) -> tuple[Tensor, Tensor, Tensor]:
        """Return z (Z,1,1), y (1,Y,1) and x (1,1,X) of the voxel centres in mm."""
        axes = [
            torch.arange(s.start, s.stop, dtype=torch.float32, device=anatomy.hu.device) * step
            for s, step in zip(self.index, anatomy.spacing_mm, strict=True)
        ]
        return axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """Return one number drawn evenly from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def region(anatomy: Anatomy, *names: str) -> Tensor:
    """Return the (Z, Y, X) bool union of labelled structures."""
    mask = anatomy.labels == LABELS[names[0]]
    for name in names[1:]:
        mask |= anatomy.labels == LABELS[name]
    return mask


def lung(anatomy: Anatomy, side: str) -> Tensor:
    """Return the (Z, Y, X) bool mask of the "left" or "right" lung."""
    return region(anatomy, *(name for lobe, name in LOBE_LABELS.items() if lobe.startswith(side)))


def in_lung(labels: Tensor) -> Tensor:
    """Return which voxels of a label array belong to any lobe (lobe codes follow one another in LABELS)."""
    codes = [LABELS[name] for name in LOBE_LABELS.values()]
    return (labels >= min(codes)) & (labels <= max(codes))


def box_of(mask: Tensor, margin: int = 1) -> Box | None:
    """Return the smallest box around a (Z, Y, X) mask, `margin` voxels wider; None for an empty mask."""
    # Reducing along Y first runs along memory; the rest is small.
    frontal = mask.any(dim=1)
    rows = frontal.any(dim=1).nonzero()
    if not len(rows):
        return None
    depth = mask[int(rows[0]) : int(rows[-1]) + 1].any(dim=0).any(dim=1).nonzero()
    columns = frontal.any(dim=0).nonzero()
    ranges = [
        slice(max(int(hit[0]) - margin, 0), min(int(hit[-1]) + 1 + margin, size))
        for hit, size in zip((rows, depth, columns), mask.shape, strict=True)
    ]
    return Box(*ranges)


def box_around(
    anatomy: Anatomy, centre_mm: Tensor, radius_mm: float | tuple[float, float, float]
) -> Box | None:
    """Return the box of voxels within `radius_mm` (per axis) of a point, cut at the volume; None if outside."""
    radii = (radius_mm,) * 3 if isinstance(radius_mm, int | float) else radius_mm
    ranges: list[slice] = []
    for axis, step in enumerate(anatomy.spacing_mm):
        centre = float(centre_mm[axis])
        start = max(int((centre - radii[axis]) / step), 0)
        stop = min(int((centre + radii[axis]) / step) + 2, anatomy.hu.shape[axis])
        if start >= stop:
            return None
        ranges.append(slice(start, stop))
    return Box(*ranges)


def smooth_noise(
    shape: torch.Size | tuple[int, ...],
    spacing_mm: tuple[float, float, float],
    correlation_mm: float,
    generator: torch.Generator,
) -> Tensor:
    """Return (Z, Y, X) Gaussian noise of unit spread that varies over `correlation_mm`.

    It is a sum of random plane waves: smooth everywhere, without the creases of an interpolated grid, and
    cheap, because a plane wave is a product of one factor per axis.
    """
    count = 32
    wave = torch.randn(count, 3, generator=generator) * (1.8 / correlation_mm)
    phase = torch.rand(count, generator=generator) * 2 * torch.pi
    angles = [
        wave[:, axis : axis + 1] * (torch.arange(n) * step)
        for axis, (n, step) in enumerate(zip(shape, spacing_mm, strict=True))
    ]
    plane = (angles[0] + phase[:, None])[:, :, None] + angles[1][:, None, :]
    real = plane.cos().flatten(1).T @ angles[2].cos() - plane.sin().flatten(1).T @ angles[2].sin()
    return (real * (2 / count) ** 0.5).reshape(tuple(shape))


def ramp(signed_distance_mm: Tensor, width_mm: float) -> Tensor:
    """Return 0 outside (negative), 1 inside, with a linear edge of `width_mm` centred on zero."""
    return (signed_distance_mm / width_mm + 0.5).clamp(0.0, 1.0)


def paint(
    hu: Tensor,
    box: Box,
    weight: Tensor,
    target_hu: Tensor | float,
    change: Literal["denser", "lighter"],
    least_hu: float = SMALLEST_CHANGE_HU,
) -> tuple[Tensor, Tensor]:
    """Blend a box of the volume towards `target_hu` and return (new volume, changed voxels).

    Args:
        hu: (Z, Y, X) volume; it is copied.
        box: Where to paint.
        weight: Share of the target in each voxel of the box, 0 to 1.
        target_hu: Density to reach.
        change: "denser" never lowers a voxel (vessels stay in a faint opacity), "lighter" never raises one.
        least_hu: Voxels that would change by less stay as they are.
    """
    step = weight * (target_hu - hu[box.index])
    step = step.clamp(min=0.0) if change == "denser" else step.clamp(max=0.0)
    changed = step.abs() >= least_hu
    new = hu.clone()
    new[box.index] += torch.where(changed, step, torch.zeros_like(step))
    mask = torch.zeros_like(hu, dtype=torch.bool)
    mask[box.index] = changed
    return new, mask


def frontal_clearance(anatomy: Anatomy, box: Box) -> Tensor:
    """Return (Z, 1, X): 1 where a front-to-back ray misses heart, spine and upper abdomen, 0.1 where it hits."""
    hidden = anatomy.labels[box.index]
    behind = torch.zeros_like(hidden, dtype=torch.bool)
    for name in ("heart", "vertebrae", "liver", "spleen", "stomach", "aorta"):
        behind |= hidden == LABELS[name]
    return torch.where(behind.any(dim=1, keepdim=True), 0.1, 1.0)


def pick_voxel_mm(weight: Tensor, box: Box, anatomy: Anatomy, generator: torch.Generator) -> Tensor | None:
    """Draw a voxel of the box with probability proportional to `weight`; return (z, y, x) mm or None."""
    cumulative = weight.flatten().double().cpu().cumsum(0)
    if float(cumulative[-1]) <= 0:
        return None
    drawn = torch.rand((), generator=generator, dtype=torch.float64) * cumulative[-1]
    flat = int(torch.searchsorted(cumulative, drawn, right=True).clamp(max=len(cumulative) - 1))
    _, depth, width = weight.shape
    zyx = (flat // (depth * width), flat // width % depth, flat % width)
    return torch.tensor(
        [(i + s.start) * step for i, s, step in zip(zyx, box.index, anatomy.spacing_mm, strict=True)]
    )
