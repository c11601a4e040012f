"""Pixels read from plain or compressed files, never more than the header promised and never a bomb."""

import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from glint.errors import DataError

CHUNK = 1 << 24
FREE_BYTES = 1 << 26
"""So much may come out of any file: a small volume of zeros packs well, and is refused for being constant."""
MAX_EXPANSION = 100
"""Noise does not pack: a CT unpacks to 2 to 5 times its file, and to about 20 times when most of it is padding."""


def read_values(
    stream: BinaryIO, shape: tuple[int, int, int], dtype: np.dtype[np.generic], path: Path
) -> NDArray[np.generic]:
    """Read the values of a volume from a stream that stands at the first of them.

    Args:
        stream: Unpacks by itself when the file is compressed.
        shape: (Z, Y, X), already checked against io/limits.py.
        dtype: Stored numbers, byte order included.
        path: The file, for its length and for messages.

    Raises:
        DataError: Cut short, damaged, or packed tighter than any scan.
    """
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    where = str(path)
    if size > max(FREE_BYTES, MAX_EXPANSION * path.stat().st_size):
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
