"""CT scans laid out once into one file on disk: reading and resampling one costs seconds, a training step has less.

    CACHE/train-ct-<key>/voxels.i16   int16 Hounsfield units of all scans, one after another, memory mapped
                         index.json   kept study ids, shapes, skipped studies

Hounsfield units rather than windowed grey values, so that windows stay a matter of the recipe. What a recipe's crop
does not hold of a scan is cut away at random places: sentences about it are then not true of the crop, so a crop should
hold the chest (docs/data.md). A scan smaller than the crop is placed at random inside air, which is not valid.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glint.config.volume import VolumeConfig
from glint.data.manifest import Study
from glint.errors import GlintError
from glint.io.ct import lay_out, windowed
from glint.io.volume import read_volume

LAYOUT_VERSION = 1
AIR_HU = -1000
Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class VolumeCache:
    """Laid-out scans of one split.

    Attributes:
        voxels: All scans one after another, int16 HU.
        shapes: (Z, Y, X) of each.
        starts: Where each begins in `voxels`.
        layout: Spacing, crop and windows.
        kept: Positions of the scans in the list of studies that was asked for.
        skipped: Study id -> why it could not be read.
        folder: Where all this is.
    """

    voxels: NDArray[np.int16]
    shapes: list[Triple]
    starts: list[int]
    layout: VolumeConfig
    kept: list[int]
    skipped: dict[str, str]
    folder: Path

    def scan(self, row: int) -> NDArray[np.int16]:
        """Return (Z, Y, X) HU of one scan."""
        shape, start = self.shapes[row], self.starts[row]
        return self.voxels[start : start + int(np.prod(shape))].reshape(shape)

    def serve(self, rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return crops (B, C, Z, Y, X) uint8 and their validity (B, Z, Y, X), cut or placed at random."""
        crop = self.layout.crop
        hu = np.full((len(rows), *crop), AIR_HU, dtype=np.float32)
        valid = np.zeros((len(rows), *crop), dtype=np.bool_)
        for number, row in enumerate(rows):
            scan = self.scan(int(row))
            taken, placed = zip(
                *(_fit(have, want, rng) for have, want in zip(scan.shape, crop, strict=True)), strict=True
            )
            hu[number][placed], valid[number][placed] = scan[taken], True
        grey = windowed(hu, self.layout.windows_hu).swapaxes(0, 1)
        return torch.from_numpy(np.rint(grey * 255).astype(np.uint8)), torch.from_numpy(valid)


def _fit(have: int, want: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Return what to take of an axis and where to put it, at a random offset."""
    offset = int(rng.integers(abs(have - want) + 1))
    if have >= want:
        return slice(offset, offset + want), slice(0, want)
    return slice(0, have), slice(offset, offset + have)


def open_volumes(studies: Sequence[Study], layout: VolumeConfig, root: Path, name: str) -> VolumeCache:
    """Return the laid-out scans of studies, from disk when they are there and current.

    Args:
        studies: Which scans: NIfTI, NRRD, or folders of DICOM slices.
        layout: The spacing decides what is stored.
        root: Folder of caches.
        name: Beginning of the folder's name; an older cache of the same name is removed.
    """
    prefix = f"{name}-ct-"
    folder = root / (prefix + _key(studies, layout))
    if not (folder / "index.json").is_file():
        root.mkdir(parents=True, exist_ok=True)
        _build(studies, layout, folder)
        for old in root.glob(prefix + "*"):
            if old != folder and ".tmp" not in old.name:
                shutil.rmtree(old, ignore_errors=True)
    index = json.loads((folder / "index.json").read_text())
    shapes: list[Triple] = [(z, y, x) for z, y, x in index["shapes"]]
    starts = np.concatenate([[0], np.cumsum([np.prod(shape) for shape in shapes])]).astype(int)
    voxels: NDArray[np.int16] = np.memmap(folder / "voxels.i16", dtype=np.int16, mode="r")
    return VolumeCache(voxels, shapes, starts[:-1].tolist(), layout, index["kept"], index["skipped"], folder)


def _build(studies: Sequence[Study], layout: VolumeConfig, folder: Path) -> None:
    """Lay everything out into a temporary folder beside the target, then rename."""
    temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.tmp-", dir=folder.parent))
    kept: list[int] = []
    shapes: list[list[int]] = []
    skipped: dict[str, str] = {}
    try:
        with (temporary / "voxels.i16").open("wb") as file:
            for position, study in enumerate(studies):
                try:
                    hu = lay_out(read_volume(study.image), layout.spacing_mm).hu
                except GlintError as error:
                    skipped[study.study_id] = error.what
                    continue
                file.write(np.clip(np.rint(hu), -32768, 32767).astype(np.int16).tobytes())
                kept.append(position)
                shapes.append(list(hu.shape))
        index = {"kept": kept, "shapes": shapes, "skipped": skipped}
        (temporary / "index.json").write_text(json.dumps(index))
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / "index.json").is_file():  # else another process was first, with the same content
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _key(studies: Sequence[Study], layout: VolumeConfig) -> str:
    """Return 16 hex digits that change with anything that changes the voxels."""
    digest = hashlib.sha256(f"{LAYOUT_VERSION}|{layout.spacing_mm}".encode())
    for study in studies:
        files = sorted(study.image.iterdir()) if study.image.is_dir() else [study.image]
        for file in files:
            stat = file.stat()
            digest.update(f"|{study.study_id}|{file.name}|{stat.st_size}|{stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]
