"""CT scans laid out once into one file on disk: reading and resampling one costs seconds, a training step has less.

    CACHE/train-ct-<key>/voxels.i16   int16 Hounsfield units of all scans, one after another, memory mapped
                         index.json   kept study ids, shapes and places of their scans, skipped studies

Hounsfield units, two bytes for all windows, rather than windowed grey values: windows and crop stay a matter of the
recipe, and changing them builds nothing anew. What a crop does not hold of a scan is cut away at random places:
sentences about it are then not true of the crop, so a crop should hold the chest (docs/data.md). A scan smaller than
the crop is placed at random inside air, which is not valid.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glint.config.volume import VolumeConfig
from glint.data.manifest import Study
from glint.data.store import INDEX, content_key, decode_all, stored
from glint.errors import GlintError
from glint.io.ct import lay_out, windowed
from glint.io.hounsfield import AIR_HU
from glint.io.side import assumed_midline, columns_mm, with_side
from glint.io.volume import read_volume
from glint.io.voxel_grid import Lengths, Triple

LAYOUT_VERSION = 3
VOXELS = "voxels.i16"
NOT_VALID = -32768
"""What stands in the file where a scanner saw nothing (corners of a scan that was made straight)."""

HU = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class VolumeCache:
    """Laid-out scans of one split.

    Attributes:
        voxels: All scans one after another, int16 HU or NOT_VALID.
        scans: For each study its reconstructions, at least one.
        layout: Spacing, crop and windows.
        kept: Positions of the studies in the list that was asked for.
        skipped: Study id -> why it could not be read.
        folder: Where all this is.
    """

    voxels: HU
    scans: list[list["StoredScan"]]
    layout: VolumeConfig
    kept: list[int]
    skipped: dict[str, str]
    folder: Path

    def serve(self, rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return crops (B, C, Z, Y, X) uint8 and their validity (B, Z, Y, X).

        `rng` chooses one reconstruction of each study, and where it is cut, or placed when it is smaller.
        """
        hu = np.full((len(rows), *self.layout.crop), NOT_VALID, dtype=np.int16)
        first_mm: list[float] = []
        for box, row in zip(hu, rows, strict=True):
            choices = self.scans[int(row)]
            chosen = choices[int(rng.integers(len(choices))) if len(choices) > 1 else 0]
            fits = [_fit(have, want, rng) for have, want in zip(chosen.shape, box.shape, strict=True)]
            box[tuple(put for _, put in fits)] = self._scan(chosen)[tuple(taken for taken, _ in fits)]
            taken, put = fits[2]
            first_mm.append(chosen.right_mm + (taken.start - put.start) * self.layout.spacing_mm[2])
        valid = hu != NOT_VALID
        grey = windowed(np.where(valid, hu, np.float32(AIR_HU)), self.layout.windows_hu).swapaxes(0, 1)
        if self.layout.side:
            steps_mm = np.arange(hu.shape[3], dtype=np.float64) * self.layout.spacing_mm[2]
            grey = with_side(grey, np.array(first_mm)[:, None] + steps_mm)
        return torch.from_numpy(np.rint(grey * 255).astype(np.uint8)), torch.from_numpy(valid)

    def _scan(self, scan: "StoredScan") -> HU:
        """Return (Z, Y, X) HU of one scan."""
        return self.voxels[scan.start : scan.start + int(np.prod(scan.shape))].reshape(scan.shape)


@dataclass(frozen=True, slots=True)
class StoredScan:
    """Where a scan is.

    Attributes:
        start: Its first voxel in the file.
        shape: (Z, Y, X).
        right_mm: Where its first column lies: distance from the midline, negative on the patient's right.
    """

    start: int
    shape: Triple
    right_mm: float


def _fit(have: int, want: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Return what to take of an axis and where to put it, at a random offset."""
    offset = int(rng.integers(abs(have - want) + 1))
    if have >= want:
        return slice(offset, offset + want), slice(0, want)
    return slice(0, have), slice(offset, offset + have)


def open_volumes(
    studies: Sequence[Study], layout: VolumeConfig, root: Path, name: str, *, workers: int = 0
) -> VolumeCache:
    """Return the laid-out scans of studies, from disk when they are there and current.

    Args:
        studies: Which scans: NIfTI, NRRD, or folders of DICOM slices.
        layout: The spacing decides what is stored.
        root: Folder of caches.
        name: Beginning of the folder's name; an older cache of the same name is removed.
        workers: Reading threads; 0 means one per core.
    """
    images = ((study.study_id, image) for study in studies for image in study.images)
    key = content_key(f"{LAYOUT_VERSION}|{layout.spacing_mm}", images)
    build = partial(_build, studies, layout.spacing_mm, workers)
    folder = stored(root, f"{name}-ct", key, build)
    index = json.loads((folder / INDEX).read_text())
    start = 0
    scans: list[list[StoredScan]] = []
    for places in index["places"]:
        scans.append([])
        for z, y, x, right_mm in places:
            scans[-1].append(StoredScan(start, (z, y, x), right_mm))
            start += z * y * x
    empty = np.zeros(0, dtype=np.int16)  # an empty file cannot be mapped
    voxels = np.memmap(folder / VOXELS, dtype=np.int16, mode="r") if start else empty
    return VolumeCache(voxels, scans, layout, index["kept"], index["skipped"], folder)


def _build(studies: Sequence[Study], spacing_mm: Lengths, workers: int, folder: Path) -> None:
    """Lay everything out into a folder; a study is left out when none of its reconstructions can be read."""
    places: dict[int, list[tuple[int, int, int, float]]] = {}
    skipped: dict[str, str] = {}
    owners = [(n, study) for n, study in enumerate(studies) for _ in study.images]
    images = [image for study in studies for image in study.images]
    decoded = decode_all(images, partial(decode_scan, spacing_mm=spacing_mm), workers)
    with (folder / VOXELS).open("wb") as file:
        for (number, study), scan in zip(owners, decoded, strict=True):
            if isinstance(scan, str):
                skipped[study.study_id] = scan
                continue
            hu, right_mm = scan
            file.write(hu.tobytes())
            places.setdefault(number, []).append((*_triple(hu), right_mm))
    for number in places:
        skipped.pop(studies[number].study_id, None)
    index = {"kept": list(places), "places": list(places.values()), "skipped": skipped}
    (folder / INDEX).write_text(json.dumps(index))


def decode_scan(path: Path, spacing_mm: Lengths) -> tuple[HU, float] | str:
    """Return a scan laid out at a spacing as int16 HU and the place of its first column (StoredScan.right_mm), or
    one line on what is wrong.
    """
    try:
        scan = lay_out(read_volume(path), spacing_mm)
    except GlintError as error:
        return error.what
    hu = np.clip(np.rint(scan.hu), NOT_VALID + 1, -NOT_VALID - 1).astype(np.int16)
    if scan.valid is not None:
        hu[~scan.valid] = NOT_VALID
    right_mm = float(columns_mm(scan.grid, np.zeros(1))[0]) - assumed_midline(scan)
    return hu, right_mm


def _triple(scan: HU) -> Triple:
    z, y, x = scan.shape
    return z, y, x
