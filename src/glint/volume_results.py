"""What GLINT answers about CT volumes. Points are millimetres (x, y, z) in LPS: +x left, +y posterior, +z superior.

Voxels of the file are [i, j, k] with i along its fastest axis, as in NIfTI and ITK. Maps and masks are (Z, Y, X)
arrays on the voxels of the file, made when they are asked for: a hundred of them would not fit into memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glint.errors import UsageError
from glint.io.montage import Row, montage
from glint.io.packed_mask import PackedMask
from glint.io.volume import Volume
from glint.io.volume_nifti import write_nifti
from glint.results import Task, save_answers

Point = tuple[float, float, float]
Box = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class VolumeAnswer:
    """The answer to one query about a scan. After `classify` there is a score only.

    Attributes:
        query: The text that was asked.
        score: How well the scan fits the text, 0 to 1, calibrated on the model's validation data. Not a probability
            of disease.
        point_lps_mm: (x, y, z) of the best place.
        point_ijk: Its voxel of the file.
        box_lps_mm: (x0, y0, z0, x1, y1, z1) around the part of the mask with the point in it, else around the largest
            part; None without a mask.
        centroid_lps_mm: Centre of mass of the mask; None without one.
        volume_ml: Volume of the mask.
        parts_ml: Volumes of its connected parts.
        laterality: "left", "right", "bilateral" or "midline" of the patient (glint.infer.places.side_of); None
            without a mask, or when the scan cuts the patient off at one side.
        cells: (Zp, Yp, Xp) the map on the patches that cover the laid-out scan, before refinement.
        packed: The mask.
        scan: The scan as laid out; its chain leads back to the file.
        refine: Gives a map the edges of the CT, or None.
    """

    query: str
    score: float
    point_lps_mm: Point | None = None
    point_ijk: tuple[int, int, int] | None = None
    box_lps_mm: Box | None = None
    centroid_lps_mm: Point | None = None
    volume_ml: float | None = None
    parts_ml: tuple[float, ...] = ()
    laterality: str | None = None
    cells: NDArray[np.float32] | None = field(default=None, repr=False)
    packed: PackedMask | None = field(default=None, repr=False)
    scan: Volume | None = field(default=None, repr=False)
    refine: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = field(default=None, repr=False)

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """(Z, Y, X) bool on the voxels of the file; None after `classify`."""
        return None if self.packed is None else self.packed.whole()

    @property
    def heat(self) -> NDArray[np.float32] | None:
        """(Z, Y, X) float32 map in [0, 1] on the voxels of the file; None after `classify`."""
        refined = self._refined()
        if refined is None or self.scan is None:
            return None
        return np.clip(self.scan.chain.to_native(refined), 0, 1)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON shows: no place after `classify`."""
        answer: dict[str, Any] = {"query": self.query, "score": round(self.score, 6)}
        if self.packed is None:
            return answer
        return answer | {
            "point_lps_mm": _rounded(self.point_lps_mm),
            "point_ijk": None if self.point_ijk is None else list(self.point_ijk),
            "box_lps_mm": _rounded(self.box_lps_mm),
            "centroid_lps_mm": _rounded(self.centroid_lps_mm),
            "volume_ml": round(self.volume_ml or 0.0, 3),
            "parts_ml": _rounded(self.parts_ml),
            "laterality": self.laterality,
        }

    def save(self, path: str | Path) -> None:
        """Write the mask as NIfTI, 0 and 1, with the affine of the file.

        Raises:
            UsageError: There is no mask (`classify`), or the path cannot be written.
        """
        self._write(path, self.mask)

    def save_heat(self, path: str | Path) -> None:
        """Write the map as NIfTI, float32 in [0, 1], with the affine of the file; errors as in `save`."""
        self._write(path, self.heat)

    def row(self, truth: NDArray[np.bool_] | None = None) -> Row:
        """Return what a montage shows of this answer.

        Args:
            truth: (Z, Y, X) bool on the voxels of the file, where it is known.
        """
        caption = f"{self.query}\nscore {self.score:.2f}"
        if self.volume_ml is not None:
            caption += f", {self.volume_ml:.1f} ml" + (f", {self.laterality}" if self.laterality else "")
        return Row(caption, self.point_lps_mm, self._refined(), self.packed, self.box_lps_mm, truth)

    def _refined(self) -> NDArray[np.float32] | None:
        return self.cells if self.refine is None or self.cells is None else self.refine(self.cells)

    def _write(self, path: str | Path, values: NDArray[np.generic] | None) -> None:
        if values is None or self.scan is None:
            raise UsageError("a classification has no mask and no map to save", fix="use segment")
        write_nifti(Path(path), values, self.scan.chain.native)


@dataclass(frozen=True, slots=True, eq=False)
class VolumeAnswers:
    """The answers to all queries on one scan, in the order of the queries; behaves like a sequence.

    Attributes:
        task: What was asked for.
        image: Path of the scan, as given.
        model: Name or folder of the model, as given.
        threshold: Mask = map > threshold.
        refine: "none" or "guided".
        min_ml: Parts of masks smaller than this were dropped.
        results: One answer a query.
        volume: The scan as read.
        scan: The scan as laid out for the model.
        notes: What a reader should know.
    """

    task: Task
    image: str
    model: str
    threshold: float
    refine: str
    min_ml: float
    results: tuple[VolumeAnswer, ...]
    volume: Volume = field(repr=False)
    scan: Volume = field(repr=False)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: int) -> VolumeAnswer:
        return self.results[index]

    def __iter__(self) -> Iterator[VolumeAnswer]:
        return iter(self.results)

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        grid = self.volume.chain.native
        return {
            "image": self.image,
            "model": self.model,
            "task": self.task,
            "threshold": self.threshold,
            "refine": self.refine,
            "min_ml": self.min_ml,
            "image_size_vox": list(grid.shape[::-1]),
            "voxel_spacing_mm": [round(length, 5) for length in grid.spacing_mm[::-1]],
            "frame": "LPS",
            "notes": list(self.notes),
            "results": [answer.to_dict() for answer in self.results],
        }

    def save(self, path: str | Path) -> None:
        """Write the montage (.png) or the answers (.json).

        Raises:
            UsageError: Another ending, or the path cannot be written.
        """
        rows = (answer.row() for answer in self.results)
        save_answers(Path(path), self.to_dict, lambda: montage(self.volume, self.scan, list(rows)))


def _rounded(numbers: tuple[float, ...] | None) -> list[float] | None:
    return None if numbers is None else [round(number, 3) for number in numbers]
