"""The bootstrap: whole patients, honest coverage, honest p-values, areas equal to scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from glint.eval import stats


def patients(number: int, each: int) -> list[str]:
    return [f"p{i // each}" for i in range(number * each)]


def test_bootstrap_weights__keep_patients_together() -> None:
    weights = stats.bootstrap_weights(patients(30, 4), 200, seed=3)
    assert weights.shape == (201, 120)
    assert (weights[0] == 1).all()
    by_patient = weights.reshape(201, 30, 4)
    assert (by_patient == by_patient[:, :, :1]).all()
    assert (by_patient[:, :, 0].sum(1) == 30).all()
    assert weights[1:].std() > 0.5


def test_bootstrap_weights__same_seed_same_draws() -> None:
    one, two, other = (stats.bootstrap_weights(patients(9, 2), 50, seed) for seed in (1, 1, 2))
    assert (one == two).all()
    assert (one != other).any()


@pytest.mark.parametrize("decimals", [1, 6])
def test_auroc__equals_scikit_learn(decimals: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        label = rng.random(80) < 0.3
        scores = np.round(rng.normal(label * 0.7, 1), decimals)  # one decimal: many ties
        weights = rng.integers(0, 4, (7, 80)).astype(float)
        expected = [roc_auc_score(label, scores, sample_weight=row) for row in weights]
        np.testing.assert_allclose(stats.auroc(weights, scores, label), expected, atol=1e-12)


def test_auroc__without_positives_is_unknown() -> None:
    areas = stats.auroc(np.array([[1.0, 1.0], [1.0, 0.0]]), np.array([0.1, 0.9]), np.array([False, True]))
    assert areas[0] == 1.0
    assert np.isnan(areas[1])


def test_auroc_per_kind__averages_areas_of_phrasings_and_not_scores() -> None:
    label = np.array([[True], [False], [False]])
    good, bad = np.array([0.9, 0.2, 0.1]), np.array([0.0, 5.0, 6.0])
    scores = np.stack([good, bad, np.full(3, np.nan)], axis=1)[:, None, :]
    assert stats.auroc_per_kind(np.ones((1, 3)), scores, label)[0, 0] == 0.5


def test_weighted_mean__ignores_unknown_values() -> None:
    weights = np.array([[1.0, 1, 1], [2, 0, 5], [0, 1, 0]])
    values = np.array([[1.0, np.nan], [4.0, np.nan], [np.nan, np.nan]])
    means = stats.weighted_mean(weights, values)
    np.testing.assert_allclose(means[:, 0], [2.5, 1.0, 4.0])
    assert np.isnan(means[:, 1]).all()


def test_macro__averages_known_kinds() -> None:
    np.testing.assert_allclose(stats.macro(np.array([[1.0, np.nan, 0.5], [np.nan] * 3])), [0.75, np.nan])


def clustered(rng: np.random.Generator, number: int, each: int) -> np.ndarray:
    """Values of studies that share a patient effect; the true mean is 0."""
    return (rng.normal(size=(number, 1)) + 0.5 * rng.normal(size=(number, each))).ravel()


def test_interval__covers_the_truth_in_95_percent_of_clustered_samples() -> None:
    rng, number, each = np.random.default_rng(0), 60, 4
    names = patients(number, each)
    covered = covered_by_study = 0
    for trial in range(200):
        values = clustered(rng, number, each)[:, None]
        for owner, is_patient in ((names, True), ([str(i) for i in range(len(names))], False)):
            weights = stats.bootstrap_weights(owner, 200, seed=trial)
            found = stats.interval(stats.weighted_mean(weights, values)[:, 0])
            inside = found.low <= 0 <= found.high
            covered += inside and is_patient
            covered_by_study += inside and not is_patient
    assert 0.90 <= covered / 200 <= 0.98
    assert covered_by_study / 200 < 0.85  # why patients must be resampled, not studies


def test_difference__rejects_5_percent_under_the_null_and_sees_a_real_one() -> None:
    rng, names = np.random.default_rng(1), patients(40, 2)
    null, real = [], []
    for trial in range(200):
        shared = clustered(rng, 40, 2)
        one, two = (shared + 0.3 * clustered(rng, 40, 2) for _ in range(2))
        weights = stats.bootstrap_weights(names, 200, seed=trial)
        means = [stats.weighted_mean(weights, v[:, None])[:, 0] for v in (one, two, two + 0.3)]
        null.append(stats.difference(means[0], means[1]).p)
        real.append(stats.difference(means[2], means[0]).p)
    assert 0.02 <= np.mean(np.array(null) < 0.05) <= 0.10
    assert 0.4 <= np.mean(np.array(null) < 0.5) <= 0.6
    assert np.mean(np.array(real) < 0.05) > 0.9


def test_difference__of_a_model_with_itself_is_nothing() -> None:
    values = np.random.default_rng(0).normal(size=101)
    found = stats.difference(values, values)
    assert (found.interval.value, found.interval.low, found.interval.high, found.p) == (0, 0, 0, 1)


def test_interval__to_dict_has_no_nan() -> None:
    assert stats.interval(np.array([0.5])).to_dict() == {"value": 0.5, "low": None, "high": None}
