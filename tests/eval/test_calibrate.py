"""Platt scaling from matched and unmatched pairs."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from glint.errors import DataError
from glint.eval.calibrate import Pairs, calibrate, platt


def test_platt__equals_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    label = rng.random((30, 40)) < 0.1
    scores = rng.normal(0.2 + 0.1 * label, 0.1)
    scale, offset = platt(Pairs(scores, label))
    fit = LogisticRegression(C=1e6, class_weight="balanced", tol=1e-8).fit(
        scores.reshape(-1, 1), label.ravel()
    )
    assert scale == pytest.approx(float(fit.coef_[0, 0]), rel=0.01)
    assert offset == pytest.approx(float(fit.intercept_[0]), rel=0.01)


def test_platt__separable_scores_stay_finite_and_ordered() -> None:
    label = np.eye(20, dtype=bool)
    scale, offset = platt(Pairs(np.where(label, 0.8, 0.1), label))
    assert np.isfinite([scale, offset]).all()
    assert 1 / (1 + np.exp(-(0.8 * scale + offset))) > 0.9
    assert 1 / (1 + np.exp(-(0.1 * scale + offset))) < 0.1


def test_calibrate__too_few_studies_is_an_error(own_manifest: Path, tmp_path: Path, tiny_cfg) -> None:
    from glint.model.folder import save_model
    from glint.model.glint import GlintModel

    save_model(GlintModel(tiny_cfg), tmp_path / "model", "card")
    with pytest.raises(DataError, match="too few"):
        calibrate(tmp_path / "model", own_manifest.parent)


def test_calibrate__writes_into_the_model_folder_without_truth(
    truth_folder: Path,
    tmp_path: Path,
    tiny_cfg,
) -> None:
    from glint.model.folder import load_model, save_model
    from glint.model.glint import GlintModel

    data = tmp_path / "data"
    data.mkdir()
    for name in ("manifest.parquet", "images", "reports"):  # no truth.parquet, no masks
        (data / name).symlink_to(truth_folder / name)
    save_model(GlintModel(tiny_cfg), tmp_path / "model", "card")
    scale, offset = calibrate(tmp_path / "model", data)
    assert load_model(tmp_path / "model").calibration.tolist() == pytest.approx([scale, offset])
