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

MIN_VOLUME_SIDE = 8
"""Fewer slices are a localizer or a part of a scan."""
MAX_VOLUME_SIDE = 8192
MAX_VOLUME_FILE_BYTES = 1 << 33
BYTES_PER_VOXEL = 12
"""At the peak of reading: what the file holds, float32, and a copy while it is turned or resampled."""
MAX_FILES = 20_000
"""In a folder or an archive."""
FREE_BYTES = 1 << 26
"""So much may come out of any file: a small volume of zeros packs well, and is refused for being constant."""
MAX_EXPANSION = 100
"""Noise does not pack: a CT unpacks to 2 to 5 times its file, and to about 20 times when most of it is padding."""
MEMORY_INFO = Path("/proc/meminfo")


def check_file(path: Path) -> None:
    """Refuse what is not a readable file of a sensible length.

    Raises:
        DataError: Missing, empty, or larger than any study of radiographs.
    """
    check_readable(path, "a DICOM, PNG or JPEG file", "radiograph", MAX_FILE_BYTES)


def check_readable(path: Path, expected: str, kind: str, max_bytes: int) -> None:
    """Refuse what is not a readable file of a sensible length.

    Args:
        path: The file.
        expected: What it should be, for the message.
        kind: What has so many bytes, for the message.
        max_bytes: Length.

    Raises:
        DataError: Missing, no ordinary file, not readable, empty or too long.
    """
    where = str(path)
    if not path.exists():
        raise DataError("there is no such file", where=where, fix="check the path")
    if not path.is_file():
        raise DataError("this is not an ordinary file", where=where, expected=expected)
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
    if size > max_bytes:
        raise DataError(
            f"the file has {size / 2**20:.0f} MiB; no {kind} has",
            where=where,
            expected=f"at most {max_bytes >> 20} MiB",
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


def check_volume_shape(shape: tuple[int, ...], where: str) -> None:
    """Refuse volumes that are too small to be scans, or too large for this machine.

    Args:
        shape: Voxels along each axis, as the header says.
        where: File, for the message.

    Raises:
        DataError: Not three axes, out of bounds, or more than the memory that is free now.
    """
    size = " x ".join(str(side) for side in shape)
    if len(shape) != 3:
        raise DataError(
            f"the file holds {len(shape)} axes ({size}), not a volume",
            where=where,
            expected="one 3D volume",
            fix="store one phase, time or channel in a file of its own" if len(shape) > 3 else "",
        )
    if min(shape) < MIN_VOLUME_SIDE:
        raise DataError(
            f"the volume is too small: {size} voxels" + (" (a single slice)" if min(shape) == 1 else ""),
            where=where,
            expected=f"at least {MIN_VOLUME_SIDE} voxels along each axis",
        )
    if max(shape) > MAX_VOLUME_SIDE:
        raise DataError(
            f"the volume is too large: its header says {size} voxels",
            where=where,
            expected=f"at most {MAX_VOLUME_SIDE} voxels along an axis",
        )
    need, free = BYTES_PER_VOXEL * shape[0] * shape[1] * shape[2], free_bytes()
    if free is not None and need > free:
        raise DataError(
            f"the volume does not fit into memory: {size} voxels need about {need / 2**30:.1f} GiB, "
            f"{free / 2**30:.1f} GiB are free",
            where=where,
            fix="reduce or crop the scan, or use a machine with more memory",
        )


def free_bytes() -> int | None:
    """Return the memory that can be had without swapping, or None where the system does not say."""
    try:
        lines = MEMORY_INFO.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
