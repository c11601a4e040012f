"""Padding becomes air; what is no CT in HU says what it looks like."""

import numpy as np
import pytest
from numpy.typing import NDArray

from glint.errors import DataError
from glint.io.hounsfield import hounsfield

Scan = NDArray[np.int16]


def check(values: NDArray[np.generic], add_hu: float = 0.0) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    found = hounsfield(values.astype(np.float32), None, "scan.nii", add_hu)
    return found.hu, found.notes


def with_padding(scan: Scan, value: int) -> tuple[Scan, NDArray[np.bool_]]:
    """Return the scan with padding outside of a circle, as reconstructions have it."""
    _, y, x = np.meshgrid(*[np.linspace(-1, 1, side) for side in scan.shape], indexing="ij")
    outside = x**2 + y**2 > 1
    return np.where(outside, value, scan).astype(np.int16), outside


def test_hounsfield__leaves_a_ct_alone(scan: Scan) -> None:
    found = hounsfield(scan.astype(np.float32), None, "scan.nii")
    assert (found.hu == scan).all()
    assert found.valid is None
    assert found.notes == ()


@pytest.mark.parametrize("value", [-2000, -2048, -3024, -32768])
def test_hounsfield__padding_is_air_and_not_valid(scan: Scan, value: int) -> None:
    padded, outside = with_padding(scan, value)
    found = hounsfield(padded.astype(np.float32), None, "scan.nii")
    assert found.valid is not None
    assert (found.valid == ~outside).all()
    assert (found.hu[outside] == -1000).all()
    assert (found.hu[~outside] == scan[~outside]).all()
    assert "padding" in found.notes[0]


def test_hounsfield__padding_of_the_header_adds_to_that_of_the_values(scan: Scan) -> None:
    padded, outside = with_padding(scan, -2048)
    told = np.ones(scan.shape, dtype=bool)
    told[0] = False
    found = hounsfield(padded.astype(np.float32), told, "scan.nii")
    assert found.valid is not None
    assert (found.valid == (~outside & told)).all()
    assert (found.hu[0] == -1000).all()


@pytest.mark.parametrize("padding", [None, -2048, -3024])
def test_hounsfield__rescale_applied_twice_is_recognised(scan: Scan, padding: int | None) -> None:
    """What happens to data that are HU already when slope and intercept of the metadata are applied again."""
    stored = scan if padding is None else with_padding(scan, padding)[0]
    twice = stored.astype(np.int32) - 1024
    with pytest.raises(DataError, match="applied twice") as caught:
        check(twice)
    assert "add_hu=1024" in caught.value.fix
    right, notes = check(twice, add_hu=1024)
    assert (right[scan > -900] == scan[scan > -900]).mean() > 0.85
    assert notes[0] == "+1024 HU were added on request"


def test_hounsfield__missing_rescale_is_recognised(scan: Scan) -> None:
    with pytest.raises(DataError, match="without rescale") as caught:
        check(scan.astype(np.int32) + 1024)
    assert "add_hu=-1024" in caught.value.fix
    assert (check(scan.astype(np.int32) + 1024, add_hu=-1024)[0] == scan).all()


def unit(scan: Scan) -> NDArray[np.float64]:
    return (scan + 1024.0) / 2500


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda scan: unit(scan), r"scaled to \[0, 1\]"),
        (lambda scan: 2 * unit(scan) - 1, r"scaled to"),
        (lambda scan: np.rint(unit(scan) * 255), "grey levels"),
        (lambda scan: (scan > 0) * 3, "labels"),
        (lambda scan: unit(scan) * 60, "grey levels"),
        (lambda scan: (unit(scan) - 0.3) * 8, "no CT"),
        (lambda scan: np.abs(np.random.default_rng(0).normal(300, 200, scan.shape)), "no CT"),  # MR
        (lambda scan: scan * 0, "constant"),
        (lambda scan: scan * 0 - 2048, "constant"),
        (lambda scan: scan.astype(float) - 8192, "rescale is wrong"),
        (lambda scan: np.random.default_rng(0).normal(-1000, 20, scan.shape), "nothing but air"),
        (lambda scan: np.where(scan == scan.max(), np.nan, scan), "NaN"),
        (lambda scan: np.where(scan == scan.max(), np.inf, scan), "NaN or infinite"),
    ],
)
def test_hounsfield__what_is_no_ct_says_what_it_looks_like(scan: Scan, make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(DataError, match=words) as caught:
        check(np.asarray(make(scan)))
    assert caught.value.where == "scan.nii"


def test_hounsfield__a_clipped_or_noisy_or_contrasted_ct_is_a_ct(scan: Scan) -> None:
    rng = np.random.default_rng(0)
    for usable in (
        np.clip(scan, -1000, 400),
        scan + rng.normal(0, 150, scan.shape),  # very noisy
        np.where(scan > 300, 3071, scan),
        np.where((scan > 0) & (rng.random(scan.shape) < 0.3), 300, scan),
        scan[:, 5:20, 6:26],  # a crop inside of the body
        np.where(scan > -500, 40, -1000),  # without noise, without lungs
    ):
        assert check(usable)[0].shape == usable.shape
