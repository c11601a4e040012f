"""Pixels read from plain or compressed files, never more than the header promised and never a bomb."""

import zlib
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from glint.errors import DataError
from glint.io.limits import FREE_BYTES, MAX_EXPANSION
from glint.io.sources import Source

CHUNK = 1 << 24


def read_values(
    stream: BinaryIO, shape: tuple[int, int, int], dtype: np.dtype[np.generic], source: Source
) -> NDArray[np.generic]:
    """Read the values of a volume from a stream that stands at the first of them.

    Args:
        stream: Unpacks by itself when the file is compressed.
        shape: (Z, Y, X), already checked against io/limits.py.
        dtype: Stored numbers, byte order included.
        source: The file, for its length and for messages.

    Raises:
        DataError: Cut short, damaged, or packed tighter than any scan.
    """
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    where = source.shown
    if size > max(FREE_BYTES, MAX_EXPANSION * source.size):
        raise DataError(
            "the header promises more voxels than the file can hold",
            where=where,
            expected=f"a file that unpacks to at most {MAX_EXPANSION} times its size",
            fix="copy or convert the scan again",
        )
    values = np.empty(size, dtype=np.uint8)
    filled = 0
    try:
        while filled < size:
            part = stream.read(min(CHUNK, size - filled))
            if not part:
                break
            values[filled : filled + len(part)] = np.frombuffer(part, dtype=np.uint8)
            filled += len(part)
        stream.read(1)  # at the end of a gzip member its checksum is compared
    except (OSError, EOFError, zlib.error) as error:
        raise _cut(where) from error
    if filled < size:
        raise _cut(where)
    return values.view(dtype).reshape(shape)


def _cut(where: str) -> DataError:
    return DataError(
        "the volume is damaged or cut short",
        where=where,
        expected="all the voxels that the header promises",
        fix="copy it again",
    )


def need(package: str) -> DataError:
    """Return the error for a reader whose package is not installed."""
    return DataError(f"{package} is not installed", fix='pip install "glint-radiology[ct]"')
