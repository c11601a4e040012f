"""Pleural effusion (fluid that settles, with a meniscus) and pneumothorax (air above, with a pleural line)."""

import torch
from torch import Tensor

from glint.phantom.anatomy import Anatomy
from glint.phantom.findings.common import Box, Inserted, box_of, lung, paint, ramp, smooth_noise, uniform
from glint.phantom.schema import Finding

FLUID_LEVEL_SHARE = {"small": (0.05, 0.11), "moderate": (0.16, 0.28), "large": (0.34, 0.55)}
"""Height of the fluid above the costophrenic angle, as a share of the height of the lung."""
MENISCUS_MM = {"small": (18.0, 30.0), "moderate": (28.0, 50.0), "large": (35.0, 60.0)}
"""How far the fluid climbs at the lateral chest wall."""
AIR_THICKNESS_MM = {"small": (14.0, 20.0), "moderate": (22.0, 34.0), "large": (38.0, 60.0)}
AIR_REACH_SHARE = {"small": (0.3, 0.42), "moderate": (0.45, 0.7), "large": (0.8, 1.0)}
"""How far down from the apex the air reaches, as a share of the height of the lung."""

LINE_MM = 2.4
"""Half the thickness of the pleural line: thinner would vanish on the voxel grid."""


def insert_effusion(
    hu: Tensor, anatomy: Anatomy, finding: Finding, generator: torch.Generator
) -> Inserted | None:
    """Fill the base of one or both pleural spaces of an upright patient; None when a lung is missing."""
    mask = torch.zeros_like(hu, dtype=torch.bool)
    for side in ("left", "right") if finding.side == "bilateral" else (finding.side,):
        inside_all = lung(anatomy, side)
        box = box_of(inside_all)
        if box is None:
            return None
        weight = _fluid(anatomy, box, inside_all[box.index], side, finding, generator)
        hu, changed = paint(hu, box, weight, uniform(generator, 0, 20), "denser", least_hu=90.0)
        mask |= changed
    return Inserted(hu, mask, finding) if mask.any() else None


def _fluid(
    anatomy: Anatomy, box: Box, inside: Tensor, side: str, finding: Finding, generator: torch.Generator
) -> Tensor:
    """Return the share of fluid per voxel: all below a level that climbs towards the chest wall.

    The climb is steepest at the side, where a frontal view shows it as the meniscus. A small effusion stays in
    the costophrenic angle: fluid that only hides behind the liver would be a finding nobody can see.
    """
    z, _, x = box.coordinates_mm(anatomy)
    side_mm = _distance_to_side(inside, x, side)
    width = float(x.max() - x.min())
    rows = (inside & (side_mm < 0.25 * width)).flatten(1).any(dim=1).nonzero()
    angle, apex = float(z[int(rows[0])]), float(z[int(rows[-1])])
    level = angle + uniform(generator, *FLUID_LEVEL_SHARE[finding.severity]) * (apex - angle)
    rise, reach = uniform(generator, *MENISCUS_MM[finding.severity]), uniform(generator, 12, 20)
    wavy = smooth_noise(inside.shape, anatomy.spacing_mm, 40.0, generator).to(inside.device)
    surface = level + rise * torch.exp(-side_mm / reach) + 1.5 * wavy
    # The fluid's upper end tapers in front of and behind the lung: a sharp level would mean air above it.
    weight = ramp(surface - z, 14.0) * inside
    if finding.severity == "small":
        weight = weight * ramp(uniform(generator, 0.4, 0.6) * width - side_mm, 12.0)
    return weight


def _distance_to_side(inside: Tensor, x: Tensor, side: str) -> Tensor:
    """Return (Z, Y, X) mm to the outermost lung voxel of each row; huge where the row has no lung."""
    outward = x if side == "left" else -x
    outermost = torch.where(inside, outward, torch.full_like(outward, -1e6)).amax(dim=2, keepdim=True)
    return (outermost - outward).abs()


def insert_pneumothorax(
    hu: Tensor, anatomy: Anatomy, finding: Finding, generator: torch.Generator
) -> Inserted | None:
    """Put air between chest wall and lung at the apex and the side, bounded by a thin pleural line.

    The lung below the line stays exactly as it was: a brighter rest of the lung would be a shortcut.
    """
    inside_all = lung(anatomy, finding.side)
    box = box_of(inside_all)
    if box is None:
        return None
    inside = inside_all[box.index]
    beyond_mm, has_air = _beyond_pleura(anatomy, box, inside, finding, generator)
    air = ramp(-beyond_mm, 1.5) * inside * has_air
    hu, air_mask = paint(hu, box, air, -1000.0, "lighter")
    line = (1 - (beyond_mm - 0.5 * LINE_MM).abs() / LINE_MM).clamp(0, 1) * inside * has_air
    hu, line_mask = paint(hu, box, line, uniform(generator, -250, 0), "denser")
    mask = air_mask | line_mask
    return Inserted(hu, mask, finding) if air_mask.any() else None


def _beyond_pleura(
    anatomy: Anatomy, box: Box, inside: Tensor, finding: Finding, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return (Z, Y, X) signed mm past the visceral pleura (negative: in the air) and (Z, 1, 1) rows with air.

    Depth is measured in the frontal plane from the lateral and apical outline, so that the line is tangent to
    the beam; it bulges towards the middle of the thorax, as a lung does, so that the line stays sharp for
    oblique rays too.
    """
    z, y, x = box.coordinates_mm(anatomy)
    outline_mm = _distance_to_outline(inside.any(dim=1), z, x, finding.side)
    top, bottom = _lung_rows(inside, z)
    reach = uniform(generator, *AIR_REACH_SHARE[finding.severity])
    thickest = uniform(generator, *AIR_THICKNESS_MM[finding.severity])
    fade = (1 - (top - z) / (reach * (top - bottom))).clamp(0, 1) ** 0.7
    centre = float((y * inside).sum() / inside.sum())
    bulge = (4.0 * ((y - centre) / 60.0) ** 2).clamp(max=8.0) * fade
    wavy = 1.5 * smooth_noise(outline_mm.shape, anatomy.spacing_mm, 30.0, generator).to(inside.device)
    return outline_mm - (thickest * fade + bulge + wavy * fade), thickest * fade > 3.0


def _lung_rows(inside: Tensor, z: Tensor) -> tuple[float, float]:
    rows = inside.flatten(1).any(dim=1).nonzero()
    return float(z[int(rows[-1])]), float(z[int(rows[0])])


def _distance_to_outline(silhouette: Tensor, z: Tensor, x: Tensor, side: str) -> Tensor:
    """Return (Z, 1, X) mm to the lateral and apical outline of a (Z, X) frontal lung silhouette."""
    outward = (x if side == "left" else -x)[0]
    lateral = torch.where(silhouette, outward, torch.full_like(outward, -1e6)).amax(dim=1)
    rows = lateral > -1e5
    edge = torch.stack((z[rows, 0, 0], lateral[rows]), dim=1)
    apex = torch.where(silhouette, z[:, :, 0], torch.full_like(z[:, :, 0], -1e6)).amax(dim=0)
    # The cap ends 30 mm below the top: lower "tops" belong to the mediastinal border.
    cap = apex > apex.max() - 30.0
    edge = torch.cat((edge, torch.stack((apex[cap], outward[0, cap]), dim=1)))
    grid = torch.stack(torch.broadcast_tensors(z[:, 0], outward), dim=-1)
    return torch.cdist(grid.reshape(-1, 2), edge).amin(dim=1).reshape(silhouette.shape)[:, None, :]
