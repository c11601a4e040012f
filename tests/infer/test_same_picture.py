"""The same radiograph, however it is stored, has the same pixels and the same scores."""

import importlib.util
import io
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate

import glint

QUERIES = ["There is a nodule.", "There is a left pleural effusion.", "The heart is enlarged."]
SYNTAX = "1.2.840.10008.1.2."
WAYS: dict[str, Any] = {
    "deflated": ("1.99", None),
    "JPEG lossless": ("4.70", imagecodecs.ljpeg_encode),
    "JPEG-LS": ("4.80", imagecodecs.jpegls_encode),
    "JPEG 2000": (
        "4.90",
        lambda x: imagecodecs.jpeg2k_encode(x, level=0, codecformat="j2k", reversible=True),
    ),
    "HTJ2K": ("4.201", imagecodecs.htj2k_encode),
    "RLE": ("5", None),
    "inverted": (None, None),
    "inverted JPEG 2000": (
        "4.90",
        lambda x: imagecodecs.jpeg2k_encode(x, level=0, codecformat="j2k", reversible=True),
    ),
}


@pytest.fixture(scope="module")
def raw() -> bytes:
    """A part of the real radiograph of pydicom-data, uncompressed: 700 x 600 pixels with 15 bits."""
    spec = importlib.util.find_spec("data_store")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("pydicom-data is not installed")
    data = pydicom.dcmread(Path(spec.submodule_search_locations[0]) / "data" / "RG1_UNCR.dcm")
    return saved(data, np.ascontiguousarray(data.pixel_array[::3, ::3]))


def saved(data: pydicom.FileDataset, pixels: Any) -> bytes:
    data.Rows, data.Columns = pixels.shape
    data.PixelData = pixels.tobytes()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    stream = io.BytesIO()
    data.save_as(stream)
    return stream.getvalue()


def stored(raw: bytes, way: str) -> pydicom.FileDataset:
    """Return the data set in another form."""
    data = pydicom.dcmread(io.BytesIO(raw))
    syntax, encode = WAYS[way]
    pixels = data.pixel_array
    if way.startswith("inverted"):
        pixels = (2**data.BitsStored - 1 - pixels).astype(pixels.dtype)
        turned = {"MONOCHROME1": "MONOCHROME2", "MONOCHROME2": "MONOCHROME1"}
        data.PhotometricInterpretation = turned[data.PhotometricInterpretation]
        data.PixelData = pixels.tobytes()
    if syntax == "5":
        data.compress(SYNTAX + syntax)
    elif encode:
        data.PixelData = encapsulate([encode(pixels)])
        data["PixelData"].is_undefined_length = True
    if syntax:
        data.file_meta.TransferSyntaxUID = SYNTAX + syntax
    return data


@pytest.fixture(scope="module")
def model() -> glint.Glint:
    return glint.load("glint-cxr-phantom")


@pytest.fixture(scope="module")
def expected(
    raw: bytes, model: glint.Glint, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, list[float]]:
    path = tmp_path_factory.mktemp("raw") / "raw.dcm"
    path.write_bytes(raw)
    image = glint.read_radiograph(path)
    return image.pixels, [answer.score for answer in model.classify(image, QUERIES)]


@pytest.mark.parametrize("way", list(WAYS))
def test_picture__has_the_same_pixels_and_scores_in_every_form(
    raw: bytes, model: glint.Glint, expected: tuple[Any, list[float]], tmp_path: Path, way: str
) -> None:
    pixels, scores = expected
    stored(raw, way).save_as(tmp_path / "x.dcm")
    image = glint.read_radiograph(tmp_path / "x.dcm")
    assert (image.pixels == pixels).all()
    assert [answer.score for answer in model.classify(image, QUERIES)] == scores
