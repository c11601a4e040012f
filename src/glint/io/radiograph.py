"""Read a radiograph: DICOM, PNG or JPEG, told apart by content, to floats in [0, 1] with bright = dense.

How brightness becomes [0, 1]: the 0.5th and 99.5th percentile of the image (padding left out) become 0 and 1.
A linear DICOM window is ignored on purpose. It only clips and stretches, which the percentiles do anyway; it
differs between viewers, may be missing, and is lost in PNG exports. Without it the same picture gives the same
numbers whether stored raw, compressed or inverted. What bends the grey scale (a VOI look-up table or a sigmoid
window) is part of the picture and is applied, see dicom_image.py.

No message holds a value from a DICOM header that could tell of a patient; only the path that the user gave.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glint.errors import DataError
from glint.io.letterbox import Letterbox, letterbox
from glint.io.limits import check_file, check_shape
from glint.io.sources import Source, is_archive, sources, unpacked_head

__all__ = ["Letterbox", "Radiograph", "Stored", "letterbox", "radiograph_from_array", "read_radiograph"]

LOW, HIGH = 0.5, 99.5


@dataclass(frozen=True, slots=True)
class Stored:
    """What a file holds, before brightness is scaled.

    Attributes:
        values: (Y, X), bright = dense, any range.
        padding: (Y, X) bool, pixels outside the picture; None when there are none.
        spacing_mm: (y, x) pixel size at the detector, or None.
        notes: What a reader should know.
    """

    values: NDArray[np.float32]
    padding: NDArray[np.bool_] | None = None
    spacing_mm: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Radiograph:
    """A radiograph on the pixel grid of its file. Row 0 is the top, column 0 the left of the picture.

    Attributes:
        pixels: (Y, X) float32 in [0, 1], bright = dense.
        spacing_mm: (y, x) pixel size at the detector, or None when the file does not say.
        source: The file; "array" for pixels given in memory.
        notes: What a reader should know, e.g. that the pixel size is missing.
    """

    pixels: NDArray[np.float32]
    spacing_mm: tuple[float, float] | None
    source: Path
    notes: tuple[str, ...] = ()


def read_radiograph(path: str | Path, *, series: str = "") -> Radiograph:
    """Read a radiograph in this process; the content decides what the file is, not its name.

    For files from elsewhere, `glint.io.untrusted.read_radiograph` does the same in a process with limits.

    Args:
        path: DICOM, PNG or JPEG file, or a folder or archive (ZIP, tar) that holds one.
        series: Which image of several: its number or alias in the list that the error shows, or its SOPInstanceUID.

    Raises:
        DataError: Missing, unreadable, cut short, a volume, a colour picture, or no radiograph at all.
    """
    path = Path(path)
    source, more = radiograph_source(path, series)
    kind = _sniff(source)
    # pydicom and Pillow load only here: importing this module stays cheap.
    if kind == "dicom":
        from glint.io.dicom_image import read_dicom

        stored = read_dicom(source)
    else:
        from glint.io.raster import read_raster

        stored = read_raster(source)
    pixels = _scale(stored, source.shown)
    return Radiograph(pixels, stored.spacing_mm, path, stored.notes + more)


def radiograph_source(path: Path, series: str = "") -> tuple[Source, tuple[str, ...]]:
    """Return the file of a radiograph: the one that was given, or the one of a folder or an archive, with notes.

    Args:
        path: As in `read_radiograph`.
        series: As in `read_radiograph`.

    Raises:
        DataError: Missing, not readable, or none or several in the folder.
    """
    if not path.is_dir():
        check_file(path)
        if not is_archive(path):
            return Source.of(path), ()
    from glint.io.dicom_file import quiet
    from glint.io.dicom_series import choose, find_series

    with quiet():
        found = find_series(sources(path))
    chosen = choose(found, series, str(path), "radiograph", lambda one: one.is_radiograph)
    return chosen.slices[0].source, found.notes()


def radiograph_from_array(pixels: NDArray[np.generic]) -> Radiograph:
    """Take pixels in memory as they are.

    Args:
        pixels: (Y, X) in [0, 1], bright = dense.

    Raises:
        DataError: Wrong number of axes, range, size or content.
    """
    if pixels.ndim != 2:
        what = "3D volume given to a 2D model" if pixels.ndim == 3 else f"the array has {pixels.ndim} axes"
        raise DataError(what, where="array", expected="one radiograph of shape (Y, X)")
    check_shape(pixels.shape[0], pixels.shape[1], "array")
    if pixels.dtype.kind not in "fiub":
        raise DataError(
            f"the array holds {pixels.dtype}, not numbers", where="array", expected="floats in [0, 1]"
        )
    values = pixels.astype(np.float32)
    _check_values(values, "array")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise DataError(
            f"the values of the array go from {low:g} to {high:g}",
            where="array",
            expected="0 to 1, bright = dense",
            fix="scale the array, or give the path of the file",
        )
    return Radiograph(values, None, Path("array"))


def _sniff(source: Source) -> str:
    """Return "dicom" or "raster", or say what else the file is."""
    head = source.head(352)
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return "raster"
    if _is_volume(source, head):
        raise DataError(
            "3D volume given to a 2D model",
            where=source.shown,
            expected="one radiograph: DICOM, PNG or JPEG",
        )
    raise DataError(
        "this is not an image that GLINT can read" + _looks_like(head),
        where=source.shown,
        expected="a DICOM, PNG or JPEG file (the content decides, not the name)",
        fix="check that the file is the right one and was copied whole",
    )


def _looks_like(head: bytes) -> str:
    kinds = {
        b"GIF8": "a GIF",
        b"BM": "a BMP",
        b"II*\0": "a TIFF",
        b"MM\0*": "a TIFF",
        b"%PDF": "a PDF",
    }
    for magic, name in kinds.items():
        if head.startswith(magic):
            return f": it looks like {name} file"
    text = all(32 <= byte < 127 or byte in b"\t\r\n" or byte > 127 for byte in head)
    return ": it holds text" if text else ""


def _is_volume(source: Source, head: bytes) -> bool:
    """Recognise NIfTI (plain or gzipped), NRRD and MetaImage."""
    if head.startswith(b"\x1f\x8b"):
        try:
            head = unpacked_head(source, 352)
        except DataError:
            return False
    return head[344:347] in (b"n+1", b"ni1") or head.startswith((b"NRRD", b"ObjectType"))


def _check_values(values: NDArray[np.float32], where: str) -> None:
    if not np.isfinite(values).all():
        raise DataError("the image holds values that are not numbers (NaN or infinite)", where=where)
    if values.size == 0 or values.min() == values.max():
        raise DataError(
            "the image is constant: every pixel has the same value",
            where=where,
            expected="a radiograph",
            fix="check that the file was exported properly",
        )


def _scale(stored: Stored, where: str) -> NDArray[np.float32]:
    """Return (Y, X) float32 in [0, 1]; padding becomes 0."""
    inside = stored.values if stored.padding is None else stored.values[~stored.padding]
    _check_values(inside, where)
    low, high = np.percentile(inside.astype(np.float64), (LOW, HIGH))
    if not high > low:
        raise DataError(
            f"the image has hardly any content: {HIGH - LOW:g} % of its pixels have the same value",
            where=where,
            expected="a radiograph",
            fix="check that the file was exported properly",
        )
    scaled = np.clip((stored.values - low) / (high - low), 0, 1).astype(np.float32)
    if stored.padding is not None:
        scaled[stored.padding] = 0
    return scaled
