"""DICOM files opened with care: no inflation beyond bounds, no library message that quotes a header."""

import logging
import warnings
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from glint.errors import DataError
from glint.io.limits import MAX_FILE_BYTES


def read_dataset(path: Path, tags: Sequence[str] | None = None) -> FileDataset:
    """Read a DICOM file; call it inside `quiet`.

    Args:
        path: The file.
        tags: Keywords of the only elements to read, without pixels; None reads everything.

    Raises:
        DataError: Damaged, cut short, or deflated to more than any image has.
    """
    try:
        _refuse_inflation(path)
        if tags is None:
            return dcmread(path)
        return dcmread(path, stop_before_pixels=True, specific_tags=list(tags))
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            "the DICOM file is damaged or cut short",
            where=str(path),
            expected="a whole DICOM file",
            fix="copy it again",
        ) from error


def _refuse_inflation(path: Path) -> None:
    """Stop a deflated file that unpacks to more than any image has, before pydicom unpacks it."""
    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    body = path.read_bytes()[132 + 12 + int(meta.FileMetaInformationGroupLength) :]
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    unpacker.decompress(body, MAX_FILE_BYTES)
    if unpacker.unconsumed_tail:
        raise DataError("the deflated DICOM file unpacks to more than any radiograph has", where=str(path))


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
