"""Overlap, pointing and reliability against independent implementations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, jaccard_score

from glint.eval import metrics


def random_pair(seed: int, shape: tuple[int, int] = (23, 31)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < rng.uniform(0.02, 0.6)
    values = np.clip(rng.normal(0.3 + 0.3 * mask, 0.25), 0, 1).astype(np.float32)
    return values, mask


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_overlap__equals_scikit_learn_at_every_threshold(seed: int) -> None:
    values, mask = random_pair(seed)
    found = metrics.overlap(values, mask)
    for index in (0, 24, metrics.FIXED, 73, 98):
        predicted = values > np.float32(metrics.THRESHOLDS[index])
        expected = f1_score(mask.ravel(), predicted.ravel(), zero_division=np.nan)
        assert found.dice[index] == pytest.approx(expected, nan_ok=True)
        expected = jaccard_score(mask.ravel(), predicted.ravel(), zero_division=0)
        assert found.iou[index] == pytest.approx(expected)


def test_overlap__equals_monai() -> None:
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    for seed in range(5):
        values, mask = random_pair(seed)
        shape = (1, 1, *mask.shape)
        predicted, truth = (torch.from_numpy(m).reshape(shape).float() for m in (values > 0.5, mask))
        found = metrics.overlap(values, mask)
        assert found.dice[metrics.FIXED] == pytest.approx(
            monai.compute_dice(predicted, truth).item(), abs=1e-6
        )
        assert found.iou[metrics.FIXED] == pytest.approx(monai.compute_iou(predicted, truth).item(), abs=1e-6)


def test_overlap__threshold_is_exclusive() -> None:
    values = np.array([[0.5, np.nextafter(np.float32(0.5), np.float32(1))]], dtype=np.float32)
    mask = np.array([[False, True]])
    assert metrics.overlap(values, mask).dice[metrics.FIXED] == 1.0


def test_biovil_miou__does_not_depend_on_scale_and_offset() -> None:
    values, mask = random_pair(1)
    stretched = metrics.normalised(values)
    expected = np.mean(
        [jaccard_score(mask.ravel(), (stretched > t).ravel()) for t in (0.1, 0.2, 0.3, 0.4, 0.5)]
    )
    assert metrics.biovil_miou(values, mask) == pytest.approx(expected, abs=0.01)
    assert metrics.biovil_miou(values * 0.25 + 0.5, mask) == pytest.approx(expected, abs=0.01)
    assert metrics.biovil_miou(np.full_like(values, 0.7), mask) == 0.0


def test_hit__tolerance_is_a_distance() -> None:
    mask = np.zeros((40, 40), dtype=bool)
    mask[10:15, 20:25] = True
    assert metrics.hit((12, 22), mask)
    assert not metrics.hit((12, 28), mask)
    assert metrics.hit((12, 28), mask, 4.0)
    assert not metrics.hit((18, 28), mask, 5.6)  # 4 down and 4 right of the corner: 5.66
    assert metrics.hit((18, 28), mask, 5.7)
    assert not metrics.hit((0, 0), mask, 8)


@given(st.integers(0, 10_000), st.floats(0.5, 9))
def test_hit__equals_distance_transform(seed: int, tolerance: float) -> None:
    from scipy.ndimage import distance_transform_edt

    rng = np.random.default_rng(seed)
    mask = rng.random((20, 25)) < 0.03
    mask[0, 0] = True
    point = (int(rng.integers(20)), int(rng.integers(25)))
    distance = distance_transform_edt(~mask)[point]
    if abs(distance - tolerance) > 1e-9:
        assert metrics.hit(point, mask, tolerance) == (distance <= tolerance)


def test_peak__is_row_and_column() -> None:
    values = np.zeros((4, 6), dtype=np.float32)
    values[1, 5] = 1
    assert metrics.peak(values) == (1, 5)


def test_soft_iou__is_iou_for_masks() -> None:
    one, two = np.array([[1.0, 1, 0, 0]], np.float32), np.array([[0.0, 1, 1, 0]], np.float32)
    assert metrics.soft_iou(one, two)[0] == pytest.approx(1 / 3)
    assert metrics.soft_iou(one, one)[0] == 1
    assert metrics.soft_iou(one * 0, one * 0)[0] == 0


def test_reliability__of_true_probabilities_is_good_and_of_shifted_ones_is_not() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(20_000)
    label = rng.random(20_000) < scores
    assert metrics.reliability(scores, label).ece < 0.02
    assert metrics.reliability(np.clip(scores + 0.3, 0, 1), label).ece > 0.15
    assert sum(metrics.reliability(scores, label).counts) == 20_000
