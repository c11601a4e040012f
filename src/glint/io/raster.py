"""PNG and JPEG, 8 or 16 bit, grey; a grey picture saved as RGB is accepted, a colour picture is not."""

import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from glint.errors import DataError
from glint.io.limits import check_shape
from glint.io.radiograph import Stored
from glint.io.sources import Source

FORMATS = ("PNG", "JPEG", "MPO")
CHANNEL_SPREAD = 16 / 255
"""JPEG moves the channels of a grey picture apart by a few levels at most."""
PNG_TAIL = 65_536
"""Some programs write a little behind the end chunk."""
COLOUR_SHARE = 0.005
"""A coloured side marker is let through, a photograph is not."""


def read_raster(source: Source) -> Stored:
    """Read a PNG or JPEG file. Bright is taken as dense: such files do not say.

    Raises:
        DataError: Damaged, cut short, too large, animated or in colour.
    """
    where = source.shown
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # check_shape has its own limit
            picture = Image.open(source.open(), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise DataError("the image is too large to decode", where=where, fix="reduce the image") from error
    except Exception as error:
        raise _damaged(where) from error
    with picture:
        check_shape(picture.height, picture.width, where)
        if picture.format == "PNG" and getattr(picture, "n_frames", 1) > 1:
            raise DataError("the file is an animation", where=where, expected="one radiograph")
        if picture.format == "PNG" and not _has_end(source):
            raise _damaged(where)
        try:
            # Decoders raise errors of many kinds on damaged data; all mean the same here.
            picture.load()
            turned = ImageOps.exif_transpose(picture)
            values = _values(turned)
        except Exception as error:
            raise _damaged(where) from error
    notes = ("turned as its EXIF orientation says",) if turned.size != picture.size else ()
    if values.ndim == 3:
        values = grey(values, where)
    return Stored(values, notes=notes)


def grey(channels: NDArray[np.float32], where: str) -> NDArray[np.float32]:
    """Return the mean of three channels (Y, X, 3) in [0, 1] that hold the same picture.

    Raises:
        DataError: The channels differ: this is a colour picture.
    """
    spread = channels.max(axis=2) - channels.min(axis=2)
    if float((spread > CHANNEL_SPREAD).mean()) > COLOUR_SHARE:
        raise DataError(
            "this is a colour picture, not a radiograph",
            where=where,
            expected="a grey image (grey saved as RGB is fine)",
            fix="give the radiograph itself, not a photograph or a screenshot with colours",
        )
    return channels.mean(axis=2, dtype=np.float32)


def _values(picture: Image.Image) -> NDArray[np.float32]:
    """Return (Y, X), or (Y, X, 3) in [0, 1] for pictures with colour channels."""
    if picture.mode in ("1", "L", "I", "F") or picture.mode.startswith("I;16"):
        return np.asarray(picture.convert("L") if picture.mode == "1" else picture).astype(np.float32)
    if picture.mode == "LA":
        return np.asarray(picture.getchannel("L")).astype(np.float32)
    return np.asarray(picture.convert("RGB")).astype(np.float32) / np.float32(255)


def _has_end(source: Source) -> bool:
    """Say whether a PNG has its end chunk: Pillow does not miss it when only the last few bytes are cut off."""
    with source.open() as stream:
        stream.seek(max(source.size - PNG_TAIL, 0))
        return b"IEND\xaeB`\x82" in stream.read()


def _damaged(where: str) -> DataError:
    return DataError(
        "the image file is damaged or cut short",
        where=where,
        expected="a whole PNG or JPEG file",
        fix="copy or export it again",
    )
