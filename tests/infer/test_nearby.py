"""The score of the best place of a scan, by hand and by what it must not depend on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glint.infer.nearby import NEAR_PATCHES, REACH, best_place, sum_nearby

NULL = np.array([-0.1], dtype=np.float32)


@settings(max_examples=20, deadline=None)
@given(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 12)), st.integers(0, 2**31))
def test_sum_nearby__equals_the_sum_over_all_pairs_in_reach(shape: tuple[int, int, int], seed: int) -> None:
    maps = np.random.default_rng(seed).random((2, *shape), dtype=np.float32)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    apart = np.abs(places[:, None] - places)
    near = np.exp(-(apart**2).sum(-1) / (2 * NEAR_PATCHES**2)) * (apart.max(-1) <= REACH)
    expected = maps.reshape(2, -1) @ near
    np.testing.assert_allclose(sum_nearby(maps).reshape(2, -1), expected, rtol=1e-5)


def scan(*open_at: tuple[int, int, int], side: int = 9, leak: float = 0.0) -> np.ndarray:
    gate = np.full((1, side, side, side), leak, dtype=np.float32)
    for place in open_at:
        gate[0][place] = 1
    return gate


def score(gate: np.ndarray, cosine: float | np.ndarray = 0.5, valid: np.ndarray | None = None) -> float:
    valid = np.ones(gate.shape[1:], dtype=bool) if valid is None else valid
    return float(best_place(gate, gate * cosine, NULL, 2.0, valid)[0])


def test_best_place__one_open_patch_and_none() -> None:
    assert score(scan()) == pytest.approx(-0.1)
    assert score(scan((4, 4, 4))) == pytest.approx((0.5 - 0.1 * 2) / 3)


def test_best_place__is_not_drowned_by_what_is_open_far_away() -> None:
    small, elsewhere = (2, 2, 2), np.s_[0, 20:, 20:, 20:]
    gate = scan(small, side=30)
    cosine = np.full(gate.shape, 0.5, dtype=np.float32)
    alone = score(gate, cosine)
    gate[elsewhere], cosine[elsewhere] = 1, 0.0
    assert score(gate, cosine) == pytest.approx(alone, abs=1e-6)
    assert (gate * cosine).sum() / (2 + gate.sum()) < 0.01  # what a mean over all patches makes of it


def test_best_place__padding_is_no_place_and_a_wider_scan_changes_nothing() -> None:
    gate = scan((1, 1, 1), side=12)
    valid = np.ones(gate.shape[1:], dtype=bool)
    valid[:6] = False
    assert score(gate, valid=valid) < score(gate)
    wider = np.pad(gate, ((0, 0), (0, 7), (0, 7), (0, 7)))
    assert score(wider) == pytest.approx(score(gate))
