"""Windows, presets, and the real CT from its file to an encoder's input and back."""

import csv
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from glint.config.volume import CHEST_HU, CT_PRESETS, FULL_HU, LUNG_HU, MEDIASTINAL_HU, VolumeConfig
from glint.errors import DataError
from glint.io.ct import lay_out, windowed
from glint.io.hounsfield import hounsfield
from glint.io.regrid import regrid
from glint.io.sources import Source
from glint.io.volume import Volume, read_volume
from glint.io.volume_nifti import read_nifti
from glint.io.volume_steps import pad_to_multiple


def test_windowed__maps_and_clips_one_channel_a_window() -> None:
    hu = np.array([[-3000, -1150, -400, 350, 3000]], dtype=np.float32)
    (channel,) = windowed(hu, [CHEST_HU])
    np.testing.assert_allclose(channel, [[0, 0, 0.5, 1, 1]], atol=1e-6)
    channels = windowed(hu[None], (LUNG_HU, MEDIASTINAL_HU, FULL_HU))
    assert channels.shape == (3, 1, 1, 5)
    assert channels.dtype == np.float32
    np.testing.assert_allclose(channels[:, 0, 0, 2], [1000 / 1200, 0, 0.3], atol=1e-6)


@pytest.mark.parametrize("name", CT_PRESETS)
def test_presets__fit_patches_of_2_16_16_and_give_way_to_what_is_set(name: str) -> None:
    found = VolumeConfig.model_validate({"preset": name})
    assert all(side % patch == 0 for side, patch in zip(found.crop, (2, 16, 16), strict=True))
    assert found.spacing_mm == CT_PRESETS[name]["spacing_mm"]
    changed = VolumeConfig.model_validate({"preset": name, "crop": [32, 64, 64]})
    assert changed.crop == (32, 64, 64)
    assert changed.spacing_mm == found.spacing_mm
    assert VolumeConfig.model_validate(changed.model_dump(mode="json")) == changed


@pytest.mark.parametrize(
    "wrong", [{"preset": "huge"}, {"spacing_mm": [0, 1, 1]}, {"windows_hu": [[350, -1150]]}]
)
def test_volume_config__refuses_what_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        VolumeConfig.model_validate(wrong)


@pytest.fixture(scope="module")
def scan(real_ct: Path) -> Volume:
    """The real CT as read."""
    return read_volume(real_ct)


def test_real_ct__is_read_laid_out_and_brought_back(scan: Volume) -> None:
    assert scan.hu.shape == (133, 512, 512)
    assert scan.spacing_mm == pytest.approx((2.5, 0.703125, 0.703125))
    assert scan.valid is not None
    assert 0.2 < 1 - scan.valid.mean() < 0.23  # the corners outside of the reconstruction circle
    assert scan.hu.min() >= -1024
    chosen = VolumeConfig.model_validate({"preset": "debug"})
    ready = pad_to_multiple(lay_out(scan, chosen.spacing_mm), (2, 16, 16))
    assert ready.grid.orientation == "SPL"
    assert ready.spacing_mm == pytest.approx(chosen.spacing_mm)
    pixels = windowed(ready.hu, chosen.windows_hu)
    assert 0.05 < pixels.mean() < 0.6
    back = ready.chain.to_native(ready.hu, fill=-1000)
    seen = scan.valid & (np.abs(scan.hu) < 100)
    assert back.shape == scan.hu.shape
    assert abs(float(np.median((back - scan.hu)[seen]))) < 5
    assert np.corrcoef(back[::4, ::4, ::4].ravel(), scan.hu[::4, ::4, ::4].ravel())[0, 1] > 0.97


def test_real_ct__organs_lie_where_they_do_in_patients(real_ct: Path, scan: Volume) -> None:
    """Left, posterior and superior are what the affine calls so, in the file and after all steps."""
    labels = read_nifti(Source.of(real_ct.with_name("mask.nii.gz")))
    with real_ct.with_name("structures.csv").open(newline="") as lines:
        codes = {row["structure"]: int(row["id"]) for row in csv.DictReader(lines)}
    ready = lay_out(scan, (3.0, 2.0, 2.0))
    centre: dict[str, np.ndarray] = {}
    for name in ("liver", "heart", "spleen", "vertebrae_T9"):
        organ = labels.values == codes[name]
        moved = regrid(organ, labels.grid, ready.grid, fill=0) > 0.5
        native, there = (
            grid.to_lps(np.argwhere(mask)).mean(axis=0)
            for grid, mask in ((labels.grid, organ), (ready.grid, moved))
        )
        np.testing.assert_allclose(there, native, atol=1.5)
        centre[name] = np.argwhere(moved).mean(axis=0)  # (z, y, x): up, back, left
    assert centre["liver"][2] < centre["heart"][2] < centre["spleen"][2], "left is where the spleen is"
    assert centre["heart"][1] < centre["vertebrae_T9"][1], "posterior is where the spine is"
    assert centre["liver"][0] < centre["heart"][0], "superior is where the heart is"
    body = ready.hu[regrid(labels.values == codes["liver"], labels.grid, ready.grid, fill=0) > 0.9]
    assert 20 < np.median(body) < 150


def test_real_ct__agrees_with_nibabel(real_ct: Path, scan: Volume) -> None:
    import nibabel as nib

    image = nib.load(real_ct)
    stored = np.asarray(image.dataobj).transpose(2, 1, 0)
    assert scan.valid is not None
    assert (scan.hu[scan.valid] == stored[scan.valid]).all()
    index = np.array([[0, 0, 0], [132, 511, 0], [60, 100, 400]])
    ras = (image.affine @ np.c_[index[:, ::-1], np.ones(3)].T).T[:, :3]
    np.testing.assert_allclose(scan.grid.to_lps(index), ras * (-1, -1, 1), atol=1e-3)


@pytest.mark.parametrize("padding", [-1024, -2000, -2048, -3024])
@pytest.mark.parametrize(
    ("shift", "words"), [(-1024, "applied twice"), (-1000, "applied twice"), (1024, "without rescale")]
)
@pytest.mark.parametrize(
    "part", [np.s_[:], np.s_[:30], np.s_[:, 150:300, 150:300]], ids=["all", "low", "inner"]
)
def test_real_ct__shifted_scales_are_recognised(
    scan: Volume, padding: int, shift: int, words: str, part: tuple[slice, ...]
) -> None:
    """Whole, its lowest 7.5 cm (little lung), and from within the chest; with the padding that scanners write."""
    assert scan.valid is not None
    stored = np.where(scan.valid, scan.hu, padding)[part][::2, ::4, ::4].astype(np.float32)
    assert np.abs(hounsfield(stored.copy(), None, "scan").hu - stored).max() <= padding * -1 - 1000
    with pytest.raises(DataError, match=words):
        hounsfield(stored + shift, None, "scan")
