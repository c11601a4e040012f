"""NRRD volumes with values in the same file: raw, gzip or bzip2. The header is read by pynrrd."""

import bz2
import gzip
from typing import Any, BinaryIO, cast

import numpy as np

from glint.errors import DataError
from glint.io.bounded import need, read_values
from glint.io.damage import Refusing
from glint.io.limits import check_volume_shape
from glint.io.sources import Source
from glint.io.volume import RawVolume
from glint.io.voxel_grid import VoxelGrid, check_affine

MAX_HEADER_BYTES = 1 << 20
TO_LPS = {
    "left-posterior-superior": (1.0, 1.0, 1.0),
    "right-anterior-superior": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (1.0, -1.0, 1.0),
}
SHORT = {"lps": "left-posterior-superior", "ras": "right-anterior-superior", "las": "left-anterior-superior"}
TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "f4": ("float",),
    "f8": ("double",),
}


def read_nrrd(source: Source) -> RawVolume:
    """Read an NRRD file: the header first, and its values only when it makes sense.

    Raises:
        DataError: pynrrd is missing; damaged, cut short, 4D, too large; no orientation; values in another file.
    """
    where = source.shown
    with Refusing("the NRRD file is damaged or cut short", where), source.open() as stream:
        header, end = _header(stream.read(MAX_HEADER_BYTES), where)
        sizes = tuple(int(side) for side in header["sizes"])
        check_volume_shape(sizes[::-1], where)
        shape = sizes[2], sizes[1], sizes[0]
        grid = VoxelGrid(shape, _affine(header, where))
        dtype = _dtype(header, where)
        stream.seek(end)
        stored = read_values(_unpacked(stream, header, where), shape, dtype, source)
    return RawVolume(stored.astype(np.float32), grid)


def _header(start: bytes, where: str) -> tuple[dict[str, Any], int]:
    """Return the fields and the position behind the empty line that ends the header."""
    try:
        import nrrd
    except ImportError as error:
        raise need("pynrrd") from error
    ends = [(start.find(mark), len(mark)) for mark in (b"\n\n", b"\r\n\r\n")]
    position, length = min(((at, n) for at, n in ends if at >= 0), default=(-1, 0))
    try:
        if position < 0:
            raise ValueError("no end of the header")
        lines = start[:position].decode("ascii", "ignore").splitlines()
        header: dict[str, Any] = dict(nrrd.read_header(lines))
        if int(header["dimension"]) != len(header["sizes"]) or min(header["sizes"]) < 1:
            raise ValueError("sizes")
        _ = header["encoding"], header["type"]
    except Exception as error:
        raise DataError(
            "the NRRD header is damaged", where=where, expected="a whole file", fix="copy it again"
        ) from error
    if {"data file", "datafile"} & header.keys():
        raise DataError(
            "the values of this NRRD file are in another file",
            where=where,
            expected="one .nrrd file with header and values",
            fix="save it again as one file",
        )
    if any(header.get(name, 0) for name in ("line skip", "lineskip", "byte skip", "byteskip")):
        raise DataError("this NRRD file skips a part of its values", where=where, fix="save it again")
    return header, position + length


def _affine(header: dict[str, Any], where: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return array index (z, y, x, 1) -> LPS mm."""
    space = str(header.get("space", "")).lower()
    signs = TO_LPS.get(SHORT.get(space, space))
    directions = np.asarray(header.get("space directions", ()), dtype=np.float64)
    origin = np.asarray(header.get("space origin", ()), dtype=np.float64)
    if signs is None or directions.shape != (3, 3) or origin.shape != (3,):
        raise DataError(
            "the NRRD header does not say where the volume is: which side is left is unknown",
            where=where,
            expected="space (LPS, RAS or LAS), space directions and space origin",
            fix="save it again with a tool that writes them",
        )
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions[::-1].T, origin
    affine = np.diag([*signs, 1.0]) @ affine
    check_affine(affine, where)
    return affine


def _dtype(header: dict[str, Any], where: str) -> np.dtype[np.generic]:
    kind = str(header["type"]).lower()
    code = next((code for code, names in TYPES.items() if kind in names), None)
    if code is None:
        raise DataError("this NRRD file holds no plain numbers", where=where, expected="integers or floats")
    return np.dtype((">" if str(header.get("endian", "")).lower() == "big" else "<") + code)


def _unpacked(stream: BinaryIO, header: dict[str, Any], where: str) -> BinaryIO:
    """Return a stream of values."""
    encoding = str(header["encoding"]).lower()
    if encoding == "raw":
        return stream
    if encoding in ("gzip", "gz"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    if encoding in ("bzip2", "bz2"):
        return cast(BinaryIO, bz2.BZ2File(stream))
    raise DataError(
        "the values of this NRRD file are packed in an unknown way", where=where, fix="save it as gzip"
    )
