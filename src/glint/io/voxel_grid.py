"""Where the voxels of a volume are: shape and affine, and every way to cut or change a grid without its values.

Frame. Arrays are (Z, Y, X): three axes in the order in which NumPy counts them, whatever they mean in the patient.
`affine @ (z, y, x, 1)` takes an index in this order to millimetres (x, y, z, 1) in LPS: +x patient left, +y posterior,
+z superior, as in DICOM. Integer indices are centres of voxels; voxel i reaches from i - 0.5 to i + 0.5.

An orientation is three letters in array order, each the side towards which the index grows. GLINT's own, CANONICAL,
is "SPL": slices from feet to head, rows from front to back, columns from the patient's right to the left.
"""

from dataclasses import dataclass
from itertools import permutations
from math import ceil

import numpy as np
from numpy.typing import NDArray

from glint.errors import DataError, UsageError

Affine = NDArray[np.float64]
Triple = tuple[int, int, int]
Lengths = tuple[float, float, float]

CANONICAL = "SPL"
SIDES = ("LR", "PA", "SI")
"""For x, y and z: the side of growing and that of falling millimetres."""
MIN_SPACING_MM, MAX_SPACING_MM = 0.01, 50.0
MIN_VOLUME_SHARE = 0.05
"""Volume of a voxel over the product of its edges; 1 for a box, 0 when its edges lie in a plane."""


@dataclass(frozen=True, slots=True, eq=False)
class VoxelGrid:
    """A grid of voxels in the patient.

    Attributes:
        shape: (Z, Y, X).
        affine: (4, 4) float64, array index (z, y, x, 1) -> LPS millimetres (x, y, z, 1). May be oblique, sheared
            (gantry tilt) or left-handed: nothing is rounded away.

    Raises:
        DataError: The affine is singular or not finite.
    """

    shape: Triple
    affine: Affine

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        _check_spans(affine, "affine")
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)

    @property
    def spacing_mm(self) -> Lengths:
        """Distance of neighbours along each array axis (z, y, x), in mm."""
        z, y, x = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def orientation(self) -> str:
        """Three letters in array order; an oblique axis has the letter of the nearest side."""
        cosines = self._cosines()
        axes = _nearest_axes(cosines)
        return "".join(SIDES[axes[a]][int(cosines[axes[a], a] < 0)] for a in range(3))

    @property
    def tilt_deg(self) -> float:
        """Largest angle between an array axis and the patient axis that is nearest to it, in degrees."""
        cosines = np.abs(self._cosines())
        worst = min(cosines[axis, a] for a, axis in enumerate(_nearest_axes(cosines)))
        return float(np.degrees(np.arccos(min(worst, 1.0))))

    @property
    def shear_deg(self) -> float:
        """How far the array axes are from right angles to each other, in degrees; not 0 under gantry tilt."""
        cosines = self._cosines()
        overlaps = np.abs(cosines.T @ cosines)[np.triu_indices(3, 1)]
        return float(np.degrees(np.arcsin(min(overlaps.max(), 1.0))))

    @property
    def left_handed(self) -> bool:
        """Whether the axes (x, y, z) of the array form a mirrored frame; common in NIfTI, nothing wrong with it."""
        return bool(np.linalg.det(self.affine[:3, 2::-1]) < 0)

    def to_lps(self, indices: NDArray[np.floating]) -> Affine:
        """Take (N, 3) array indices (z, y, x) to (N, 3) LPS points (x, y, z) in mm."""
        return indices @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, points_lps: NDArray[np.floating]) -> Affine:
        """Take (N, 3) LPS points (x, y, z) in mm to (N, 3) fractional array indices (z, y, x)."""
        return (points_lps - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T

    def steps_from(self, other: "VoxelGrid") -> Affine:
        """Return the (4, 4) matrix that takes an array index of `other` to one of this grid."""
        return np.linalg.inv(self.affine) @ other.affine

    def box(self, start: Triple, shape: Triple) -> "VoxelGrid":
        """Return the grid of a crop; a negative start or a larger shape makes it a padding."""
        return VoxelGrid(shape, self._moved(np.eye(3), np.array(start, dtype=np.float64)))

    def divided(self, shape: Triple) -> "VoxelGrid":
        """Return the grid that cuts the same box into another number of cells, e.g. the patches of an encoder."""
        factor = np.array(self.shape) / np.array(shape)
        return VoxelGrid(shape, self._moved(np.diag(factor), (factor - 1) / 2))

    def spaced(self, spacing_mm: Lengths) -> "VoxelGrid":
        """Return the grid along the same axes, about the same centre, with exactly this spacing (z, y, x).

        It covers the whole box and, where the spacing does not divide it, less than a voxel more.
        """
        factor = np.array(spacing_mm) / np.array(self.spacing_mm)
        shape = _counts(np.array(self.shape) / factor)
        start = (np.array(self.shape) - 1) / 2 - factor * (np.array(shape) - 1) / 2
        return VoxelGrid(shape, self._moved(np.diag(factor), start))

    def straightened(self, spacing_mm: Lengths) -> "VoxelGrid":
        """Return the smallest CANONICAL grid with axes along the patient's that covers the whole box."""
        ends = [(-0.5, side - 0.5) for side in self.shape]
        corners = self.to_lps(np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(8, 3))
        low, high = corners.min(axis=0), corners.max(axis=0)
        step = np.array(spacing_mm)[::-1]
        x, y, z = _counts((high - low) / step)
        affine = np.eye(4)
        affine[:3, :3] = np.diag(step)[:, ::-1]
        affine[:3, 3] = (low + high) / 2 - step * (np.array((x, y, z)) - 1) / 2
        return VoxelGrid((z, y, x), affine)

    def turned(self, orientation: str) -> tuple["VoxelGrid", Triple, tuple[int, ...]]:
        """Reorder and reverse axes until they have an orientation; every voxel stays where it is in the patient.

        Returns:
            The grid; which old axis each new axis is; which new axes run backwards. An array follows with
            `numpy.flip(values.transpose(axes), backwards)`.

        Raises:
            UsageError: Not three letters, one of each pair L/R, P/A and S/I.
        """
        wanted = _axes_named(orientation)
        own = _axes_named(self.orientation)
        z, y, x = (own.index(axis) for axis in wanted)
        axes = (z, y, x)
        backwards = tuple(b for b in range(3) if orientation[b] != self.orientation[axes[b]])
        matrix, start = np.zeros((3, 3)), np.zeros(3)
        for b, a in enumerate(axes):
            matrix[a, b] = -1 if b in backwards else 1
            start[a] = self.shape[a] - 1 if b in backwards else 0
        shape = (self.shape[z], self.shape[y], self.shape[x])
        return VoxelGrid(shape, self._moved(matrix, start)), axes, backwards

    def _moved(self, matrix: Affine, start: Affine) -> Affine:
        """Return the affine of the grid whose index i is index `matrix @ i + start` here."""
        step = np.eye(4)
        step[:3, :3], step[:3, 3] = matrix, start
        return self.affine @ step

    def _cosines(self) -> Affine:
        """Return the (3, 3) direction cosines: rows x, y, z of the patient, columns array axes."""
        return self.affine[:3, :3] / np.array(self.spacing_mm)


def check_affine(affine: NDArray[np.floating], where: str) -> None:
    """Refuse an affine of a header that puts no scan into space.

    Args:
        affine: (4, 4), any three index axes -> mm.
        where: File, for the message.

    Raises:
        DataError: Not finite, singular, flat, or a spacing that no scanner has.
    """
    _check_spans(affine, where)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() < MIN_SPACING_MM or lengths.max() > MAX_SPACING_MM:
        raise DataError(
            "the voxels of the volume have an impossible size: "
            + " x ".join(f"{length:.4g}" for length in lengths)
            + " mm",
            where=where,
            expected=f"{MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm",
            fix="check the units of the header",
        )


def _check_spans(affine: NDArray[np.floating], where: str) -> None:
    """Refuse what is no frame of three axes."""
    what = ""
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or (affine[3] != (0, 0, 0, 1)).any():
        what = "is not usable: it holds NaN or is no 4 x 4 matrix of a grid"
    else:
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if not (lengths > 0).all() or abs(np.linalg.det(affine[:3, :3] / lengths)) < MIN_VOLUME_SHARE:
            what = "is singular: its axes do not span space"
    if what:
        raise DataError(
            f"the affine of the volume {what}", where=where, expected="three axes in space, in mm"
        )


def _nearest_axes(cosines: Affine) -> Triple:
    """Return, for each array axis, the patient axis (0 x, 1 y, 2 z) it runs along, each taken once."""
    sizes = np.abs(cosines)
    best = max(permutations(range(3)), key=lambda p: sum(sizes[p[a], a] for a in range(3)))
    return best[0], best[1], best[2]


def _axes_named(orientation: str) -> list[int]:
    """Return the patient axis of each letter."""
    axes = [next((i for i, pair in enumerate(SIDES) if letter in pair), -1) for letter in orientation]
    if sorted(axes) != [0, 1, 2]:
        raise UsageError(
            f"'{orientation}' is no orientation",
            expected="three letters in array order, one of each pair L/R, P/A and S/I, e.g. SPL",
        )
    return axes


def _counts(extents: Affine) -> Triple:
    """Return how many whole voxels cover extents given in voxels."""
    a, b, c = (max(1, ceil(extent - 1e-6)) for extent in extents)
    return a, b, c
