"""A CT from DICOM slices or frames: place from dicom_stack.py, values by the rescale of each."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from glint.errors import DataError
from glint.io.codecs import decode
from glint.io.damage import Refusing
from glint.io.dicom_file import quiet, read_dataset
from glint.io.dicom_frames import group
from glint.io.dicom_series import Series, Slice, choose, find_series
from glint.io.dicom_stack import Stack, stack
from glint.io.limits import MIN_VOLUME_SIDE, check_volume_shape
from glint.io.sources import Source, sources
from glint.io.volume import RawVolume
from glint.io.voxel_grid import VoxelGrid, check_affine


def choose_scan(path: Path, series: str, *, fill_gaps: bool = False) -> tuple[Series, tuple[str, ...]]:
    """Return the CT of a folder or an archive, with notes on what else is there.

    Args:
        path: The folder or the archive.
        series: Number, alias or UID, or "" for the only one.
        fill_gaps: Leave damaged slices out.

    Raises:
        DataError: None, several, or not the one that was asked for; or a file is damaged that may be a slice of it.
    """
    with quiet():
        found = find_series(sources(path))
    chosen = choose(found, series, str(path), "CT series", lambda one: one.is_scan)
    lost = found.lost(chosen) if chosen.kind == "CT" else []
    if lost and not fill_gaps:
        # At an end of the stack nothing else would tell that a slice is missing.
        raise DataError(
            f"{len(lost)} DICOM files are damaged or cut short, and may be slices of the series",
            where=lost[0].source.shown,
            expected="whole DICOM files",
            fix="copy them again; --fill-gaps (fill_gaps=True) leaves them out, and interpolates between neighbours",
        )
    several = (f"series {chosen.number} of {len(found.series)}",) if len(found.series) > 1 else ()
    return chosen, found.notes() + several


def read_enhanced(source: Source) -> RawVolume:
    """Read the only CT of one multi-frame file.

    Raises:
        DataError: One slice of a series, no CT; or see `read_scan`.
    """
    with quiet():
        found = find_series([source])
    if found.series and found.series[0].kind == "CT" and found.series[0].slices[0].frame is None:
        raise DataError(
            "one DICOM file was given, and a volume needs all slices",
            where=source.shown,
            expected="a NIfTI or NRRD file, or a folder or archive (ZIP, tar) of DICOM slices",
            fix="give the folder that the file is in",
        )
    chosen = choose(found, "", source.shown, "CT series", lambda one: one.is_scan)
    return read_scan(chosen, source.shown, fill_gaps=False)


def read_scan(chosen: Series, where: str, *, fill_gaps: bool) -> RawVolume:
    """Read one CT series.

    Args:
        chosen: Its slices.
        where: For messages.
        fill_gaps: Interpolate missing and uneven slices.

    Raises:
        DataError: See dicom_stack.py; or pixels that cannot be decoded, or are no HU.
    """
    with quiet():
        ordered = stack(chosen, where, fill_gaps=fill_gaps)
        count = round(float(ordered.positions[-1])) + 1
        shape = (max(count, len(ordered.slices)), *chosen.slices[0].size)
        check_volume_shape(shape, where)
        check_affine(ordered.affine, where)
        values = np.empty((len(ordered.slices), *chosen.slices[0].size), dtype=np.float32)
        padding = _fill(values, ordered.slices)
    valid = None
    if padding:
        valid = np.ones(values.shape, dtype=bool)
        for n, empty in padding.items():
            valid[n] = ~empty
    values, valid = _regular(values, valid, ordered, count)
    z, y, x = values.shape
    return RawVolume(values, VoxelGrid((z, y, x), ordered.affine), valid, "CT", ordered.notes)


def _fill(values: NDArray[np.float32], slices: Sequence[Slice]) -> dict[int, NDArray[np.bool_]]:
    """Write the HU of every slice into `values`, file by file, and return where there is padding."""
    padding: dict[int, NDArray[np.bool_]] = {}
    files: dict[int, list[int]] = defaultdict(list)
    for n, item in enumerate(slices):
        files[id(item.source)].append(n)
    for numbers in files.values():
        first = slices[numbers[0]]
        data, stored = _decoded(first)
        with _undecodable(first.source.shown):
            for n in numbers:
                frame = slices[n].frame
                picture = stored if frame is None or stored.ndim == 2 else stored[frame]
                slope, intercept = _rescale(data, frame, first.source.shown)
                values[n] = picture.astype(np.float32) * np.float32(slope) + np.float32(intercept)
                if (empty := _padding(data, picture)) is not None:
                    padding[n] = empty
    return padding


def _decoded(item: Slice) -> tuple[Dataset, NDArray[np.generic]]:
    """Return a file and its stored values, (Y, X) or (frame, Y, X)."""
    where = item.source.shown
    data = read_dataset(item.source)
    with _undecodable(where):
        _check_kind(data, where)
        frames = 1 if item.frame is None else len(data.PerFrameFunctionalGroupsSequence)
        if (data.Rows, data.Columns) != item.size or frames != int(data.get("NumberOfFrames") or 1):
            raise ValueError("size")
        check_volume_shape((max(frames, MIN_VOLUME_SIDE), *item.size), where)
        stored = decode(data, str(data.file_meta.get("TransferSyntaxUID", "")), frames)
        if stored.shape[-2:] != item.size or stored.ndim != (2 if frames == 1 else 3):
            raise ValueError("size")
    return data, stored


def _rescale(data: Dataset, frame: int | None, where: str) -> tuple[float, float]:
    """Return slope and intercept of a slice or a frame."""
    own = data if frame is None else group(data, frame, "PixelValueTransformationSequence")
    slope, intercept = float(own.get("RescaleSlope", 1)), float(own.get("RescaleIntercept", 0))
    # Densities, atomic numbers and the like of spectral scanners say so here.
    if str(own.get("RescaleType") or "HU") not in ("HU", "US"):
        raise DataError("the values of the series are no Hounsfield units", where=where, expected="HU")
    if not np.isfinite((slope, intercept)).all() or slope == 0:
        raise ValueError("rescale")
    return slope, intercept


def _undecodable(where: str) -> Refusing:
    return Refusing(
        "the pixels of a slice cannot be decoded: the file is damaged, cut short, or of a kind that GLINT cannot "
        "decode",
        where,
        fix="copy the file again, or convert it to an uncompressed one",
    )


def _check_kind(data: Dataset, where: str) -> None:
    """Refuse what is not one grey picture."""
    if data.get("SamplesPerPixel") != 1 or not str(data.get("PhotometricInterpretation", "")).startswith(
        "MONO"
    ):
        raise DataError("a slice of the series is a colour picture", where=where, expected="MONOCHROME2")


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
