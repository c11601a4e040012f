"""Opacities of the lung tissue: consolidation, ground glass and atelectasis, each kept within its lobe."""

import torch
from torch import Tensor

from glint.phantom.anatomy import Anatomy
from glint.phantom.findings.common import (
    LOBE_LABELS,
    Box,
    Inserted,
    box_around,
    box_of,
    frontal_clearance,
    paint,
    pick_voxel_mm,
    ramp,
    region,
    smooth_noise,
    uniform,
)
from glint.phantom.schema import Finding

EXTENT_MM = {
    "consolidation": {"small": (34.0, 48.0), "moderate": (48.0, 72.0), "large": (72.0, 105.0)},
    "ground_glass": {"small": (60.0, 80.0), "moderate": (80.0, 110.0), "large": (110.0, 150.0)},
}
PLATES = {"small": 1, "moderate": 2, "large": 3}


def insert_consolidation(
    hu: Tensor, anatomy: Anatomy, finding: Finding, generator: torch.Generator
) -> Inserted | None:
    """Paint a patchy airspace opacity, at times with air bronchograms; None when the lobe has no room."""
    placed = _cloud(anatomy, finding, generator, roughness=0.32)
    if placed is None:
        return None
    box, weight = placed
    texture = smooth_noise(weight.shape, anatomy.spacing_mm, 9.0, generator).to(hu.device)
    weight = weight * (0.88 + 0.14 * texture).clamp(0.5, 1.0)
    if uniform(generator, 0, 1) < 0.5:
        weight = weight * _outside_bronchi(anatomy, box, generator)
    new, mask = paint(hu, box, weight, uniform(generator, -50, 40), "denser", least_hu=90.0)
    return Inserted(new, mask, finding) if mask.any() else None


def insert_ground_glass(
    hu: Tensor, anatomy: Anatomy, finding: Finding, generator: torch.Generator
) -> Inserted | None:
    """Add a haze that leaves the vessels visible; None when the lobe has no room."""
    placed = _cloud(anatomy, finding, generator, roughness=0.22)
    if placed is None:
        return None
    box, weight = placed
    texture = smooth_noise(weight.shape, anatomy.spacing_mm, 14.0, generator).to(hu.device)
    added_hu = uniform(generator, 190, 340) * (1 + 0.15 * texture).clamp(0.6, 1.3)
    # Air is lost, tissue is not: the haze fades where there was little air to lose.
    air = ((-hu[box.index] - 200) / 500).clamp(0, 1)
    new, mask = paint(hu, box, weight * air, hu[box.index] + added_hu, "denser", least_hu=45.0)
    return Inserted(new, mask, finding) if mask.any() else None


def insert_atelectasis(
    hu: Tensor, anatomy: Anatomy, finding: Finding, generator: torch.Generator
) -> Inserted | None:
    """Paint plate-like bands or, when large, a collapsed wedge at the base; None when the lobe has no room."""
    lobe = region(anatomy, LOBE_LABELS[finding.location])
    box = box_of(lobe, margin=0)
    if box is None:
        return None
    inside = lobe[box.index]
    # The middle lobe is too thin for a triangle in the frontal view.
    if finding.severity == "large" and finding.location != "right middle lobe":
        weight = _wedge(anatomy, box, inside, finding, generator)
    else:
        weight = _plates(anatomy, box, inside, PLATES[finding.severity], generator)
    new, mask = paint(hu, box, weight * inside, uniform(generator, 0, 50), "denser", least_hu=90.0)
    return Inserted(new, mask, finding) if mask.any() else None


def _cloud(
    anatomy: Anatomy, finding: Finding, generator: torch.Generator, roughness: float
) -> tuple[Box, Tensor] | None:
    """Return (box, weight) of an irregular ellipsoid inside the lobe, or None without room."""
    extent = uniform(generator, *EXTENT_MM[finding.kind][finding.severity])
    lobe = region(anatomy, LOBE_LABELS[finding.location])
    lobe_box = box_of(lobe)
    if lobe_box is None:
        return None
    depth = anatomy.lung_depth_mm[lobe_box.index]
    room = (lobe[lobe_box.index] & (depth >= min(0.25 * extent, 14.0))) * frontal_clearance(anatomy, lobe_box)
    centre = pick_voxel_mm(room, lobe_box, anatomy, generator)
    if centre is None:
        return None
    radii = [extent / 2 * uniform(generator, 0.75, 1.1) for _ in range(3)]
    box = box_around(anatomy, centre, (1.6 * radii[0], 1.6 * radii[1], 1.6 * radii[2]))
    assert box is not None, "the centre lies inside the volume"
    coordinates = box.coordinates_mm(anatomy)
    squares = [((c - float(m)) / r) ** 2 for c, m, r in zip(coordinates, centre, radii, strict=True)]
    distance = (squares[0] + squares[1] + squares[2]).sqrt()
    rough = smooth_noise(distance.shape, anatomy.spacing_mm, 0.3 * extent, generator)
    fine = smooth_noise(distance.shape, anatomy.spacing_mm, 7.0, generator)
    field = 1.0 - distance + roughness * (0.8 * rough + 0.3 * fine).to(distance.device)
    edge_mm = 6.0 if finding.kind == "consolidation" else 16.0
    return box, ramp(field * extent / 2, edge_mm) * lobe[box.index]


def _outside_bronchi(anatomy: Anatomy, box: Box, generator: torch.Generator) -> Tensor:
    """Return 0 in three thin branching air tubes that run through the box from its medial side, else 1."""
    z, y, x = box.coordinates_mm(anatomy)
    middle = torch.tensor([float(c.mean()) for c in (z, y, x)])
    reach = float(x.max() - x.min())
    outside = torch.ones(z.shape[0], y.shape[1], x.shape[2], device=anatomy.hu.device)
    start = middle + torch.tensor([0.2 * reach, 0.0, 0.0])
    for _ in range(3):
        direction = torch.randn(3, generator=generator) + torch.tensor([-0.8, 0.0, 0.0])
        direction = direction / direction.norm()
        offset = [c - float(m) for c, m in zip((z, y, x), start, strict=True)]
        along = sum(o * float(d) for o, d in zip(offset, direction, strict=True))
        square = offset[0] ** 2 + offset[1] ** 2 + offset[2] ** 2 - along**2
        tube = ramp(2.6 - square.clamp(min=0).sqrt(), 2.0) * ((along > -0.4 * reach) & (along < 0.4 * reach))
        outside = outside * (1 - tube)
    return outside


def _plates(anatomy: Anatomy, box: Box, inside: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return the weight of `count` thin, almost horizontal plates in the lower part of the lobe."""
    z, y, x = box.coordinates_mm(anatomy)
    height = float(z.max() - z.min())
    lower = inside & (z < z.min() + 0.55 * height) & (anatomy.lung_depth_mm[box.index] > 8)
    weight = torch.zeros(inside.shape, device=inside.device)
    for _ in range(count):
        centre = pick_voxel_mm(lower * frontal_clearance(anatomy, box), box, anatomy, generator)
        if centre is None:
            return weight
        tilt = uniform(generator, -0.35, 0.35)
        bend = uniform(generator, -0.002, 0.002)
        across, along = x - float(centre[2]), y - float(centre[1])
        surface = float(centre[0]) + tilt * across + bend * across**2 + 0.1 * along
        length, depth = uniform(generator, 22, 42), uniform(generator, 18, 34)
        rim = (1 - (across / length) ** 2 - (along / depth) ** 2).clamp(min=0)
        half = uniform(generator, 2.8, 5.0) * rim.sqrt()
        weight = torch.maximum(weight, ramp(half - (z - surface).abs(), 2.5) * (rim > 0.02))
    return weight


def _wedge(
    anatomy: Anatomy, box: Box, inside: Tensor, finding: Finding, generator: torch.Generator
) -> Tensor:
    """Return the weight of a collapsed triangle: medial border of the lobe, widening towards the base."""
    z, _, x = box.coordinates_mm(anatomy)
    left = finding.side == "left"
    far = torch.full_like(x, 1e6).expand(inside.shape)
    ordered = torch.where(inside, x.expand(inside.shape) if left else -x.expand(inside.shape), far)
    medial = ordered.amin(dim=(1, 2), keepdim=True)
    lateral_mm = (x if left else -x) - medial
    top = float(z.min()) + uniform(generator, 0.55, 0.8) * float(z.max() - z.min())
    share = ((top - z) / (top - float(z.min()))).clamp(0, 1)
    width = uniform(generator, 35, 60) * share
    wavy = 2.0 * smooth_noise(inside.shape, anatomy.spacing_mm, 20.0, generator).to(inside.device)
    weight = ramp(width + wavy - lateral_mm, 4.0) * (share > 0.05)
    return 0.9 * weight
