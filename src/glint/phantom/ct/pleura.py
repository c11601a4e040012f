"""Pleural effusion and pneumothorax of a lying patient: fluid sinks to the back, air rises to the front."""

import torch
from torch import Tensor

from glint.phantom.anatomy import Anatomy
from glint.phantom.findings.common import Box, Inserted, box_of, lung, paint, ramp, smooth_noise, uniform
from glint.phantom.schema import Finding

FLUID_MM = {"small": (16.0, 24.0), "moderate": (32.0, 50.0), "large": (60.0, 90.0)}
"""Depth of the fluid over the lowest point of the pleural space, at the lung's base."""
AIR_MM = {"small": (5.0, 8.0), "moderate": (11.0, 18.0), "large": (26.0, 40.0)}
LINE_MM = 1.6
"""Half the thickness of the visceral pleura: thinner would vanish on the voxel grid."""


def insert_supine_effusion(
    hu: Tensor, anatomy: Anatomy, finding: Finding, generator: torch.Generator
) -> Inserted | None:
    """Fill the back of one or both pleural spaces up to a level; None when a lung is missing."""
    mask = torch.zeros_like(hu, dtype=torch.bool)
    for side in ("left", "right") if finding.side == "bilateral" else (finding.side,):
        inside = lung(anatomy, side)
        box = box_of(inside)
        if box is None:
            return None
        weight = _fluid(anatomy, box, inside[box.index], finding, generator)
        hu, changed = paint(hu, box, weight, uniform(generator, 0, 22), "denser", least_hu=90.0)
        if not changed.any():
            return None
        mask |= changed
    return Inserted(hu, mask, finding)


def _fluid(
    anatomy: Anatomy, box: Box, inside: Tensor, finding: Finding, generator: torch.Generator
) -> Tensor:
    """Return the share of fluid per voxel: deepest at the base, and climbing a little along the chest wall."""
    z, y, _ = box.coordinates_mm(anatomy)
    back = float(torch.where(inside, y, -1e6).max())
    share = (z - z.min()) / (z.max() - z.min())
    depth = uniform(generator, *FLUID_MM[finding.severity]) * (1 - 0.6 * share)
    climb = uniform(generator, 5, 12) * torch.exp(-anatomy.lung_depth_mm[box.index] / 7.0)
    wavy = 1.5 * smooth_noise(inside.shape, anatomy.spacing_mm, 40.0, generator).to(inside.device)
    return ramp(depth + climb + wavy - (back - y), 3.0) * inside


def insert_supine_pneumothorax(
    hu: Tensor, anatomy: Anatomy, finding: Finding, generator: torch.Generator
) -> Inserted | None:
    """Put a crescent of air in front of the lung, bounded by a thin pleural line; None without a lung.

    The lung behind the line stays exactly as it was: a denser rest of the lung would be a shortcut.
    """
    inside_all = lung(anatomy, finding.side)
    box = box_of(inside_all)
    if box is None:
        return None
    inside = inside_all[box.index]
    _, y, _ = box.coordinates_mm(anatomy)
    front, back = float(y.min()), float(y.max())
    forward = (1 - (y - front) / (uniform(generator, 0.35, 0.55) * (back - front))).clamp(0, 1) ** 0.6
    wavy = 1 + 0.1 * smooth_noise(inside.shape, anatomy.spacing_mm, 30.0, generator).to(inside.device)
    thickness = uniform(generator, *AIR_MM[finding.severity]) * forward * wavy
    beyond_mm = anatomy.lung_depth_mm[box.index] - thickness
    reached = inside & (thickness > 2.0)
    hu, air = paint(hu, box, ramp(-beyond_mm, 1.5) * reached, -1000.0, "lighter")
    line = (1 - (beyond_mm - 0.5 * LINE_MM).abs() / LINE_MM).clamp(0, 1) * reached
    hu, pleura = paint(hu, box, line, uniform(generator, -250, 0), "denser")
    return Inserted(hu, air | pleura, finding) if air.any() else None
