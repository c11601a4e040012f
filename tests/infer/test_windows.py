"""Sliding windows on the token grid: they cover everything, start on patches, and share their votes."""

from itertools import pairwise

import numpy as np
import pytest

from glint.errors import UsageError
from glint.infer.windows import plan_windows


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("shape", [(16, 24, 24), (18, 24, 30), (40, 26, 120), (16, 200, 24)])
def test_plan__covers_every_patch_with_the_overlap_asked_for(
    shape: tuple[int, int, int], overlap: float
) -> None:
    windows = plan_windows(shape, (16, 24, 24), (2, 2, 2), overlap)
    seen = np.zeros(windows.grid, dtype=int)
    for number in range(len(windows.starts)):
        assert seen[windows.box(number)].shape == windows.size
        seen[windows.box(number)] += 1
    assert seen.min() >= 1
    for axis in range(3):
        starts = sorted({start[axis] for start in windows.starts})
        assert all(b - a <= windows.size[axis] * (1 - overlap) for a, b in pairwise(starts))
        assert starts[-1] + windows.size[axis] == windows.grid[axis]


def test_weights__add_up_to_one_in_every_valid_place_and_favour_the_middle() -> None:
    windows = plan_windows((40, 30, 60), (16, 24, 24), (2, 2, 2), 0.5)
    valid = np.random.default_rng(0).random(windows.grid) > 0.2
    weights = windows.weights(valid)
    total = np.bincount(windows.places(), weights, minlength=valid.size).reshape(valid.shape)
    np.testing.assert_allclose(total, valid, atol=1e-6)
    first = windows.weights(np.ones_like(valid))[: np.prod(windows.size)].reshape(windows.size)
    assert first[0, 0, 5] == pytest.approx(1)  # no other window is there
    assert first[4, 0, 5] > first[7, 0, 5] > 0


def test_plan__refuses_an_overlap_that_never_ends() -> None:
    with pytest.raises(UsageError, match="overlap"):
        plan_windows((16, 24, 24), (16, 24, 24), (2, 2, 2), 1.0)
