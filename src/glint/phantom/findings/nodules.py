"""Nodule (6-30 mm) and mass (30-80 mm): soft-tissue balls with a lobulated or spiculated surface."""

from dataclasses import replace

import torch
from torch import Tensor

from glint.phantom.anatomy import Anatomy
from glint.phantom.findings.common import (
    LOBE_LABELS,
    Inserted,
    box_around,
    box_of,
    frontal_clearance,
    in_lung,
    paint,
    pick_voxel_mm,
    ramp,
    region,
    smooth_noise,
    uniform,
)
from glint.phantom.schema import Finding

DIAMETERS_MM = {
    "nodule": {"small": (7.0, 12.0), "moderate": (12.0, 20.0), "large": (20.0, 29.0)},
    "mass": {"small": (32.0, 42.0), "moderate": (42.0, 56.0), "large": (56.0, 75.0)},
}
CALCIFIED_SHARE = 0.25
EDGE_MM = 2.0


def insert_nodule(
    hu: Tensor, anatomy: Anatomy, finding: Finding, generator: torch.Generator
) -> Inserted | None:
    """Paint a nodule or mass into its lobe; None when the lobe has no room for one of that size.

    `finding.size_mm` is used when positive, else a diameter is drawn from the severity.
    """
    diameter = finding.size_mm or uniform(generator, *DIAMETERS_MM[finding.kind][finding.severity])
    centre = _centre_mm(anatomy, finding, diameter / 2, generator)
    if centre is None:
        return None
    inserted = _ball(hu, anatomy, finding, centre, diameter, generator)
    # A ball cut by a fissure or an effusion to a sliver would not deserve its name.
    volume_mm3 = float(inserted.mask.sum()) * torch.tensor(anatomy.spacing_mm).prod().item()
    return inserted if volume_mm3 > 0.45 * torch.pi / 6 * diameter**3 else None


def _centre_mm(
    anatomy: Anatomy, finding: Finding, radius_mm: float, generator: torch.Generator
) -> Tensor | None:
    """Draw a centre that keeps the ball inside the lung and, mostly, clear of heart and diaphragm."""
    lobe = region(anatomy, LOBE_LABELS[finding.location])
    box = box_of(lobe)
    if box is None:
        return None
    # A mass may touch the pleura: there are lobes that hold no 60 mm ball otherwise.
    depth = radius_mm + 1.0 if finding.kind == "nodule" else 0.6 * radius_mm
    room = lobe[box.index] & (anatomy.lung_depth_mm[box.index] >= depth)
    return pick_voxel_mm(room * frontal_clearance(anatomy, box), box, anatomy, generator)


def _ball(
    hu: Tensor,
    anatomy: Anatomy,
    finding: Finding,
    centre: Tensor,
    diameter: float,
    generator: torch.Generator,
) -> Inserted:
    radius = diameter / 2
    box = box_around(anatomy, centre, 1.5 * radius + 5.0)
    assert box is not None, "the centre lies inside the volume"
    z, y, x = box.coordinates_mm(anatomy)
    axes = [uniform(generator, 0.85, 1.1) for _ in range(3)]
    offset = [(c - float(m)) / a for c, m, a in zip((z, y, x), centre, axes, strict=True)]
    distance = (offset[0] ** 2 + offset[1] ** 2 + offset[2] ** 2).sqrt()
    shape = distance.shape
    lobules = smooth_noise(shape, anatomy.spacing_mm, max(radius, 5.0), generator).to(hu.device)
    surface = radius * (1 + uniform(generator, 0.04, 0.12) * lobules.clamp(-2, 2))
    if finding.kind == "mass" and uniform(generator, 0, 1) < 0.5:
        surface = surface * (1 + _spicules(offset, distance, generator))
    weight = ramp(surface - distance, EDGE_MM)
    weight = weight * in_lung(anatomy.labels[box.index])
    target = uniform(generator, 20, 60)
    if finding.kind == "nodule" and uniform(generator, 0, 1) < CALCIFIED_SHARE:
        target = uniform(generator, 250, 600)
    new, mask = paint(hu, box, weight, target, "denser", least_hu=60.0)
    return Inserted(new, mask, replace(finding, size_mm=round(diameter, 1)))


def _spicules(offset: list[Tensor], distance: Tensor, generator: torch.Generator) -> Tensor:
    """Return the relative growth of the surface in a dozen narrow directions, 0 to about 0.35."""
    growth = torch.zeros_like(distance)
    for _ in range(12):
        direction = torch.randn(3, generator=generator)
        direction = direction / direction.norm()
        cosine = sum(o * float(d) for o, d in zip(offset, direction, strict=True)) / distance.clamp(min=1e-3)
        growth = torch.maximum(growth, uniform(generator, 0.15, 0.35) * ((cosine - 0.93) / 0.07).clamp(0, 1))
    return growth
