"""Aorta and coronary arteries: dilation and calcified plaques."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from glint.phantom.anatomy import Anatomy
from glint.phantom.findings.common import Box, Inserted, box_of, paint, pick_voxel_mm, ramp, region, uniform
from glint.phantom.findings.heart import rounded_heart
from glint.phantom.schema import Finding

GROWTH_MM = {"small": (4.0, 6.0), "moderate": (6.5, 9.0), "large": (10.0, 14.0)}
"""By how much the radius of the aorta grows."""
PLAQUES = {"small": (3, 5), "moderate": (6, 10), "large": (12, 20)}
CORONARY_PLAQUES = {"small": (2, 3), "moderate": (4, 6), "large": (8, 13)}
BRANCHES = (
    ((0.75, -0.5, 0.35), (-0.35, -0.65, 0.75)),
    ((0.7, -0.1, 0.55), (-0.2, 0.45, 0.9)),
    ((0.6, -0.65, -0.3), (-0.55, -0.45, -0.75)),
)
"""Directions (z, y, x) from the middle of the heart: start and end of the anterior, circumflex and right branch."""


def distance_mm(mask: Tensor, spacing_mm: tuple[float, float, float]) -> Tensor:
    """Return (Z, Y, X) float32: distance to the nearest voxel of the mask, 0 inside it."""
    outside = ~mask.cpu().numpy()
    distance = ndimage.distance_transform_edt(outside, sampling=spacing_mm)
    return torch.from_numpy(np.asarray(distance, dtype=np.float32)).to(mask.device)


def insert_aortic_dilation(
    hu: Tensor, anatomy: Anatomy, finding: Finding, generator: torch.Generator
) -> Inserted | None:
    """Widen the ascending or the descending aorta; None without an aorta.

    The mask is the whole widened segment: the sentence speaks of the vessel, not of its rim.
    """
    aorta = region(anatomy, "aorta")
    small = box_of(aorta, margin=0)
    box = box_of(aorta, margin=round(18.0 / min(anatomy.spacing_mm)))
    if small is None or box is None:
        return None
    z, y, _ = box.coordinates_mm(anatomy)
    low, high = small.z.start * anatomy.spacing_mm[0], small.z.stop * anatomy.spacing_mm[0]
    middle = 0.5 * (small.y.start + small.y.stop) * anatomy.spacing_mm[1]
    forward = middle - y if uniform(generator, 0, 1) < 0.5 else y - middle
    centre = low + uniform(generator, 0.5, 0.7) * (high - low)
    along = (1 - ((z - centre) / (0.5 * (high - low))) ** 2).clamp(min=0)
    growth = uniform(generator, *GROWTH_MM[finding.severity]) * along * ramp(forward, 16.0)
    inside = aorta[box.index]
    weight = ramp(growth - distance_mm(inside, anatomy.spacing_mm), 2.0) * (growth > 1.0) * ~inside
    new, changed = paint(hu, box, weight, uniform(generator, 38, 50), "denser")
    if not changed.any():
        return None
    mask = changed.clone()
    mask[box.index] |= inside & (growth > 1.0)
    return Inserted(new, mask, finding)


def insert_aortic_calcification(
    hu: Tensor, anatomy: Anatomy, finding: Finding, generator: torch.Generator
) -> Inserted | None:
    """Paint flat plaques into the wall of the aorta; None without an aorta."""
    aorta = region(anatomy, "aorta")
    box = box_of(aorta, margin=2)
    if box is None:
        return None
    inside = aorta[box.index]
    depth = distance_mm(~inside, anatomy.spacing_mm)
    wall = ramp(2.6 - depth, 1.5) * inside
    weight = torch.zeros_like(wall)
    for _ in range(_count(generator, *PLAQUES[finding.severity])):
        centre = pick_voxel_mm((wall > 0.5).float(), box, anatomy, generator)
        if centre is None:
            return None
        size = uniform(generator, 4, 9)
        weight = torch.maximum(weight, ramp(size - _away_mm(anatomy, box, centre), 2.0) * wall)
    new, mask = paint(hu, box, weight, uniform(generator, 450, 1000), "denser", least_hu=100.0)
    return Inserted(new, mask, finding) if mask.any() else None


def insert_coronary_calcification(
    hu: Tensor, anatomy: Anatomy, finding: Finding, generator: torch.Generator
) -> Inserted | None:
    """Paint short dense segments just below the heart's surface, along one to three arteries; None without a heart."""
    heart = rounded_heart(region(anatomy, "heart"), anatomy.spacing_mm)
    box = box_of(heart, margin=3)
    if box is None:
        return None
    spacing = torch.tensor(anatomy.spacing_mm)
    middle = heart.nonzero().float().mean(dim=0).cpu() * spacing
    branches = 1 if finding.severity == "small" else 2 if finding.severity == "moderate" else 3
    weight = torch.zeros(heart[box.index].shape, device=hu.device)
    for _ in range(_count(generator, *CORONARY_PLAQUES[finding.severity])):
        start, end = BRANCHES[min(int(uniform(generator, 0, branches)), 2)]
        share = uniform(generator, 0.05, 0.75)
        for step in (0.0, uniform(generator, 0.03, 0.07)):  # two balls: a short segment
            t = share + step
            direction = torch.tensor([a + t * (b - a) for a, b in zip(start, end, strict=True)])
            point = _surface_mm(heart, middle, direction / direction.norm(), spacing)
            ball = ramp(uniform(generator, 1.8, 3.0) - _away_mm(anatomy, box, point), 1.5)
            weight = torch.maximum(weight, ball)
    new, mask = paint(hu, box, weight, uniform(generator, 450, 1000), "denser", least_hu=100.0)
    return Inserted(new, mask, finding) if mask.any() else None


def _count(generator: torch.Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


def _away_mm(anatomy: Anatomy, box: Box, point_mm: Tensor) -> Tensor:
    """Return (Z, Y, X) distances of the voxels of a box from a point."""
    squares = [(c - float(m)) ** 2 for c, m in zip(box.coordinates_mm(anatomy), point_mm, strict=True)]
    return (squares[0] + squares[1] + squares[2]).sqrt()


def _surface_mm(heart: Tensor, middle_mm: Tensor, direction: Tensor, spacing_mm: Tensor) -> Tensor:
    """Return the point 3 mm before a ray from the middle leaves the heart for the last time."""
    steps = torch.arange(0.0, 140.0)
    points = middle_mm + steps[:, None] * direction
    index = (points / spacing_mm).round().long()
    index = torch.minimum(index.clamp(min=0), torch.tensor(heart.shape) - 1)
    hit = heart.cpu()[index[:, 0], index[:, 1], index[:, 2]].nonzero()
    reach = float(steps[int(hit[-1])]) if len(hit) else 0.0
    return middle_mm + max(reach - 3.0, 0.0) * direction
