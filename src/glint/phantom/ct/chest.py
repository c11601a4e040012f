"""Emphysema, pericardial effusion and lymph nodes of the mediastinum."""

import torch
from torch import Tensor

from glint.phantom.anatomy import Anatomy
from glint.phantom.ct.vessels import distance_mm
from glint.phantom.findings.common import (
    LOBE_LABELS,
    Inserted,
    box_of,
    in_lung,
    paint,
    ramp,
    region,
    smooth_noise,
    uniform,
)
from glint.phantom.findings.heart import rounded_heart
from glint.phantom.schema import Finding

LOSS = {"small": (0.25, 0.3), "moderate": (0.3, 0.42), "large": (0.42, 0.6)}
"""Share of the lung tissue that is lost on average."""
REACH = {"small": (0.35, 0.5), "moderate": (0.5, 0.75), "large": (0.8, 1.2)}
"""How far from the apex it reaches, as a share of the lobe's height."""
FLUID_MM = {"small": (5.0, 8.0), "moderate": (9.0, 13.0), "large": (15.0, 21.0)}
NODE_RADIUS_MM = {"small": (6.0, 8.0), "moderate": (8.0, 11.0), "large": (11.0, 15.0)}
NODES = {"small": 2, "moderate": 3, "large": 5}
STATIONS_MM = (
    (26.0, 0.0, -15.0),
    (10.0, -6.0, -17.0),
    (2.0, -8.0, 23.0),
    (-15.0, 5.0, 0.0),
    (20.0, -26.0, 6.0),
    (34.0, -14.0, -12.0),
)
"""(z, y, x) from the carina: right paratracheal, aortopulmonary, subcarinal and prevascular stations."""


def insert_emphysema(
    hu: Tensor, anatomy: Anatomy, finding: Finding, generator: torch.Generator
) -> Inserted | None:
    """Thin out the lung tissue of an upper lobe, with nearly empty holes in it; vessels stay."""
    lobe = region(anatomy, LOBE_LABELS[finding.location])
    box = box_of(lobe)
    if box is None:
        return None
    z, _, _ = box.coordinates_mm(anatomy)
    height = float(z.max() - z.min())
    reach = uniform(generator, *REACH[finding.severity]) * height
    spread = ramp(reach - (float(z.max()) - z), 25.0)
    holes = smooth_noise(lobe[box.index].shape, anatomy.spacing_mm, uniform(generator, 6, 10), generator)
    loss = uniform(generator, *LOSS[finding.severity])
    weight = (loss + 0.5 * ((holes.to(hu.device) - 0.2) / 0.6).clamp(0, 1)).clamp(max=0.95)
    tissue = ((-hu[box.index] - 550) / 200).clamp(0, 1)
    weight = weight * spread * tissue * lobe[box.index]
    new, mask = paint(hu, box, weight, -1000.0, "lighter", least_hu=20.0)
    return Inserted(new, mask, finding) if mask.any() else None


def insert_pericardial_effusion(
    hu: Tensor, anatomy: Anatomy, finding: Finding, generator: torch.Generator
) -> Inserted | None:
    """Lay fluid around the heart, thicker behind than in front, as it lies in a supine patient."""
    heart = rounded_heart(region(anatomy, "heart"), anatomy.spacing_mm)
    small = box_of(heart, margin=0)
    box = box_of(heart, margin=round(28.0 / min(anatomy.spacing_mm)))
    if small is None or box is None:
        return None
    z, y, _ = box.coordinates_mm(anatomy)
    step_z, step_y, _ = anatomy.spacing_mm
    low, high = small.z.start * step_z, small.z.stop * step_z
    backwards = ((y - small.y.start * step_y) / ((small.y.stop - small.y.start) * step_y)).clamp(0, 1)
    downwards = ((high - z) / (high - low)).clamp(0, 1)
    thickness = uniform(generator, *FLUID_MM[finding.severity]) * (0.6 + 0.5 * backwards) * downwards**0.4
    near = ramp(thickness - distance_mm(heart[box.index], anatomy.spacing_mm), 2.0)
    # Lung and pericardial fat give way. The diaphragm, bones and airways do not.
    open_air = ~in_lung(anatomy.labels[box.index]) & (hu[box.index] < -250)
    weight = near * ~heart[box.index] * ~open_air * (z >= low)
    new, mask = paint(hu, box, weight, uniform(generator, 2, 20), "denser")
    return Inserted(new, mask, finding) if mask.any() else None


def insert_mediastinal_nodes(
    hu: Tensor, anatomy: Anatomy, finding: Finding, generator: torch.Generator
) -> Inserted | None:
    """Put enlarged nodes beside the trachea and below the carina; None without a trachea or without room."""
    trachea = box_of(region(anatomy, "trachea"), margin=0)
    if trachea is None:
        return None
    step_z, step_y, step_x = anatomy.spacing_mm
    last = region(anatomy, "trachea")[trachea.z.start : trachea.z.start + 3].nonzero().float().mean(dim=0)
    carina = (trachea.z.start * step_z, float(last[1]) * step_y, float(last[2]) * step_x)
    whole = box_of(torch.ones_like(hu, dtype=torch.bool), margin=0)
    assert whole is not None, "the volume is not empty"
    coordinates = whole.coordinates_mm(anatomy)
    inside = torch.full_like(hu, -1e3)
    for station in torch.randperm(len(STATIONS_MM), generator=generator)[: NODES[finding.severity]].tolist():
        radius = uniform(generator, *NODE_RADIUS_MM[finding.severity])
        squares = torch.zeros_like(hu)
        for axis, (c, origin) in enumerate(zip(coordinates, carina, strict=True)):
            middle = origin + STATIONS_MM[station][axis] + uniform(generator, -4, 4)
            squares = squares + ((c - middle) / uniform(generator, 0.85, 1.3)) ** 2
        inside = torch.maximum(inside, radius - squares.sqrt())
    # Airways stay open.
    airway = ~in_lung(anatomy.labels) & (hu < -250)
    new, mask = paint(hu, whole, ramp(inside, 2.0) * ~airway, uniform(generator, 35, 58), "denser")
    least_mm3 = 2.0 * NODE_RADIUS_MM[finding.severity][0] ** 3
    return Inserted(new, mask, finding) if float(mask.sum()) * step_z * step_y * step_x > least_mm3 else None
