"""Central venous catheter and pacemaker: radio-opaque tubes along the great veins, and a metal generator."""

import torch
from torch import Tensor

from glint.phantom.anatomy import Anatomy
from glint.phantom.findings.common import (
    SMALLEST_CHANGE_HU,
    Inserted,
    box_around,
    box_of,
    paint,
    ramp,
    region,
    uniform,
)
from glint.phantom.schema import Finding

METAL_HU = 6000.0
POLYMER_HU = 5500.0
"""Barium-filled polymer of a catheter wall."""


def insert_catheter(
    hu: Tensor, anatomy: Anatomy, finding: Finding, generator: torch.Generator
) -> Inserted | None:
    """Lead a 2.3 mm tube from the neck or the subclavian vein to the cavo-atrial junction."""
    vein = _vena_cava_mm(anatomy)
    if vein is None:
        return None
    top, bottom = vein
    depth = uniform(generator, -6, 22)
    tip = bottom - torch.tensor([depth, 0.0, 0.0])
    points = [*_approach_mm(anatomy, finding.side, top, generator), (top + bottom) / 2, tip]
    new, mask = draw_tube(hu, anatomy, smooth_path(points), uniform(generator, 2.1, 2.8), POLYMER_HU)
    return Inserted(new, mask, finding) if mask.any() else None


def insert_pacemaker(
    hu: Tensor, anatomy: Anatomy, finding: Finding, generator: torch.Generator
) -> Inserted | None:
    """Put a generator into the chest wall below the clavicle, with a lead to the right ventricle."""
    vein, heart = _vena_cava_mm(anatomy), box_of(region(anatomy, "heart"), margin=0)
    clavicle = box_of(region(anatomy, f"clavicula_{finding.side}"), margin=0)
    if vein is None or heart is None or clavicle is None:
        return None
    outward = 1.0 if finding.side == "left" else -1.0
    step_z, step_y, step_x = anatomy.spacing_mm
    medial = clavicle.x.start if finding.side == "left" else clavicle.x.stop
    centre_x = medial * step_x + outward * uniform(generator, 45, 68)
    centre_z = clavicle.z.start * step_z - uniform(generator, 18, 36)
    placed = _generator(hu, anatomy, centre_z, centre_x, generator)
    if placed is None:
        return None
    new, mask, header = placed
    top, bottom = vein
    apex = torch.tensor(
        [
            (0.85 * heart.z.start + 0.15 * heart.z.stop) * step_z,
            (0.7 * heart.y.start + 0.3 * heart.y.stop) * step_y,
            (0.35 * heart.x.start + 0.65 * heart.x.stop) * step_x,
        ]
    )
    valve = torch.stack((0.5 * (bottom[0] + apex[0]), 0.5 * (bottom[1] + apex[1]), bottom[2] + 4.0))
    entry = _approach_mm(anatomy, finding.side, top, generator, subclavian=True)[1:]
    new, lead = draw_tube(new, anatomy, smooth_path([header, *entry, bottom, valve, apex]), 2.0, METAL_HU)
    mask |= lead
    if uniform(generator, 0, 1) < 0.5:
        atrium = bottom + torch.tensor([uniform(generator, -22, -8), -18.0, uniform(generator, -4, 8)])
        loop = torch.stack((atrium[0] - 10.0, atrium[1], atrium[2]))
        beside = [header + torch.tensor([4.0, 0.0, 0.0]), *[p + torch.tensor([2.5, 0, 2.5]) for p in entry]]
        new, lead = draw_tube(new, anatomy, smooth_path([*beside, bottom, loop, atrium]), 2.0, METAL_HU)
        mask |= lead
    return Inserted(new, mask, finding)


def smooth_path(points_mm: list[Tensor], step_mm: float = 0.5) -> Tensor:
    """Return (N, 3) points about `step_mm` apart on a Catmull-Rom curve through `points_mm`."""
    knots = [2 * points_mm[0] - points_mm[1], *points_mm, 2 * points_mm[-1] - points_mm[-2]]
    parts: list[Tensor] = []
    for before, start, stop, after in zip(knots, knots[1:], knots[2:], knots[3:], strict=False):
        count = max(2, int(float((stop - start).norm()) / step_mm))
        t = torch.arange(count)[:, None] / count
        tangent_start, tangent_stop = 0.5 * (stop - before), 0.5 * (after - start)
        parts.append(
            (2 * t**3 - 3 * t**2 + 1) * start
            + (t**3 - 2 * t**2 + t) * tangent_start
            + (-2 * t**3 + 3 * t**2) * stop
            + (t**3 - t**2) * tangent_stop
        )
    return torch.cat(parts)


def draw_tube(
    hu: Tensor, anatomy: Anatomy, path_mm: Tensor, diameter_mm: float, tube_hu: float
) -> tuple[Tensor, Tensor]:
    """Add a tube thinner than a voxel, keeping its exact mass; return (new volume, changed voxels).

    Each piece of the path spreads its excess density over the eight voxels around it (trilinear shares).
    """
    spacing = torch.tensor(anatomy.spacing_mm)
    lengths = (path_mm[1:] - path_mm[:-1]).norm(dim=1)
    index = 0.5 * (path_mm[1:] + path_mm[:-1]) / spacing
    excess = (tube_hu * torch.pi / 4 * diameter_mm**2 * lengths / spacing.prod()).to(hu.dtype)
    added = torch.zeros_like(hu)
    base = index.floor()
    for corner in torch.cartesian_prod(*[torch.tensor([0, 1])] * 3):
        share = (1 - (index - base - corner).abs()).prod(dim=1)
        voxel = (base + corner).long()
        inside = ((voxel >= 0) & (voxel < torch.tensor(hu.shape))).all(dim=1)
        z, y, x = voxel[inside].to(hu.device).unbind(dim=1)
        added.index_put_((z, y, x), (share * excess)[inside].to(hu.device), accumulate=True)
    changed = added >= 5 * SMALLEST_CHANGE_HU
    return torch.where(changed, hu + added, hu), changed


def _generator(
    hu: Tensor, anatomy: Anatomy, centre_z: float, centre_x: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Paint the metal can under the skin; return (volume, mask, (z, y, x) mm of its lead socket) or None."""
    width, height = uniform(generator, 40, 50), uniform(generator, 38, 48)
    box = box_around(anatomy, torch.tensor([centre_z, 0.0, centre_x]), (0.6 * height, 1e4, 0.6 * width))
    if box is None:
        return None
    z, y, x = box.coordinates_mm(anatomy)
    skin = _skin_mm(hu[box.index], y)
    across = ((x - centre_x).abs() / (width / 2)) ** 4 + ((z - centre_z).abs() / (height / 2)) ** 4
    depth = y - skin - uniform(generator, 9, 13)
    thin = ramp(4.0 - depth.abs(), 3.5) * ramp((1 - across) * width / 6, 2.0)
    new, mask = paint(hu, box, thin * (skin < 1e5), METAL_HU, "denser")
    if not mask.any():
        return None
    row = int((z[:, 0, 0] - centre_z).abs().argmin())
    column = int((x[0, 0] - centre_x).abs().argmin())
    depth_mm = float(skin[row, 0, column]) + 11.0
    return new, mask, torch.tensor([centre_z + 0.45 * height, depth_mm, centre_x])


def _skin_mm(hu: Tensor, y: Tensor) -> Tensor:
    """Return (Z, 1, X) mm of the first body voxel from the front, evened out; 1e6 where there is none."""
    first = torch.where(hu > -300, y, torch.full_like(y, 1e6)).amin(dim=1, keepdim=True)
    known = first < 1e5
    level = first[known].median() if known.any() else first.new_tensor(1e6)
    # Single odd voxels (a table edge, a fold) would tear the can.
    even = torch.where(known, first, level)[:, 0][None, None]
    return torch.nn.functional.avg_pool2d(even, 5, 1, 2, count_include_pad=False)[0, 0][:, None]


def _vena_cava_mm(anatomy: Anatomy) -> tuple[Tensor, Tensor] | None:
    """Return (z, y, x) mm of the upper and lower end of the superior vena cava, or None."""
    vein = region(anatomy, "superior_vena_cava")
    box = box_of(vein, margin=0)
    if box is None:
        return None
    slab = max(1, round(6 / anatomy.spacing_mm[0]))
    ends = (slice(box.z.stop - slab, box.z.stop), slice(box.z.start, box.z.start + slab))
    return _centre_mm(vein, ends[0], anatomy), _centre_mm(vein, ends[1], anatomy)


def _centre_mm(mask: Tensor, rows: slice, anatomy: Anatomy) -> Tensor:
    index = mask[rows].nonzero().float().mean(dim=0).cpu() + torch.tensor([float(rows.start), 0.0, 0.0])
    return index * torch.tensor(anatomy.spacing_mm)


def _approach_mm(
    anatomy: Anatomy, side: str, top: Tensor, generator: torch.Generator, subclavian: bool | None = None
) -> list[Tensor]:
    """Return the way of the vein from its puncture to the vena cava: three points, (z, y, x) mm each."""
    outward = 1.0 if side == "left" else -1.0
    # The left brachiocephalic vein crosses the midline in front of the arteries; the right one is short.
    lateral = 62.0 if side == "left" else 16.0
    junction = top + torch.tensor([28.0 if side == "left" else 22.0, -4.0, outward * lateral])
    if subclavian is None:
        subclavian = uniform(generator, 0, 1) < 0.4
    if subclavian:
        way = torch.tensor([uniform(generator, 2, 10), -6.0, outward * 30.0])
        start = torch.tensor([uniform(generator, -14, 2), -12.0, outward * uniform(generator, 58, 75)])
    else:
        way = torch.tensor([30.0, 4.0, outward * 6.0])
        start = torch.tensor([uniform(generator, 70, 110), 10.0, outward * uniform(generator, 8, 16)])
    highest = anatomy.hu.shape[0] * anatomy.spacing_mm[0]
    return [
        torch.cat((p[:1].clamp(max=highest), p[1:])) for p in (junction + start, junction + way, junction)
    ]
