"""Perspective projection of a volume, exact for rays from a point focus through slices of constant y.

The central ray runs along y. In one coronal slice perspective is a magnification about that ray, hence
separable: the image is the sum over slices of A_y @ slice @ B_y^T with two linear-interpolation matrices.
A small turn of the patient is a shift of each slice in proportion to y, which is exact to first order in the
angle. In-plane rotation is applied to the finished line integrals. Image row 0 is superior and column 0 the
patient's right, for both views.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Spacing = tuple[float, float, float]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Pose:
    """Where focus, patient and detector are.

    Attributes:
        view: "PA": focus behind the patient, detector in front of the chest; "AP": the reverse.
        sid_mm: Focus to detector.
        gap_mm: Detector to the nearest face of the volume.
        turn: x shift per y (tangent of the patient's rotation about the long axis).
        tilt: z shift per y (tangent of the tube's angulation).
        rotation_deg: In the image plane.
        shift: (z, x) of the central ray from the volume's centre, as fractions of the volume's z extent.
        coverage: Side of the image as a fraction of the volume's z extent, both at the volume's centre.
    """

    view: Literal["PA", "AP"]
    sid_mm: float
    gap_mm: float = 20.0
    turn: float = 0.0
    tilt: float = 0.0
    rotation_deg: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    coverage: float = 0.95


@dataclass(frozen=True)
class _Slices:
    """Geometry per coronal slice: magnification (Y,) and y position (Y,), mm."""

    magnification: Tensor
    y_mm: Tensor


def pixel_mm(shape: tuple[int, ...], spacing_mm: Spacing, pose: Pose, size_px: int) -> float:
    """Return the pixel spacing on the detector, mm."""
    extent = (shape[0] - 1) * spacing_mm[0]
    depth = (shape[1] - 1) * spacing_mm[1]
    centre = pose.sid_mm / (pose.sid_mm - depth / 2 - pose.gap_mm)
    return pose.coverage * extent * centre / size_px


def _slices(shape: tuple[int, ...], spacing_mm: Spacing, pose: Pose, device: torch.device) -> _Slices:
    half = (shape[1] - 1) * spacing_mm[1] / 2
    y_mm = torch.linspace(-half, half, shape[1], device=device, dtype=torch.float64)
    # PA: the detector touches the front (small y), so the back is magnified most. AP: the reverse.
    to_detector = (y_mm if pose.view == "PA" else -y_mm) + half + pose.gap_mm
    return _Slices(pose.sid_mm / (pose.sid_mm - to_detector), y_mm)


def _interpolation(position: Tensor, count: int, keep: slice) -> Tensor:
    """Return (Y, pixels, kept) linear-interpolation weights; outside the volume its border is continued.

    Args:
        position: (Y, pixels) voxel index that each pixel sees, float64.
        count: Voxels along the axis.
        keep: The voxels wanted.
    """
    inside = position.clamp(0, count - 1).to(torch.float32)
    voxels = torch.arange(keep.start, keep.stop, device=position.device, dtype=torch.float32)
    return (1 - (inside[..., None] - voxels).abs()).clamp(min=0)


def project(
    densities: Tensor,
    box: Box,
    shape: tuple[int, int, int],
    spacing_mm: Spacing,
    pose: Pose,
    size_px: int,
) -> Tensor:
    """Integrate along rays.

    Args:
        densities: (M, z, y, x) float32, M quantities inside `box`; zero outside it.
        box: Part of the volume that `densities` covers.
        shape: (Z, Y, X) of the whole volume.
        spacing_mm: (z, y, x).
        pose: Geometry.
        size_px: Side of the image.

    Returns:
        (M, size_px, size_px) integrals, in density x mm.
    """
    device = densities.device
    slices = _slices(shape, spacing_mm, pose, device)
    y_mm, magnification = slices.y_mm[box[1]], slices.magnification[box[1]]
    step = pixel_mm(shape, spacing_mm, pose, size_px)
    on_detector = (torch.arange(size_px, device=device, dtype=torch.float64) - (size_px - 1) / 2) * step
    extent = (shape[0] - 1) * spacing_mm[0]

    z_mm = -on_detector / magnification[:, None] + pose.shift[0] * extent - pose.tilt * y_mm[:, None]
    x_mm = on_detector / magnification[:, None] + pose.shift[1] * extent - pose.turn * y_mm[:, None]
    rows = _interpolation(z_mm / spacing_mm[0] + (shape[0] - 1) / 2, shape[0], box[0])
    columns = _interpolation(x_mm / spacing_mm[2] + (shape[2] - 1) / 2, shape[2], box[2])

    quantities, depth = densities.shape[0], densities.shape[2]
    # (y, M z, x) @ (y, x, columns): magnify along x, slice by slice.
    stacked = densities.permute(2, 0, 1, 3).reshape(depth, -1, densities.shape[3])
    wide = torch.bmm(stacked, columns.transpose(1, 2)).view(depth, quantities, -1, size_px)
    # (rows, y z) @ (y z, columns): magnify along z and sum over slices in one product.
    flat = rows.transpose(0, 1).reshape(size_px, -1)
    sums = torch.stack([flat @ wide[:, m].reshape(-1, size_px) for m in range(quantities)])
    obliquity = torch.sqrt(1 + (on_detector[:, None] ** 2 + on_detector[None] ** 2) / pose.sid_mm**2)
    return _rotate(sums * (obliquity * spacing_mm[1]).to(sums.dtype), pose.rotation_deg)


def _rotate(images: Tensor, degrees: float) -> Tensor:
    """Rotate (M, Y, X) counter-clockwise about the centre; outside, the border is continued."""
    if degrees == 0:
        return images
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = torch.tensor([[[cos, -sin, 0.0], [sin, cos, 0.0]]], device=images.device)
    grid = F.affine_grid(matrix, [1, *images.shape], align_corners=False)
    return F.grid_sample(images[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]


def bounding_box(mask: Tensor) -> Box | None:
    """Return the smallest box around the True voxels of a (Z, Y, X) mask, None when there are none."""
    spans: list[slice] = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        hit = mask.any(dim=others[1]).any(dim=others[0]).nonzero()
        if hit.numel() == 0:
            return None
        spans.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return spans[0], spans[1], spans[2]


def path_mm(mask: Tensor, spacing_mm: Spacing, pose: Pose, size_px: int) -> Tensor:
    """Return, (Y, X) float32 mm, how far each pixel's ray runs inside a (Z, Y, X) bool mask."""
    box = bounding_box(mask)
    if box is None:
        return torch.zeros((size_px, size_px), device=mask.device)
    z, y, x = mask.shape
    return project(mask[box].float()[None], box, (z, y, x), spacing_mm, pose, size_px)[0]
