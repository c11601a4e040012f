"""DICOM files opened with care: no inflation beyond bounds, no library message that quotes a header."""

import logging
import warnings
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from glint.errors import DataError
from glint.io.damage import Refusing
from glint.io.limits import FREE_BYTES, MAX_EXPANSION
from glint.io.sources import Source

PREAMBLE = 132
LONG_LENGTHS = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV")
"""Value representations whose length has four bytes behind two of padding."""
MAX_META_BYTES = 1 << 16


def read_dataset(source: Source, tags: Sequence[str] | None = None) -> FileDataset:
    """Read a DICOM file; call it inside `quiet`.

    Args:
        source: The file.
        tags: Keywords of the only elements to read, without pixels; None reads everything.

    Raises:
        DataError: Damaged, cut short, or deflated to more than any image has.
    """
    damaged = Refusing("the DICOM file is damaged or cut short", source.shown, expected="a whole DICOM file")
    with damaged, source.open() as stream:
        _refuse_inflation(stream, source)
        if tags is None:
            return dcmread(stream)
        return dcmread(stream, stop_before_pixels=True, specific_tags=list(tags))


def is_dicom(source: Source) -> bool:
    """Say whether the first bytes are those of a DICOM file."""
    return source.head(PREAMBLE)[128:] == b"DICM"


def _refuse_inflation(stream: BinaryIO, source: Source) -> None:
    """Stop a deflated file that unpacks to more than any image has: pydicom unpacks all of it, even for headers."""
    start = stream.read(PREAMBLE + MAX_META_BYTES)
    syntax, end = _meta(start)
    if syntax == DeflatedExplicitVRLittleEndian:
        limit = max(FREE_BYTES, MAX_EXPANSION * source.size)
        unpacker, packed, unpacked = zlib.decompressobj(-zlib.MAX_WBITS), start[end:], 0
        while packed and not unpacker.eof and unpacked <= limit:
            unpacked += len(unpacker.decompress(packed, 1 << 20))
            packed = unpacker.unconsumed_tail or stream.read(1 << 20)
        if unpacked > limit:
            raise DataError(
                "the deflated DICOM file unpacks to more than any image does",
                where=source.shown,
                expected=f"at most {MAX_EXPANSION} times its size",
            )
    stream.seek(0)


def _meta(start: bytes) -> tuple[str, int]:
    """Return transfer syntax and end of the file meta group, walked element by element.

    The group's own length is not believed: another end would have other bytes checked than pydicom unpacks.
    """
    syntax, at = "", PREAMBLE
    while start[at : at + 2] == b"\x02\0" and at + 12 <= len(start):
        long = start[at + 4 : at + 6] in LONG_LENGTHS
        head = 12 if long else 8
        length = int.from_bytes(start[at + 8 : at + 12] if long else start[at + 6 : at + 8], "little")
        if start[at + 2 : at + 4] == b"\x10\0":
            syntax = start[at + head : at + head + length].rstrip(b"\0 ").decode("ascii", "replace")
        at += head + length
    if at > len(start):
        raise ValueError("the file meta group is cut short")
    return syntax, at


@contextmanager
def quiet() -> Generator[None]:
    """Keep pydicom silent: its warnings quote header values, which may tell of a patient."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
