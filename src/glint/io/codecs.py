"""Compressed DICOM pixels that pydicom cannot decode with what GLINT installs: through imagecodecs.

JPEG lossless is the usual compression of radiographs in archives. pydicom decodes raw, RLE, baseline JPEG and
JPEG 2000 itself; its plugin for JPEG lossless is GPL and is not used. 12-bit JPEG, JPEG lossless, JPEG-LS and
HTJ2K are decoded here.
"""

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import UID, RLELossless

from glint.io.limits import FREE_BYTES, MAX_EXPANSION

Decode = Callable[[bytes], Any]

_DECODERS: dict[str, Decode] = {
    "1.2.840.10008.1.2.4.51": imagecodecs.jpeg8_decode,  # JPEG extended, 12 bit
    "1.2.840.10008.1.2.4.57": imagecodecs.jpegsof3_decode,  # JPEG lossless
    "1.2.840.10008.1.2.4.70": imagecodecs.jpegsof3_decode,  # JPEG lossless, first order
    "1.2.840.10008.1.2.4.80": imagecodecs.jpegls_decode,
    "1.2.840.10008.1.2.4.81": imagecodecs.jpegls_decode,
    "1.2.840.10008.1.2.4.201": imagecodecs.jpeg2k_decode,  # HTJ2K
    "1.2.840.10008.1.2.4.202": imagecodecs.jpeg2k_decode,
    "1.2.840.10008.1.2.4.203": imagecodecs.jpeg2k_decode,
}
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
# What pydicom decodes through Pillow: its pictures have a size of their own, too.
_CODED = {*_DECODERS, *(f"1.2.840.10008.1.2.4.{number}" for number in (50, 90, 91))}


def decode(data: Dataset, syntax: str, frames: int = 1) -> NDArray[np.generic]:
    """Return the stored values of an image: (Y, X) or (Y, X, 3), with one more axis in front for several frames.

    Args:
        data: A whole data set, its header already checked against io/limits.py.
        syntax: Transfer syntax UID.
        frames: How many there are.

    Raises:
        ValueError: The pixels present cannot give a picture of the size that the header says.
        Exception: Whatever a decoder raises on damaged data.
    """
    _check_present(data, syntax, frames)
    if syntax not in _CODED:
        return data.pixel_array
    # Before decoding: a codestream has a size of its own and could ask for any amount of memory.
    coded = list(generate_frames(data.PixelData, number_of_frames=frames))
    if len(coded) != frames or any(coded_size(frame) != (data.Rows, data.Columns) for frame in coded):
        raise ValueError("the compressed picture has another size than the header")
    # CharLS never ends on a picture that is cut short, and always does on one with its end marker.
    if syntax in _JPEG_LS and not all(frame.rstrip(b"\0").endswith(b"\xff\xd9") for frame in coded):
        raise ValueError("the compressed picture is cut short")
    decoder = _DECODERS.get(syntax)
    if decoder is None:
        return data.pixel_array
    pixels: NDArray[np.generic] = np.stack([np.asarray(decoder(frame)) for frame in coded])
    if data.get("PixelRepresentation", 0) == 1 and pixels.dtype.kind == "u":
        # These decoders return bit patterns; bits above BitsStored repeat the sign.
        sign = 1 << (int(data.BitsStored) - 1)
        pixels = ((pixels.astype(np.int32) & (2 * sign - 1)) ^ sign) - sign
    return pixels[0] if frames == 1 else pixels


def _check_present(data: Dataset, syntax: str, frames: int) -> None:
    """Refuse a header that promises more than the bytes present can hold, before anything is allocated."""
    bits = int(data.BitsAllocated)
    promised = int(data.Rows) * int(data.Columns) * int(data.SamplesPerPixel) * frames * bits // 8
    present = len(data.PixelData)
    if UID(syntax).is_encapsulated:
        # A run of PackBits is at most 128 bytes from two.
        most = 64 * present if syntax == RLELossless else max(FREE_BYTES, MAX_EXPANSION * present)
    else:
        most = 2 * present  # 4:2:2 colour shares samples; pydicom compares the exact length
    if not 1 <= bits <= 64 or promised > most:
        raise ValueError("the header promises more pixels than there are bytes for")


def coded_size(frame: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) from the header of a JPEG, JPEG-LS or JPEG 2000 codestream."""
    if frame.startswith(b"\xff\x4f\xff\x51"):
        x1, y1, x0, y0 = (int.from_bytes(frame[i : i + 4], "big") for i in (8, 12, 16, 20))
        return y1 - y0, x1 - x0
    position = 2
    while position + 9 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        # Start of frame: C0..CF without C4 (tables), C8, CC; F7 in JPEG-LS.
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return int.from_bytes(frame[position + 5 : position + 7], "big"), int.from_bytes(
                frame[position + 7 : position + 9], "big"
            )
        position += 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
    return None
