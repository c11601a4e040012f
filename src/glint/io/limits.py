"""What is refused before any pixel is decoded: a header can promise more memory than the machine has."""

from pathlib import Path

from glint.errors import DataError

MIN_SIDE_PX = 32
"""Smaller pictures show icons, not chests."""
MAX_SIDE_PX = 20_000
MAX_PIXELS = 80_000_000
"""The largest detectors and stitched films have about 30 million."""
MAX_ASPECT = 8.0
MAX_FILE_BYTES = 1 << 29


def check_file(path: Path) -> None:
    """Refuse what is not a readable file of a sensible length.

    Raises:
        DataError: Missing, a folder, empty, or larger than any radiograph.
    """
    where = str(path)
    if path.is_dir():
        raise DataError(
            "a folder was given where one image file is needed",
            where=where,
            expected="one DICOM, PNG or JPEG file",
            fix="name a file inside the folder",
        )
    if not path.exists():
        raise DataError("there is no such file", where=where, fix="check the path")
    if not path.is_file():
        raise DataError("this is not an ordinary file", where=where, expected="a DICOM, PNG or JPEG file")
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except OSError as error:
        raise DataError(
            "the file cannot be opened",
            where=where,
            expected="a file that you may read",
            fix=error.strerror or "",
        ) from error
    if size == 0:
        raise DataError("the file is empty", where=where, fix="copy it again")
    if size > MAX_FILE_BYTES:
        raise DataError(
            f"the file has {size / 2**20:.0f} MiB; no radiograph has",
            where=where,
            expected=f"at most {MAX_FILE_BYTES >> 20} MiB",
        )


def check_shape(height: int, width: int, where: str) -> None:
    """Refuse pictures that are too small, too large or too oblong to be radiographs.

    Args:
        height: Rows.
        width: Columns.
        where: File, for the message.

    Raises:
        DataError: Out of bounds.
    """
    if min(height, width) < MIN_SIDE_PX:
        raise DataError(
            f"the image is too small: {width} x {height} pixels",
            where=where,
            expected=f"at least {MIN_SIDE_PX} pixels on the shorter side",
        )
    if max(height, width) > MAX_SIDE_PX or height * width > MAX_PIXELS:
        raise DataError(
            f"the image is too large: its header says {width} x {height} pixels",
            where=where,
            expected=f"at most {MAX_PIXELS:,} pixels and {MAX_SIDE_PX:,} on a side",
            fix="reduce the image; the model sees a small square anyway",
        )
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise DataError(
            f"the image is too oblong for a radiograph: {width} x {height} pixels",
            where=where,
            expected=f"a side ratio of at most {MAX_ASPECT:g}",
        )
