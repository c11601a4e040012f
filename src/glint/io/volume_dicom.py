"""A CT from a folder of DICOM slices: place from dicom_stack.py, values by each slice's own rescale."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from glint.errors import DataError
from glint.io.codecs import decode
from glint.io.dicom_file import quiet, read_dataset
from glint.io.dicom_series import Slice, choose, find_series
from glint.io.dicom_stack import Stack, stack
from glint.io.limits import check_volume_shape
from glint.io.volume import RawVolume
from glint.io.voxel_grid import VoxelGrid, check_affine


def read_series(folder: Path, *, series: str, fill_gaps: bool) -> RawVolume:
    """Read one CT series.

    Args:
        folder: Searched with all folders below it.
        series: Number in the list of the folder, UID, or "" for the only CT there is.
        fill_gaps: Interpolate missing and uneven slices.

    Raises:
        DataError: See dicom_series.py and dicom_stack.py; or pixels that cannot be decoded, or are no HU.
    """
    where = str(folder)
    with quiet():
        found, others = find_series(folder)
        chosen = choose(found, series, where)
        ordered = stack(chosen, where, fill_gaps=fill_gaps)
        count = round(float(ordered.positions[-1])) + 1
        shape = (max(count, len(ordered.slices)), *chosen.slices[0].size)
        check_volume_shape(shape, where)
        check_affine(ordered.affine, where)
        values = np.empty((len(ordered.slices), *chosen.slices[0].size), dtype=np.float32)
        padding: dict[int, NDArray[np.bool_]] = {}
        for n, item in enumerate(ordered.slices):
            values[n], empty = _read_slice(item)
            if empty is not None:
                padding[n] = empty
    valid = None
    if padding:
        valid = np.ones(values.shape, dtype=bool)
        for n, empty in padding.items():
            valid[n] = ~empty
    notes = ordered.notes
    if others:
        notes += (f"{others} files of the folder are no DICOM images",)
    if len(found) > 1:
        notes += (f"series {chosen.number} of {len(found)} in the folder",)
    values, valid = _regular(values, valid, ordered, count)
    z, y, x = values.shape
    return RawVolume(values, VoxelGrid((z, y, x), ordered.affine), valid, "CT", notes)


def _read_slice(item: Slice) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Return (Y, X) HU of a slice, and where it is padding."""
    where = str(item.path)
    data = read_dataset(item.path)
    try:
        _check_kind(data, where)
        stored = decode(data, str(data.file_meta.get("TransferSyntaxUID", "")))
        slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
        if stored.shape != item.size or not np.isfinite((slope, intercept)).all() or slope == 0:
            raise ValueError("size or rescale")
        padding = _padding(data, stored)
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            "the pixels of a slice cannot be decoded: the file is damaged, cut short, or of a kind that GLINT cannot "
            "decode",
            where=where,
            fix="copy the file again, or convert it to an uncompressed one",
        ) from error
    return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept), padding


def _check_kind(data: Dataset, where: str) -> None:
    """Refuse what is not one grey picture in HU."""
    if data.get("SamplesPerPixel") != 1 or not str(data.get("PhotometricInterpretation", "")).startswith(
        "MONO"
    ):
        raise DataError("a slice of the series is a colour picture", where=where, expected="MONOCHROME2")
    # Densities, atomic numbers and the like of spectral scanners say so here.
    unit = str(data.get("RescaleType") or "HU")
    if unit not in ("HU", "US"):
        raise DataError("the values of the series are no Hounsfield units", where=where, expected="HU")


def _padding(data: Dataset, stored: NDArray[np.generic]) -> NDArray[np.bool_] | None:
    """Return where the header says that there are no data, or None."""
    first = data.get("PixelPaddingValue")
    if first is None:
        return None
    ends = [int(first), int(data.get("PixelPaddingRangeLimit", first))]
    if data.get("PixelRepresentation", 0) == 1:
        # Often written as if unsigned: 63536 stands for -2000.
        ends = [end - 65536 if end > 32767 and data.BitsAllocated == 16 else end for end in ends]
    padding: NDArray[np.bool_] = (stored >= np.array(min(ends))) & (stored <= np.array(max(ends)))
    return padding if padding.any() else None


def _regular(
    values: NDArray[np.float32], valid: NDArray[np.bool_] | None, ordered: Stack, count: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Interpolate slices between their neighbours where the stack has gaps."""
    positions = ordered.positions
    if len(positions) == count and np.array_equal(positions, np.arange(count)):
        return values, valid
    targets = np.arange(count)
    after = np.clip(np.searchsorted(positions, targets), 1, len(positions) - 1)
    before = after - 1
    share = (targets - positions[before]) / (positions[after] - positions[before])
    filled = np.empty((count, *values.shape[1:]), dtype=np.float32)
    for n in range(count):
        s = np.float32(share[n])
        filled[n] = (1 - s) * values[before[n]] + s * values[after[n]]
    nearest = np.where(share < 0.5, before, after)
    return filled, None if valid is None else valid[nearest]
