"""One CT scanner and protocol: grid, slice thickness, kernel, noise, contrast agent. It cannot know of findings.

The order is that of nature: contrast agent, blur along z, sampling, kernel, noise.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from glint.io.regrid import regrid
from glint.io.voxel_grid import Lengths, Triple, VoxelGrid
from glint.phantom.anatomy import Anatomy
from glint.phantom.findings.common import box_of, in_lung, region
from glint.phantom.placing import WHOLE_ORGAN, Placed

Floats = NDArray[np.float32]

AIR_HU = -1000.0
LOWEST_HU, HIGHEST_HU = -1024, 3071
PHASES: dict[str, dict[str, tuple[float, float]]] = {
    "plain": {},
    "arterial": {
        "aorta": (200, 330),
        "great_vessels": (180, 320),
        "heart": (130, 260),
        "pulmonary_vein": (150, 280),
        "superior_vena_cava": (120, 500),
        "inferior_vena_cava": (0, 30),
        "kidneys": (60, 130),
        "spleen": (30, 70),
        "liver": (5, 20),
    },
    "venous": {
        "aorta": (80, 140),
        "great_vessels": (80, 140),
        "heart": (70, 130),
        "pulmonary_vein": (75, 135),
        "superior_vena_cava": (80, 140),
        "inferior_vena_cava": (60, 110),
        "kidneys": (100, 160),
        "spleen": (50, 80),
        "liver": (35, 65),
    },
}
"""Phase -> label -> range of Hounsfield units that the agent adds."""


@dataclass(frozen=True)
class Scanner:
    """How a patient is scanned.

    Attributes:
        grid: Voxels of the scan, canonical order, LPS.
        thickness_mm: Thickness of slices; more than their distance when they overlap.
        kernel: Above 0 the share of unsharp masking, below 0 minus the standard deviation of the blur in voxels.
        noise_hu: Standard deviation of the noise.
        noise_px: Correlation of the noise within a slice, voxels.
        phase: A key of PHASES.
        agent_hu: Label -> Hounsfield units that the agent adds.
        blood_hu: What the agent adds to vessels of the lung.
    """

    grid: VoxelGrid
    thickness_mm: float
    kernel: float
    noise_hu: float
    noise_px: float
    phase: str
    agent_hu: dict[str, float]
    blood_hu: float


def volume_grid(anatomy: Anatomy) -> VoxelGrid:
    """Return where the anatomy is: centred on the isocentre, axes along the patient's."""
    z, y, x = anatomy.hu.shape
    return _grid((z, y, x), anatomy.spacing_mm, (0.0, 0.0, 0.0))


def sample_scanner(anatomy: Anatomy, spacing_mm: float, seeds: np.random.SeedSequence) -> Scanner:
    """Draw a scanner; half of the scans cover a part of the trunk's height, a quarter one side of it only.

    Args:
        anatomy: Whose size decides how much there is to scan.
        spacing_mm: Nominal distance of voxels; each scanner has its own near it.
        seeds: Source of every choice.
    """
    rng = np.random.default_rng(seeds)
    high, deep, wide = (n * s for n, s in zip(anatomy.hu.shape, anatomy.spacing_mm, strict=True))
    bottom, top = _part(rng, high)
    in_plane = spacing_mm * rng.uniform(0.8, 1.0)
    slices = spacing_mm * rng.uniform(0.85, 1.25)
    middle_x, width = rng.uniform(-10, 10), wide
    if rng.random() < 0.25:  # one lung, as in a targeted reconstruction
        width = wide * rng.uniform(0.42, 0.55)
        middle_x = rng.choice([-1, 1]) * (0.5 * (wide - width) + rng.uniform(-10, 20))
    phase = str(rng.choice(list(PHASES), p=[0.45, 0.25, 0.3]))
    gain = rng.uniform(0, 1)
    agent = {
        name: float(low + np.clip(gain + rng.uniform(-0.15, 0.15), 0, 1) * (up - low))
        for name, (low, up) in PHASES[phase].items()
    }
    return Scanner(
        grid=filled_grid(
            (top - bottom, deep, width),
            (slices, in_plane, in_plane),
            (0.5 * (bottom + top - high), 0.0, middle_x),
        ),
        thickness_mm=slices * rng.uniform(1.0, 1.8),
        kernel=float(rng.choice([rng.uniform(-0.8, -0.4), 0.0, rng.uniform(0.3, 1.2)])),
        noise_hu=float(np.exp(rng.uniform(np.log(6), np.log(38)))),
        noise_px=rng.uniform(0.4, 0.9),
        phase=phase,
        agent_hu=agent,
        blood_hu=0.8 * agent.get("pulmonary_vein", 0.0),
    )


def _part(rng: np.random.Generator, high: float) -> tuple[float, float]:
    """Return the (bottom, top) of a scan in mm above the lowest slice."""
    if rng.random() < 0.5:
        return high * rng.uniform(0, 0.05), high * rng.uniform(0.95, 1)
    length = high * rng.uniform(0.45, 0.85)
    bottom = rng.uniform(0, high - length)
    return bottom, bottom + length


def filled_grid(sides_mm: Lengths, spacing_mm: Lengths, middle_zyx: Lengths) -> VoxelGrid:
    """Return the canonical grid that fills a block; the isocentre is the origin."""
    z, y, x = (round(side / step) for side, step in zip(sides_mm, spacing_mm, strict=True))
    return _grid((z, y, x), spacing_mm, middle_zyx)


def _grid(shape: Triple, spacing_mm: Lengths, middle_zyx: Lengths) -> VoxelGrid:
    """Return a canonical grid whose middle is at a point, mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing_mm[::-1])[:, ::-1]
    sides = [(n - 1) * s / 2 for n, s in zip(shape, spacing_mm, strict=True)]
    affine[:3, 3] = [m - side for m, side in zip(middle_zyx[::-1], sides[::-1], strict=True)]
    return VoxelGrid(shape, affine)


def covered(anatomy: Anatomy, scanner: Scanner) -> tuple[slice, slice, slice]:
    """Return the block of the anatomy's voxels whose centres lie inside the scan."""
    corners = np.array([[-0.5] * 3, [n - 0.5 for n in scanner.grid.shape]])
    low, high = volume_grid(anatomy).to_index(scanner.grid.to_lps(corners))
    starts = [max(int(np.ceil(a)), 0) for a in low]
    stops = [min(int(np.floor(b)) + 1, n) for b, n in zip(high, anatomy.hu.shape, strict=True)]
    z, y, x = (slice(a, b) for a, b in zip(starts, stops, strict=True))
    return z, y, x


def enhance(anatomy: Anatomy, placed: Placed, scanner: Scanner) -> Tensor:
    """Return the volume with contrast agent in the labelled blood pools and organs: (Z, Y, X) HU.

    Plaques, fat and fluid take up none. The wall of the heart takes up less than its chambers. The pulmonary
    artery is not labelled in the CT that all patients come from, so its trunk stays dark.
    """
    hu = placed.hu
    if not scanner.agent_hu:
        return hu
    added = torch.zeros_like(hu)
    for name, agent in scanner.agent_hu.items():
        pool = region(anatomy, name)
        for finding, mask in zip(placed.findings, placed.masks, strict=True):
            if WHOLE_ORGAN.get(finding.kind) == name:
                pool = pool | mask
        box = box_of(pool, margin=3)
        if box is None:
            continue
        share = _mean(pool[box.index].float(), 3)
        if name == "heart":
            share = share * (0.45 + 0.55 * ((_mean(share, 9) - 0.6) / 0.3).clamp(0, 1))
        added[box.index] = torch.maximum(added[box.index], agent * share)
    # Vessels of the lung as they were before any finding: a nodule is no vessel.
    vessels = in_lung(anatomy.labels) * ((anatomy.hu + 450) / 400).clamp(0, 1)
    added = torch.maximum(added, scanner.blood_hu * vessels)
    bloodlike = ((hu + 40) / 60).clamp(0, 1) * ((200 - hu) / 100).clamp(0, 1)
    return hu + added * torch.where(vessels > 0, (hu < 200).float(), bloodlike)


def _mean(share: Tensor, size: int) -> Tensor:
    """Average over cubes, as softly as the voxels of a scan do at an edge."""
    return torch.from_numpy(ndimage.uniform_filter(share.cpu().numpy(), size, mode="constant")).to(
        share.device
    )


def scan(
    anatomy: Anatomy, placed: Placed, scanner: Scanner, seeds: np.random.SeedSequence
) -> NDArray[np.int16]:
    """Return the scan: (Z, Y, X) int16 HU on `scanner.grid`."""
    thick = thicken(anatomy, enhance(anatomy, placed, scanner), scanner)
    return finish(sample_on(anatomy, thick, scanner.grid), scanner, np.random.default_rng(seeds))


def thicken(anatomy: Anatomy, hu: Tensor, scanner: Scanner) -> Floats:
    """Average a volume (Z, Y, X) of the anatomy over the thickness of slices."""
    values: Floats = hu.cpu().numpy()
    variance = max(scanner.thickness_mm**2 - scanner.grid.spacing_mm[0] ** 2, 0.0) / 12
    if variance > 0:
        values = ndimage.gaussian_filter1d(values, variance**0.5 / anatomy.spacing_mm[0], axis=0)
    return values


def sample_on(anatomy: Anatomy, values: Floats, grid: VoxelGrid) -> Floats:
    """Sample a volume of the anatomy on the grid of a scan, air around it."""
    return regrid(values, volume_grid(anatomy), grid, fill=AIR_HU)


def finish(exact: Floats, scanner: Scanner, rng: np.random.Generator) -> NDArray[np.int16]:
    """Apply the reconstruction kernel and add noise: more where the slice absorbs more."""
    image = exact
    if scanner.kernel < 0:
        image = ndimage.gaussian_filter(exact, (0, -scanner.kernel, -scanner.kernel))
    elif scanner.kernel > 0:
        image = exact + scanner.kernel * (exact - ndimage.gaussian_filter(exact, (0, 0.8, 0.8)))
    noise = rng.standard_normal(exact.shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (0, scanner.noise_px, scanner.noise_px))
    absorbed = np.clip(exact + 1000, 0, 2000).sum(axis=(1, 2))
    strength = np.sqrt(absorbed / max(float(absorbed.mean()), 1.0))
    noise *= (scanner.noise_hu * strength / noise.std())[:, None, None].astype(np.float32)
    return np.rint(image + noise).clip(LOWEST_HU, HIGHEST_HU).astype(np.int16)
