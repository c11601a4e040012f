"""Reading: the same picture gives the same numbers however it is stored, and bad files say what is wrong."""

import gzip
import importlib.util
import io
import logging
import warnings
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from glint.errors import DataError
from glint.io.radiograph import radiograph_from_array, read_radiograph

Save = Callable[..., Path]
Pixels = NDArray[np.uint16]
J2K, JPEG_LS, JPEG_LOSSLESS = (f"1.2.840.10008.1.2.4.{number}" for number in (90, 80, 70))
DEFLATED = "1.2.840.10008.1.2.1.99"
MARKED = "ZZPATIENTZZ"
j2k_encode = partial(imagecodecs.jpeg2k_encode, level=0, codecformat="j2k", reversible=True)


def lut(values: NDArray[Any], first: int = 0) -> Dataset:
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [len(values), first, 16])
    table.add_new("LUTData", "OW", values.astype("<u2").tobytes())
    return table


def test_read__gives_float32_in_0_1_with_bright_dense(save: Save, chest: Pixels) -> None:
    image = read_radiograph(save(chest))
    assert image.pixels.dtype == np.float32
    assert image.pixels.shape == chest.shape
    assert (image.pixels.min(), image.pixels.max()) == (0, 1)
    assert np.corrcoef(image.pixels.ravel(), chest.ravel())[0, 1] > 0.99
    assert image.spacing_mm == (0.2, 0.3)


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (J2K, j2k_encode),
        (JPEG_LS, imagecodecs.jpegls_encode),
        (JPEG_LOSSLESS, imagecodecs.ljpeg_encode),
        (DEFLATED, None),
    ],
)
def test_read__lossless_compression_changes_nothing(
    save: Save, chest: Pixels, syntax: str, encode: Any
) -> None:
    raw = read_radiograph(save(chest)).pixels
    assert (read_radiograph(save(chest, syntax, encode)).pixels == raw).all()


def test_read__monochrome1_equals_the_inverted_picture(save: Save, chest: Pixels) -> None:
    raw = read_radiograph(save(chest)).pixels
    turned = read_radiograph(save(4095 - chest, PhotometricInterpretation="MONOCHROME1")).pixels
    np.testing.assert_allclose(turned, raw, atol=1e-6)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize(
    "tags",
    [
        {"RescaleSlope": "2.0", "RescaleIntercept": "-100"},
        {"WindowCenter": "1800", "WindowWidth": "500"},
        {"VOILUTFunction": "LINEAR", "WindowCenter": "1800", "WindowWidth": "500"},
        {"PixelSpacing": [0, 0]},
    ],
    ids=["rescale", "window", "linear window", "no spacing"],
)
def test_read__straight_lines_change_nothing(
    save: Save, chest: Pixels, tags: dict[str, Any], inverted: bool
) -> None:
    stored, photometric = (4095 - chest, "MONOCHROME1") if inverted else (chest, "MONOCHROME2")
    image = read_radiograph(save(stored, PhotometricInterpretation=photometric, **tags))
    np.testing.assert_allclose(image.pixels, read_radiograph(save(chest)).pixels, atol=1e-6)


@pytest.mark.parametrize("inverted", [False, True])
def test_read__order_is_modality_voi_polarity(save: Save, chest: Pixels, inverted: bool) -> None:
    """Expected by hand: table of the modality, then table of the display, and only then the turn."""
    stored = 4095 - chest if inverted else chest
    modality = np.arange(4096) // 2 + 100
    voi = np.minimum(np.arange(4096).astype(float) ** 2 / 500, 65535)
    tables = {
        "ModalityLUTSequence": [lut(modality)],
        "VOILUTSequence": [lut(voi)],
        "PhotometricInterpretation": "MONOCHROME1" if inverted else "MONOCHROME2",
    }
    tables["ModalityLUTSequence"][0].ModalityLUTType = "US"
    values = voi.astype(np.uint16)[modality[stored]].astype(float) * (-1 if inverted else 1)
    low, high = np.percentile(values, (0.5, 99.5))
    expected = np.clip((values - low) / (high - low), 0, 1)
    np.testing.assert_allclose(read_radiograph(save(stored, **tables)).pixels, expected, atol=1e-4)


def test_read__sigmoid_window_bends_the_scale(save: Save, chest: Pixels) -> None:
    tags = {"VOILUTFunction": "SIGMOID", "WindowCenter": "1800", "WindowWidth": "800"}
    bent = read_radiograph(save(chest, **tags)).pixels
    assert np.abs(bent - read_radiograph(save(chest)).pixels).max() > 0.1


def test_read__signed_values_survive_compression(save: Save, chest: Pixels) -> None:
    signed = (chest.astype(np.int32) - 2048).astype(np.int16)
    raw = read_radiograph(save(signed)).pixels
    np.testing.assert_allclose(raw, read_radiograph(save(chest)).pixels, atol=1e-6)

    def encode(pixels: Any) -> bytes:
        return imagecodecs.jpegls_encode((pixels & 0x0FFF).astype(np.uint16))

    assert (read_radiograph(save(signed, JPEG_LS, encode)).pixels == raw).all()


def test_read__padding_is_left_out_and_black(save: Save, chest: Pixels) -> None:
    stored = np.clip(chest, 1, 4000)
    stored[:, :30] = 4095
    image = read_radiograph(save(stored, PixelPaddingValue=4095))
    assert (image.pixels[:, :30] == 0).all()
    np.testing.assert_allclose(image.pixels[:, 30:], read_radiograph(save(stored[:, 30:])).pixels, atol=1e-6)


@pytest.mark.parametrize("spacing", [[0, 0], [], ["0.000", "0.000"]])
def test_read__spacing_zero_is_unknown_with_a_note(save: Save, chest: Pixels, spacing: list[Any]) -> None:
    image = read_radiograph(save(chest, PixelSpacing=spacing))
    assert image.spacing_mm is None
    assert "pixel size" in image.notes[0]
    image = read_radiograph(save(chest, PixelSpacing=spacing, ImagerPixelSpacing=[0.1, 0.1]))
    assert image.spacing_mm == (0.1, 0.1)


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.dcm"])
def test_read__content_decides_not_the_name(tmp_path: Path, chest: Pixels, name: str) -> None:
    grey = Image.fromarray((chest // 16).astype(np.uint8))
    grey.save(tmp_path / name, format="PNG")
    assert read_radiograph(tmp_path / name).pixels.shape == chest.shape


def test_read__png_of_8_and_16_bit_rgb_and_jpeg_agree(tmp_path: Path, save: Save, chest: Pixels) -> None:
    grey = Image.fromarray((chest // 16).astype(np.uint8))
    files = {
        "8.png": grey,
        "16.png": Image.fromarray(chest * 16),
        "rgb.png": grey.convert("RGB"),
        "alpha.png": grey.convert("LA"),
        "grey.jpg": grey,
        "rgb.jpg": grey.convert("RGB"),
    }
    expected = read_radiograph(save(chest)).pixels
    for name, picture in files.items():
        picture.save(tmp_path / name, **({"quality": 95} if name.endswith("jpg") else {}))
        np.testing.assert_allclose(read_radiograph(tmp_path / name).pixels, expected, atol=0.05, err_msg=name)


def real(name: str) -> Path:
    spec = importlib.util.find_spec("data_store")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("pydicom-data is not installed")
    return Path(spec.submodule_search_locations[0]) / "data" / name


def test_read__real_radiograph_raw_and_compressed_agree() -> None:
    """UNCR is the uncompressed twin of J2KR (lossless)."""
    raw, packed = read_radiograph(real("RG1_UNCR.dcm")), read_radiograph(real("RG1_J2KR.dcm"))
    assert (raw.pixels == packed.pixels).all()
    assert raw.pixels.shape == (1955, 1841)
    assert raw.spacing_mm is None
    spine, left_lung = raw.pixels[600:1200, 880:960].mean(), raw.pixels[400:550, 1150:1300].mean()
    assert spine > left_lung + 0.2, "MONOCHROME1: bone must be bright after reading"


def bad_files(folder: Path, save: Save, chest: Pixels) -> dict[str, tuple[Path, str]]:
    """Return name -> (path, words of the message)."""
    colour = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    (folder / "notes.dcm").write_text("not an image\n")
    (folder / "empty.dcm").touch()
    (folder / "folder.dcm").mkdir()
    (folder / "ct.nii.gz").write_bytes(gzip.compress(b"\0" * 344 + b"n+1\0" + b"\0" * 99))
    (folder / "ct.nii").write_bytes(b"\0" * 344 + b"n+1\0" + b"\0" * 99)
    (folder / "tiff.png").write_bytes(b"II*\0" + b"\0" * 400)
    Image.fromarray(colour).save(folder / "photo.png")
    Image.fromarray(colour).save(folder / "photo.jpg")
    Image.fromarray((chest[:20, :20] // 16).astype(np.uint8)).save(folder / "icon.png")
    Image.new("L", (64, 64), 7).save(folder / "constant.png")
    Image.new("L", (33, 400), 7).save(folder / "strip.png")
    frames = [Image.fromarray((chest // (16 + i)).astype(np.uint8)) for i in range(2)]
    frames[0].save(folder / "film.png", save_all=True, append_images=frames[1:])
    stacked = np.stack([chest, chest])
    named = {
        "missing.dcm": "no such file",
        "notes.dcm": "holds text",
        "empty.dcm": "empty",
        "folder.dcm": "no images",
        "ct.nii.gz": "3D volume",
        "ct.nii": "3D volume",
        "tiff.png": "TIFF",
        "photo.png": "colour picture",
        "photo.jpg": "colour picture",
        "icon.png": "too small",
        "constant.png": "constant",
        "strip.png": "oblong",
        "film.png": "animation",
    }
    files = {name: (folder / name, words) for name, words in named.items()}
    files["frames"] = (
        save(stacked, NumberOfFrames=2, Rows=chest.shape[0], Columns=chest.shape[1]),
        "3D volume",
    )
    files["ct slice"] = (save(chest, Modality="CT"), "3D volume")
    files["ultrasound"] = (save(chest, Modality="US"), "not a radiograph")
    files["bomb"] = (save(chest, Rows=60000, Columns=60000), "too large")
    files["short pixels"] = (save(chest, PixelData=chest.tobytes()[:-400]), "cannot be decoded")
    files["palette"] = (save(chest, PhotometricInterpretation="PALETTE COLOR"), "look-up table")
    files["flat slope"] = (save(chest, RescaleSlope="0", RescaleIntercept="1"), "constant")
    lying = partial(save, chest[:60], J2K.replace("90", "201"), j2k_encode)
    files["lying codestream"] = (lying(Rows=40, Columns=40), "cannot be decoded")
    return files


def test_read__bad_files_say_what_is_wrong(tmp_path: Path, save: Save, chest: Pixels) -> None:
    for name, (path, words) in bad_files(tmp_path, save, chest).items():
        with pytest.raises(DataError) as caught:
            read_radiograph(path)
        assert words in caught.value.what, name
        assert caught.value.where == str(path), name
        assert MARKED not in caught.value.message(), name


def test_read__no_picture_in_the_file(save: Save, chest: Pixels, tmp_path: Path) -> None:
    import pydicom

    data = pydicom.dcmread(save(chest))
    del data.PixelData
    data.save_as(tmp_path / "none.dcm")
    with pytest.raises(DataError, match="cut short"):
        read_radiograph(tmp_path / "none.dcm")
    del data.Rows
    data.save_as(tmp_path / "none.dcm")
    with pytest.raises(DataError, match="no image"):
        read_radiograph(tmp_path / "none.dcm")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.995), kind=st.sampled_from(["raw", "j2k", "jls", "png", "jpg"]))
@example(share=0.995, kind="png")  # all rows are there, the end chunk is not
def test_read__cut_short_anywhere_is_an_error(save: Save, chest: Pixels, share: float, kind: str) -> None:
    if kind in ("png", "jpg"):
        stream = io.BytesIO()
        picture = Image.fromarray((chest // 16).astype(np.uint8))
        picture.save(stream, format={"png": "PNG", "jpg": "JPEG"}[kind])
        whole, path = stream.getvalue(), save(chest)
    else:
        encoders = {"raw": (), "j2k": (J2K, j2k_encode), "jls": (JPEG_LS, imagecodecs.jpegls_encode)}
        path = save(chest, *encoders[kind])
        whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError):
        read_radiograph(path)


def test_read__refuses_a_deflated_bomb(tmp_path: Path, save: Save, chest: Pixels) -> None:
    path = save(chest, DEFLATED)
    head = path.read_bytes()
    start = 132 + 12 + int.from_bytes(head[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    with path.open("wb") as stream:
        stream.write(head[:start])
        for _ in range(520):
            stream.write(packer.compress(bytes(1 << 20)))
        stream.write(packer.flush())
    with pytest.raises(DataError, match="unpacks"):
        read_radiograph(path)


def test_read__libraries_stay_silent_about_patients(
    save: Save, chest: Pixels, caplog: pytest.LogCaptureFixture
) -> None:
    import pydicom

    path = save(chest)
    data = pydicom.dcmread(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.add_new("PatientBirthDate", "DA", MARKED)
        data.save_as(path)
    caplog.clear()
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_radiograph(path)
    assert MARKED not in caplog.text
    assert not [warning for warning in caught if MARKED in str(warning.message)]


def test_array__is_taken_as_it_is() -> None:
    pixels = np.linspace(0, 1, 64 * 48).reshape(64, 48)
    np.testing.assert_allclose(radiograph_from_array(pixels).pixels, pixels, atol=1e-7)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((4, 64, 64)), "3D volume"),
        (np.zeros(64), "axes"),
        (np.full((64, 64), 0.5), "constant"),
        (np.linspace(0, 255, 4096).reshape(64, 64), "go from"),
        (np.where(np.eye(64) > 0, np.nan, 0.5), "NaN"),
        (np.full((64, 64), "x"), "not numbers"),
        (np.zeros((8, 8)), "too small"),
    ],
)
def test_array__bad_ones_say_what_is_wrong(pixels: NDArray[Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        radiograph_from_array(pixels)
