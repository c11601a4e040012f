"""Hilar enlargement: a lobulated cluster of soft tissue at the root of one lung."""

from dataclasses import replace

import torch
from torch import Tensor

from glint.phantom.anatomy import Anatomy
from glint.phantom.findings.common import (
    Inserted,
    box_around,
    box_of,
    lung,
    paint,
    ramp,
    region,
    smooth_noise,
    uniform,
)
from glint.phantom.schema import Finding

SIZES_MM = {"small": (22.0, 28.0), "moderate": (28.0, 37.0), "large": (37.0, 46.0)}


def insert_hilar_enlargement(
    hu: Tensor, anatomy: Anatomy, finding: Finding, generator: torch.Generator
) -> Inserted | None:
    """Paint two to four merging nodes at the hilum of `finding.side`; None when no hilum is found."""
    hilum = hilum_mm(anatomy, finding.side)
    if hilum is None:
        return None
    size = uniform(generator, *SIZES_MM[finding.severity])
    outward = 1.0 if finding.side == "left" else -1.0
    centre = hilum + torch.tensor(
        [
            uniform(generator, -8, 10),
            uniform(generator, -6, 6),
            outward * uniform(generator, 0.22, 0.4) * size,
        ]
    )
    box = box_around(anatomy, centre, 1.1 * size)
    if box is None:
        return None
    coordinates = box.coordinates_mm(anatomy)
    shape = anatomy.labels[box.index].shape
    inside = torch.full(shape, -1e3, device=hu.device)
    for _ in range(int(uniform(generator, 3, 5.99))):
        node = centre + 0.3 * size * torch.randn(3, generator=generator).clamp(-1, 1)
        radius = size * uniform(generator, 0.34, 0.46)
        square = sum((c - float(m)) ** 2 for c, m in zip(coordinates, node, strict=True))
        inside = torch.maximum(inside, radius - torch.as_tensor(square).sqrt())
    noise = smooth_noise(shape, anatomy.spacing_mm, 10.0, generator).to(hu.device)
    weight = ramp(inside + 0.05 * size * noise, 2.5)
    new, mask = paint(hu, box, weight, uniform(generator, 35, 65), "denser")
    return Inserted(new, mask, replace(finding, size_mm=0.0)) if mask.any() else None


def hilum_mm(anatomy: Anatomy, side: str) -> Tensor | None:
    """Return (z, y, x) mm of the lung root: where the lung comes nearest to the carina's surroundings.

    It is the innermost lung voxel in the slices just below the tracheal bifurcation, at the depth of the
    trachea; None when there is no trachea or lung.
    """
    trachea, inside = box_of(region(anatomy, "trachea"), margin=0), box_of(lung(anatomy, side), margin=0)
    if trachea is None or inside is None:
        return None
    step_z, step_y, step_x = anatomy.spacing_mm
    row = max(trachea.z.start - round(18 / step_z), inside.z.start)
    rows = slice(max(row - round(6 / step_z), 0), row + round(6 / step_z) + 1)
    middle = (trachea.y.start + trachea.y.stop) // 2
    columns = slice(max(middle - round(25 / step_y), 0), middle + round(10 / step_y))
    slab = lung(anatomy, side)[rows, columns].any(dim=0).any(dim=0).nonzero()
    if not len(slab):
        return None
    innermost = int(slab[0] if side == "left" else slab[-1])
    return torch.tensor([row * step_z, middle * step_y, innermost * step_x])
