"""Which cases count for which number, and that thresholds come from validation."""

import numpy as np
import pytest

from glint.eval import metrics
from glint.eval.measure import Answers, Measurement
from glint.eval.summary import Thresholds, best, class_metrics, mean_dice, tune

KINDS = ("nodule", "mass")
T = len(metrics.THRESHOLDS)


def measurement(present: np.ndarray, scores: np.ndarray, denials: np.ndarray, peak_at: float) -> Measurement:
    """Two kinds; Dice of every finding is highest at threshold `peak_at`."""
    shape = present.shape
    curve = 1 - np.abs(metrics.THRESHOLDS - peak_at)
    dice = np.where(present[:, :, None], curve, np.nan)
    local = np.where(present, 0.5, np.nan)
    everywhere = np.full(shape, 0.1)
    answers = Answers(
        scores[:, :, None],
        denials[:, :, None],
        pointing=local,
        pointing_near=local,
        pointing_smooth=local,
        dice=dice,
        iou_fixed=local,
        iou_biovil=local,
        open_fraction=everywhere,
        area=everywhere,
        overlap_others=everywhere,
    )
    return Measurement(KINDS, present, {"train": answers}, {})


PRESENT = np.array([[True, False], [True, True], [False, False], [False, True]])
SCORES = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.2], [0.1, 0.9]])


def test_tune__takes_the_best_threshold_of_validation() -> None:
    found = tune(measurement(PRESENT, SCORES, 1 - SCORES, 0.3))
    assert metrics.THRESHOLDS[found.common] == pytest.approx(0.3)
    assert metrics.THRESHOLDS[found.per_kind] == pytest.approx([0.3, 0.3])


def test_tune__kind_without_validation_case_uses_the_common_threshold() -> None:
    only_nodules = PRESENT & np.array([True, False])
    found = tune(measurement(only_nodules, SCORES, 1 - SCORES, 0.7))
    assert found.per_kind.tolist() == [found.common] * 2


def test_class_metrics__threshold_of_validation_is_not_the_oracle() -> None:
    test = measurement(PRESENT, SCORES, 1 - SCORES, 0.8)
    found = class_metrics(test, "train", np.ones((1, 4)), Thresholds(29, np.array([29, 79])))
    assert found["dice_val"][0] == pytest.approx([0.5, 0.5])
    assert found["dice_val_per_finding"][0] == pytest.approx([0.5, 1.0])
    assert found["dice_oracle"][0] == pytest.approx([1.0, 1.0])
    assert found["dice_fixed"][0] == pytest.approx([0.7, 0.7])


def test_class_metrics__auroc_and_contradiction() -> None:
    test = measurement(PRESENT, SCORES, 1 - SCORES, 0.5)
    found = class_metrics(test, "train", np.ones((1, 4)), Thresholds(49, np.array([49, 49])))
    assert found["auroc"][0] == pytest.approx([0.75, 1.0])  # nodule: 0.2 loses against 0.3, wins against 0.1
    assert found["contradiction"][0] == pytest.approx([0.5, 1.0])  # nodule: 0.1 < 0.9 but not 0.8 < 0.2


def test_class_metrics__equal_scores_are_no_contradiction_found() -> None:
    test = measurement(PRESENT, SCORES, SCORES, 0.5)
    found = class_metrics(test, "train", np.ones((1, 4)), Thresholds(49, np.array([49, 49])))
    assert found["contradiction"][0] == pytest.approx([0.0, 0.0])


def test_class_metrics__findings_that_do_not_count_are_neither_positive_nor_negative() -> None:
    test = measurement(PRESENT, SCORES, 1 - SCORES, 0.5)
    counted = np.array([[True, False], [False, True], [False, False], [False, False]])
    found = class_metrics(test, "train", np.ones((1, 4)), Thresholds(49, np.array([49, 49])), counted)
    assert found["auroc"][0] == pytest.approx([1.0, 1.0])  # the nodule that scored 0.2 is left out
    assert found["contradiction"][0] == pytest.approx([1.0, 1.0])


def test_best__is_macro_over_kinds_that_are_there() -> None:
    curves = np.full((3, T), np.nan)
    curves[0] = 1 - np.abs(metrics.THRESHOLDS - 0.4)
    assert metrics.THRESHOLDS[best(curves)] == pytest.approx(0.4)
    assert best(np.full((2, T), np.nan)) == metrics.FIXED
    assert mean_dice(np.full((4, 2, T), np.nan)).shape == (2, T)
