"""Cardiomegaly: the labelled heart, enlarged mostly to the left and downwards, into the lung."""

import torch
from torch import Tensor
from torch.nn import functional

from glint.phantom.anatomy import Anatomy
from glint.phantom.findings.common import Box, Inserted, box_of, in_lung, paint, region, uniform
from glint.phantom.schema import Finding

TRANSVERSE_GROWTH = {"small": (1.2, 1.27), "moderate": (1.27, 1.37), "large": (1.37, 1.5)}


def insert_cardiomegaly(
    hu: Tensor, anatomy: Anatomy, finding: Finding, generator: torch.Generator
) -> Inserted | None:
    """Paint heart tissue where the lung lies inside the enlarged outline; None without a labelled heart.

    The mask is the whole enlarged heart: the sentence speaks of the heart, not of its rim.
    """
    heart = rounded_heart(region(anatomy, "heart"), anatomy.spacing_mm)
    small = box_of(heart, margin=0)
    if small is None:
        return None
    growth = uniform(generator, *TRANSVERSE_GROWTH[finding.severity])
    box = box_of(heart, margin=round(45.0 / min(anatomy.spacing_mm)))
    assert box is not None, "the heart is not empty"
    enlarged = _enlarge(anatomy, box, small, heart[box.index], growth, generator)
    lungs = in_lung(anatomy.labels[box.index])
    weight = enlarged * (lungs | (enlarged > 0.5) & ~heart[box.index])
    # The diaphragm carries the heart: it does not sink into the recesses below.
    weight[: max(small.z.start - box.z.start - 1, 0)] = 0.0
    # Lung, and the fat around the heart; bone, liver and vessels are denser already.
    new, changed = paint(hu, box, weight, uniform(generator, 30, 45), "denser", least_hu=90.0)
    return Inserted(new, heart | changed, finding) if changed.any() else None


def rounded_heart(heart: Tensor, spacing_mm: tuple[float, float, float]) -> Tensor:
    """Return the heart label rounded over 24 mm: label maps let the great vessels branch off it."""
    box = box_of(heart, margin=0)
    if box is None:
        return heart
    core = heart[box.index].float()[None, None]
    # Averaging twice over a block, one axis after the other, is close to a Gaussian; above a half is inside.
    for axis, step in [*enumerate(spacing_mm)] * 2:
        reach = max(1, round(12.0 / step))
        kernel = [2 * reach + 1 if a == axis else 1 for a in range(3)]
        padding = [reach if a == axis else 0 for a in range(3)]
        core = functional.avg_pool3d(core, kernel, stride=1, padding=padding)
    rounded = torch.zeros_like(heart)
    rounded[box.index] = core[0, 0] > 0.5
    return rounded


def _enlarge(
    anatomy: Anatomy, box: Box, small: Box, heart: Tensor, growth: float, generator: torch.Generator
) -> Tensor:
    """Return the soft mask (in `box`) of the heart scaled about a point near its upper right border.

    Scaling about that point moves the right border a little and the apex, left and low, the most.
    """
    z, y, x = box.coordinates_mm(anatomy)
    low = [s.start * step for s, step in zip(small.index, anatomy.spacing_mm, strict=True)]
    high = [s.stop * step for s, step in zip(small.index, anatomy.spacing_mm, strict=True)]
    anchor = (
        low[0] + uniform(generator, 0.6, 0.85) * (high[0] - low[0]),
        0.5 * (low[1] + high[1]),
        low[2] + uniform(generator, 0.15, 0.35) * (high[2] - low[2]),
    )
    factors = (1 + 0.5 * (growth - 1), 1 + 0.3 * (growth - 1), growth)
    sources: list[Tensor] = []
    for c, point, factor in zip((z, y, x), anchor, factors, strict=True):
        source = point + (c - point) / factor
        first, last = float(c.min()), float(c.max())
        sources.append(2 * (source - first) / (last - first) - 1)
    grid = torch.stack(torch.broadcast_tensors(sources[2], sources[1], sources[0]), dim=-1)
    soft = functional.grid_sample(heart.float()[None, None], grid[None], align_corners=True)[0, 0]
    smooth = functional.avg_pool3d(soft[None, None], 3, stride=1, padding=1)[0, 0]
    return ((smooth - 0.3) / 0.4).clamp(0, 1)
