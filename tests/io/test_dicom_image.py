"""DICOM radiographs of rarer kinds: palettes, detector values, text in the picture, every transfer syntax."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from glint.errors import DataError
from glint.io.radiograph import read_radiograph

Save = Callable[..., Path]
Pixels = NDArray[np.uint16]
BIG_ENDIAN, IMPLICIT, RLE = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2", "1.2.840.10008.1.2.5"


def jpeg(number: str) -> str:
    return f"1.2.840.10008.1.2.4.{number}"


def palette(values: NDArray[Any], green: NDArray[Any] | None = None) -> dict[str, Any]:
    """Return the elements of a palette of 16-bit values."""
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, channel in (("Red", values), ("Green", values if green is None else green), ("Blue", values)):
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [len(values) % 65536, 0, 16]
        tags[f"{name}PaletteColorLookupTableData"] = channel.astype("<u2").tobytes()
    return tags


@pytest.mark.parametrize("bits", [8, 16])
def test_palette__of_greys_is_looked_up(save: Save, chest: Pixels, bits: int) -> None:
    stored = (chest // 16).astype(np.uint8) if bits == 8 else chest
    table = np.sqrt(np.arange(256 if bits == 8 else 4096)) * 900
    found = read_radiograph(save(stored, BitsStored=bits, HighBit=bits - 1, **palette(table)))
    values = table.astype(np.uint16)[stored].astype(float)
    low, high = np.percentile(values, (0.5, 99.5))
    np.testing.assert_allclose(found.pixels, np.clip((values - low) / (high - low), 0, 1), atol=1e-4)


def test_palette__of_colours_is_refused(save: Save, chest: Pixels) -> None:
    table = np.arange(4096) * 16
    with pytest.raises(DataError, match="colour picture"):
        read_radiograph(save(chest, **palette(table, green=table[::-1])))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("sign", [1, -1, None])
def test_processing__sign_of_the_beam_decides_and_linear_values_become_logarithms(
    save: Save, chest: Pixels, photometric: str, sign: int | None
) -> None:
    """Intensity behind a body of the thickness of `chest`: what is dense lets little through."""
    beam = np.rint(60000 * np.exp(chest / -2000)).astype(np.uint16)
    stored = 60001 - beam if sign == -1 else beam
    tags = {"PresentationIntentType": "FOR PROCESSING", "BitsStored": 16, "HighBit": 15}
    linear = {"PixelIntensityRelationship": "LIN"} | (
        {} if sign is None else {"PixelIntensityRelationshipSign": sign}
    )
    image = read_radiograph(save(stored, PhotometricInterpretation=photometric, **tags, **linear))
    dense_is_bright = np.corrcoef(image.pixels.ravel(), chest.ravel())[0, 1]
    if sign is None:
        assert (dense_is_bright > 0) == (photometric == "MONOCHROME1")
    else:
        assert dense_is_bright > 0.9
    if sign == 1:
        expected = read_radiograph(save(chest)).pixels
        np.testing.assert_allclose(image.pixels, expected, atol=2e-3)
    assert "FOR PROCESSING" in image.notes[0]
    assert "logarithm" in image.notes[1]


def test_presentation__ignores_the_sign(save: Save, chest: Pixels) -> None:
    tags = {"PresentationIntentType": "FOR PRESENTATION", "PixelIntensityRelationship": "LIN"}
    image = read_radiograph(save(chest, PixelIntensityRelationshipSign=1, **tags))
    assert (image.pixels == read_radiograph(save(chest)).pixels).all()


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned into"),
        ({"ImageType": ["DERIVED", "SECONDARY"]}, "secondary capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": "OT"}, "secondary capture"),
        ({"ImageType": ["DERIVED", "SECONDARY"], "BurnedInAnnotation": "NO"}, ""),
        ({"ImageType": ["ORIGINAL", "PRIMARY"]}, ""),
    ],
)
def test_burned_in__text_is_warned_of(save: Save, chest: Pixels, tags: dict[str, Any], words: str) -> None:
    notes = read_radiograph(save(chest, **tags)).notes
    assert words in notes[0] if words else not notes


def repacked(path: Path, syntax: str) -> Path:
    """Write a file again with pydicom's own encoder or byte order."""
    data = pydicom.dcmread(path)
    if syntax == RLE:
        data.compress(RLE)
        data.save_as(path)
    else:
        pixels = data.pixel_array
        data.PixelData = pixels.astype(">u2" if syntax == BIG_ENDIAN else "<u2").tobytes()
        data.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(path, data, little_endian=syntax != BIG_ENDIAN, implicit_vr=syntax == IMPLICIT)
    return path


@pytest.mark.parametrize("syntax", [RLE, BIG_ENDIAN, IMPLICIT])
def test_syntax__plain_orders_and_runs_change_nothing(save: Save, chest: Pixels, syntax: str) -> None:
    expected = read_radiograph(save(chest)).pixels
    assert (read_radiograph(repacked(save(chest), syntax)).pixels == expected).all()


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (jpeg("57"), imagecodecs.ljpeg_encode),
        (jpeg("81"), imagecodecs.jpegls_encode),
        (jpeg("91"), lambda x: imagecodecs.jpeg2k_encode(x, level=0, codecformat="j2k", reversible=True)),
        (jpeg("201"), imagecodecs.htj2k_encode),
        (jpeg("202"), imagecodecs.htj2k_encode),
        (jpeg("203"), imagecodecs.htj2k_encode),
    ],
    ids=["57", "81", "91", "201", "202", "203"],
)
def test_syntax__lossless_codecs_change_nothing(save: Save, chest: Pixels, syntax: str, encode: Any) -> None:
    expected = read_radiograph(save(chest)).pixels
    assert (read_radiograph(save(chest, syntax, encode)).pixels == expected).all()


def test_syntax__lossy_jpeg_of_8_and_12_bit_is_close(save: Save, chest: Pixels) -> None:
    expected = read_radiograph(save(chest)).pixels
    eight = (chest // 16).astype(np.uint8)
    found = read_radiograph(save(eight, jpeg("50"), lambda x: imagecodecs.jpeg8_encode(x, level=95))).pixels
    np.testing.assert_allclose(found, expected, atol=0.06)
    twelve = save(chest, jpeg("51"), lambda x: imagecodecs.jpeg8_encode(x, level=95, bitspersample=12))
    np.testing.assert_allclose(read_radiograph(twelve).pixels, expected, atol=0.06)


@pytest.mark.parametrize("syntax", [jpeg("80"), jpeg("81")])
def test_syntax__jpeg_ls_without_its_end_is_refused(save: Save, chest: Pixels, syntax: str) -> None:
    """CharLS would decode it for ever."""
    path = save(chest, syntax, lambda x: imagecodecs.jpegls_encode(x).rstrip(b"\0")[:-40])
    with pytest.raises(DataError, match="cannot be decoded"):
        read_radiograph(path)
