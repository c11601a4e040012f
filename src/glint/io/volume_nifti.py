"""NIfTI-1 and NIfTI-2 in one file, plain or gzipped. RAS exists in this module only: LPS leaves it, LPS enters it."""

import gzip
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from glint.errors import DataError, UsageError
from glint.io.bounded import need, read_values
from glint.io.damage import Refusing
from glint.io.files import write_output
from glint.io.limits import check_volume_shape
from glint.io.sources import Source
from glint.io.volume import RawVolume
from glint.io.voxel_grid import MAX_SPACING_MM, VoxelGrid, check_affine

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
REVERSED = np.eye(4)[[2, 1, 0, 3]]
"""File index (i, j, k) <-> array index (k, j, i)."""
MM_PER_UNIT = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}
MAX_HEADER_BYTES = 1 << 24
CONFLICT_MM = 1.0


def read_nifti(source: Source) -> RawVolume:
    """Read a NIfTI file: the header first, and its values only when it makes sense.

    Raises:
        DataError: nibabel is missing; damaged, cut short, 4D, too large; no orientation, or two that disagree.
    """
    where = source.shown
    gzipped = source.head(2) == b"\x1f\x8b"
    with _damaged(where), source.open() as packed:
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=packed)) if gzipped else packed
        header = _header(stream, where)
        shape = _shape(header, where)
        grid, notes = _grid(header, shape, where)
        dtype = np.dtype(header.get_data_dtype())
        slope, intercept = header.get_slope_inter()
        start = int(header["vox_offset"])
        if dtype.kind not in "iuf" or dtype.itemsize > 8:
            raise DataError(
                f"the file holds {dtype}, not one number a voxel", where=where, expected="integers or floats"
            )
        if not int(header["sizeof_hdr"]) <= start <= MAX_HEADER_BYTES:
            raise ValueError("start")
        stream.seek(start)
        stored = read_values(stream, shape, dtype, source)
    values = stored.astype(np.float32)
    if slope is not None and (slope, intercept) != (1.0, 0.0):
        values *= np.float32(slope)
        values += np.float32(intercept)
        notes += (f"rescaled as the header says: {slope:g} x stored {intercept:+g}",)
    return RawVolume(values, grid, notes=notes)


def write_nifti(path: Path, values: NDArray[np.generic], grid: VoxelGrid) -> None:
    """Write a mask or a map, whole or not at all; a scan read from NIfTI gets its own affine back.

    Args:
        path: Ends in .nii or .nii.gz.
        values: (Z, Y, X) on `grid`; bool becomes uint8.
        grid: Where the voxels are.

    Raises:
        UsageError: Wrong ending, or the file cannot be written.
        DataError: nibabel is missing.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise UsageError("the output file must end in .nii or .nii.gz", where=str(path))
    nifti: Any = _nibabel().Nifti1Image
    stored = values.astype(np.uint8) if values.dtype == np.bool_ else values
    affine = RAS_TO_LPS @ grid.affine @ REVERSED
    image = nifti(stored.transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    # A quaternion knows no shear: two geometries that disagree are worse than one.
    image.set_qform(affine, 1 if grid.shear_deg < 1e-3 else 0)
    data: bytes = image.to_bytes()
    if path.name.lower().endswith(".gz"):
        data = gzip.compress(data, compresslevel=4, mtime=0)
    write_output(path, lambda part: part.write_bytes(data))


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise need("nibabel") from error
    return nibabel


def _header(stream: BinaryIO, where: str) -> Any:
    """Parse the fixed part of the header; extensions behind it are passed over unread."""
    nibabel = _nibabel()
    start = stream.read(540)
    second = 540 in (int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big"))
    header = (
        nibabel.Nifti2Header(start, check=False) if second else nibabel.Nifti1Header(start[:348], check=False)
    )
    if not bytes(header["magic"]).startswith(b"n+"):
        raise DataError(
            "header and values of this NIfTI file are in two files",
            where=where,
            expected="one .nii or .nii.gz file",
            fix="convert the pair to one file",
        )
    return header


def _shape(header: Any, where: str) -> tuple[int, int, int]:
    """Return (Z, Y, X)."""
    count = int(header["dim"][0])
    sides = [int(side) for side in header["dim"][1 : count + 1]] if 1 <= count <= 7 else []
    if not sides or min(sides) < 1:
        raise ValueError("dim")
    while len(sides) > 3 and sides[-1] == 1:
        sides.pop()
    check_volume_shape(tuple(sides[::-1]), where)
    return sides[2], sides[1], sides[0]


def _grid(header: Any, shape: tuple[int, int, int], where: str) -> tuple[VoxelGrid, tuple[str, ...]]:
    """Choose between sform and qform; they may differ a little, but not in which side is left."""
    unit = header.get_xyzt_units()[0]
    scale = np.diag([MM_PER_UNIT.get(unit, 1.0)] * 3 + [1.0])
    found: dict[str, VoxelGrid] = {}
    for name, get in (("sform", header.get_sform), ("qform", header.get_qform)):
        if int(header[f"{name}_code"]) <= 0:
            continue
        ijk_to_ras = scale @ np.asarray(get(), dtype=np.float64)
        check_affine(ijk_to_ras, where)
        found[name] = VoxelGrid(shape, RAS_TO_LPS @ ijk_to_ras @ REVERSED)
    if not found:
        raise DataError(
            "the NIfTI header has no orientation (sform and qform are missing): which side is left is unknown",
            where=where,
            fix="convert the DICOM series again with a tool that writes it, e.g. dcm2niix",
        )
    notes = (f"lengths were in units of {unit}",) if MM_PER_UNIT.get(unit, 1.0) != 1 else ()
    grids = list(found.values())
    if len(grids) == 2:
        notes += _compare(grids[0], grids[1], where)
    return grids[0], notes


def _compare(sform: VoxelGrid, qform: VoxelGrid, where: str) -> tuple[str, ...]:
    """Refuse two geometries under which a reader would see another patient."""
    corners = np.array(np.meshgrid(*[(0, side - 1) for side in sform.shape])).reshape(3, -1).T
    apart = float(np.linalg.norm(sform.to_lps(corners) - qform.to_lps(corners), axis=1).max())
    if apart <= CONFLICT_MM:
        return ()
    same_size = np.allclose(sform.spacing_mm, qform.spacing_mm, rtol=0.02)
    if sform.orientation == qform.orientation and same_size:
        return (f"sform and qform differ by up to {apart:.4g} mm: the sform is used",)
    raise DataError(
        f"sform and qform of the NIfTI header contradict each other (orientation {sform.orientation}, spacing "
        f"{_mm(sform)} against {qform.orientation}, {_mm(qform)}; array order)",
        where=where,
        fix="put the wrong one right, or convert the DICOM series again",
    )


def _mm(grid: VoxelGrid) -> str:
    return " x ".join(f"{min(length, MAX_SPACING_MM):.3g}" for length in grid.spacing_mm) + " mm"


def _damaged(where: str) -> Refusing:
    return Refusing("the NIfTI file is damaged or cut short", where, expected="a whole file")
