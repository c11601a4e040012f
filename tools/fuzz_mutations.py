"""Ways to damage a file; each takes its bytes and a random generator. Used by tools/fuzz_files.py."""

import io
import random
import struct
import warnings
import zlib
from collections.abc import Callable

import pydicom
from fuzz_seeds import CT, dicom, saved, scan, slice_tags, slices, zipped
from pydicom.uid import UID

Mutation = Callable[[bytes, random.Random], bytes]
LIES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
ODD_TEXT = (
    "",
    "0",
    "-1",
    "1e308",
    "nan",
    "inf",
    "-inf",
    "1\\2\\3",
    "ZZ",
    "9" * 40,
    "0.0000001",
    "\x00",
    "1e-320",
)
FIELDS = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"),
    *(
        "PlanarConfiguration",
        "NumberOfFrames",
        "PhotometricInterpretation",
        "PixelSpacing",
        "ImagerPixelSpacing",
    ),
    *("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept", "RescaleType"),
    *(
        "WindowCenter",
        "WindowWidth",
        "VOILUTFunction",
        "PixelPaddingValue",
        "PixelPaddingRangeLimit",
        "Modality",
    ),
    *("SOPClassUID", "SeriesInstanceUID", "SOPInstanceUID", "ImageType", "PresentationIntentType"),
    *("PixelIntensityRelationship", "PixelIntensityRelationshipSign", "BurnedInAnnotation"),
)
SYNTAXES = ("1", "2", "4.70", "4.90", "5")


def truncate(whole: bytes, rng: random.Random) -> bytes:
    """Cut the end off."""
    return whole[: rng.randrange(len(whole))]


def flip_bits(whole: bytes, rng: random.Random) -> bytes:
    """Flip up to 32 bits, in the first part of the file as often as anywhere."""
    data = bytearray(whole)
    reach = len(data) if rng.random() < 0.5 else min(len(data), 1024)
    for _ in range(rng.choice((1, 1, 2, 8, 32))):
        data[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    return bytes(data)


def overwrite(whole: bytes, rng: random.Random) -> bytes:
    """Replace a stretch by zeros, ones or noise."""
    data = bytearray(whole)
    at, length = rng.randrange(len(data)), rng.choice((1, 4, 16, 256, 4096))
    fill = rng.choice((b"\0", b"\xff", None))
    stretch = rng.randbytes(length) if fill is None else fill * length
    data[at : at + length] = stretch[: len(data) - at]
    return bytes(data)


def lie_about_length(whole: bytes, rng: random.Random) -> bytes:
    """Write an impossible number over two or four bytes."""
    data = bytearray(whole)
    size = rng.choice((2, 4))
    reach = len(data) if rng.random() < 0.3 else min(len(data), 2048)
    at = rng.randrange(max(1, reach - size))
    data[at : at + size] = (rng.choice(LIES) % 256**size).to_bytes(size, rng.choice(("little", "big")))
    return bytes(data)


def insert(whole: bytes, rng: random.Random) -> bytes:
    """Put a part of the file, or noise, in a second time."""
    at, length = rng.randrange(len(whole)), rng.choice((1, 2, 8, 64, 1024))
    start = rng.randrange(len(whole))
    part = whole[start : start + length] if rng.random() < 0.7 else rng.randbytes(length)
    return whole[:at] + part + whole[at:]


def splice(whole: bytes, rng: random.Random) -> bytes:
    """Join a start and another end of the file."""
    return whole[: rng.randrange(len(whole))] + whole[rng.randrange(len(whole)) :]


def edit_dicom(whole: bytes, rng: random.Random) -> bytes:
    """Set elements to odd values or remove them, the rest of the file being sound."""
    if whole[128:132] != b"DICM":
        return edit_text(whole, rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = pydicom.dcmread(io.BytesIO(whole))
            for _ in range(rng.choice((1, 1, 2, 4))):
                name = rng.choice(FIELDS)
                if name in data and rng.random() < 0.2:
                    delattr(data, name)
                elif pydicom.datadict.dictionary_VR(name) in ("US", "SS", "US or SS"):
                    data.add_new(name, "US", rng.choice([n for n in LIES if n < 65536]))
                else:
                    data.add_new(name, rng.choice(("UN", "LO")), "")
                    data[name].VR = pydicom.datadict.dictionary_VR(name)
                    data[name]._value = rng.choice(ODD_TEXT)
            if rng.random() < 0.1:
                data.file_meta.TransferSyntaxUID = UID(
                    "1.2.840.10008.1.2." + rng.choice(("1", "2", "4.70", "4.90", "5"))
                )
            stream = io.BytesIO()
            data.save_as(stream)
            return stream.getvalue()
        except Exception:  # noqa: BLE001 - pydicom will not write everything that is wrong
            return lie_about_length(whole, rng)


def edit_text(whole: bytes, rng: random.Random) -> bytes:
    """Change words and numbers of a text header, or fields of a NIfTI header, or a chunk of a PNG."""
    if whole.startswith(b"NRRD"):
        lines = whole.split(b"\n\n", 1)[0].split(b"\n")
        n = rng.randrange(1, len(lines))
        name = lines[n].split(b":")[0]
        lines[n] = name + b": " + rng.choice(ODD_TEXT).encode()
        extra = [b"data file: /etc/passwd"] if rng.random() < 0.1 else []
        return b"\n".join(lines + extra) + b"\n\n" + whole.split(b"\n\n", 1)[1]
    if whole.startswith(b"\x89PNG"):
        return edit_png(whole, rng)
    if whole[344:347] in (b"n+1", b"ni1"):
        data = bytearray(whole)
        at = rng.choice((*range(40, 56, 2), 70, 72, *range(76, 120, 4), 252, 254, *range(256, 328, 4)))
        data[at : at + 4] = struct.pack("<f", float(rng.choice(("nan", "inf", "1e30", "0", "-1", "1e-30"))))
        return bytes(data)
    return flip_bits(whole, rng)


def edit_png(whole: bytes, rng: random.Random) -> bytes:
    """Damage one chunk of a PNG and put its checksum right again."""
    chunks, at = [], 8
    while at + 12 <= len(whole):
        length = int.from_bytes(whole[at : at + 4], "big")
        chunks.append((whole[at + 4 : at + 8], whole[at + 8 : at + 8 + length]))
        at += 12 + length
    n = rng.randrange(len(chunks))
    kind, body = chunks[n]
    chunks[n] = kind, lie_about_length(body, rng) if len(body) > 4 else rng.randbytes(8)
    if rng.random() < 0.2:
        chunks.insert(n, chunks[rng.randrange(len(chunks))])
    parts = [
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        for kind, body in chunks
    ]
    return whole[:8] + b"".join(parts)


def nest(whole: bytes, rng: random.Random) -> bytes:
    """Put sequences in sequences, of undefined length, behind the file meta group."""
    if whole[128:132] != b"DICM":
        return insert(whole, rng)
    depth = rng.choice((10, 100, 1000, 5000))
    end = 144 + int.from_bytes(whole[140:144], "little")
    opened = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * depth
    closed = (b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * depth) if rng.random() < 0.5 else b""
    return whole[:end] + opened + closed + whole[end:]


def spoil_slice(whole: bytes, rng: random.Random) -> bytes:
    """Return a whole series in an archive, one slice of which is damaged; the seed only counts for its name."""
    files = slices()
    n = rng.randrange(len(files))
    if rng.random() < 0.5:
        files[n] = rng.choice((edit_dicom, flip_bits, truncate, lie_about_length, nest))(files[n], rng)
    else:
        tags = slice_tags(n)
        name = rng.choice(list(tags))
        changed = {"ImagePositionPatient": [0, 0, rng.choice((0, 2.5, 1e9, -3))], "RescaleSlope": 0}.get(
            name, 7
        )
        pixels = scan()[n] if rng.random() < 0.8 else scan()[n][:8]
        tags[name] = (
            "MR" if name == "Modality" else [changed] * 6 if name.endswith("tationPatient") else changed
        )
        if name == "PixelSpacing":
            tags[name] = [0, 0]
        files[n] = saved(dicom(pixels, CT, **tags))
    return zipped(files)


MUTATIONS: dict[str, Mutation] = {
    "truncate": truncate,
    "flip bits": flip_bits,
    "overwrite": overwrite,
    "length lies": lie_about_length,
    "insert": insert,
    "splice": splice,
    "edit fields": edit_dicom,
    "nest sequences": nest,
    "spoil a slice": spoil_slice,
}
