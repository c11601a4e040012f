"""Platt scaling from matched and unmatched pairs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from glint.config.schema import GlintConfig
from glint.data.manifest import Study, read_manifest
from glint.errors import DataError
from glint.eval.calibrate import (
    MASK_THRESHOLDS,
    Pairs,
    affirmed,
    affirmed_pairs,
    best_threshold,
    calibrate,
    platt,
    score_pairs,
)
from glint.losses.pairs import said_otherwise
from glint.model.align import Alignment
from glint.model.folder import load_model, save_model
from glint.model.glint import GlintModel
from glint.model.masks import mask_scores


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
    save_model(GlintModel(tiny_cfg), tmp_path / "model", "card")
    with pytest.raises(DataError, match="too few"):
        calibrate(tmp_path / "model", own_manifest.parent)


def test_calibrate__writes_into_the_model_folder_without_truth(
    truth_folder: Path,
    tmp_path: Path,
    tiny_cfg,
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("manifest.parquet", "images", "reports"):  # no truth.parquet, no masks
        (data / name).symlink_to(truth_folder / name)
    save_model(GlintModel(tiny_cfg), tmp_path / "model", "card")
    found = calibrate(tmp_path / "model", data)
    model = load_model(tmp_path / "model")
    assert model.calibration.tolist() == pytest.approx([found.scale, found.offset])
    assert float(model.mask_threshold) == pytest.approx(found.mask_threshold)
    assert (
        calibrate(tmp_path / "model", data) == found
    )  # of maps as the alignment makes them, not of recentred ones


def test_best_threshold__is_where_masks_hold_the_finding_and_nothing_else() -> None:
    # Where a sentence belongs, ten patches have a map of 0.3 and cosines of 0.8. Around them, and in any image, the
    # map is 0.12 and the cosines are anything: they tell nothing of the sentence.
    rng = torch.Generator().manual_seed(0)
    maps = torch.full((8, 8, 40), 0.12)
    cosine = (torch.rand(8, 8, 1, generator=rng) * 2 - 1).repeat(1, 1, 40)
    for s in range(8):
        maps[s, s, :10], cosine[s, s, :10] = 0.3, 0.8
    scores = mask_scores(
        Alignment(maps.new_zeros(8, 8), maps, cosine, maps),
        torch.zeros(8),
        4.0,
        torch.tensor(MASK_THRESHOLDS),
    )
    assert 0.12 <= best_threshold(scores.double().numpy(), np.eye(8, dtype=bool)) < 0.3


def test_best_threshold__is_the_middle_of_those_that_tell_as_much() -> None:
    matched = np.eye(20, dtype=bool)
    scores = np.random.default_rng(0).random((len(MASK_THRESHOLDS), 20, 20))
    scores[2:7] += 2 * matched  # all of these tell everything, the others nothing
    assert best_threshold(scores, matched) == pytest.approx(MASK_THRESHOLDS[4])


def test_best_threshold__of_maps_that_tell_nothing_is_a_half() -> None:
    alike = np.zeros((len(MASK_THRESHOLDS), 3, 4))
    assert best_threshold(alike, np.eye(3, 4, dtype=bool)) == 0.5
    assert best_threshold(alike, np.ones((3, 4), dtype=bool)) == 0.5  # nothing to tell apart


def test_score_pairs__of_scans(tiny_ct_cfg: GlintConfig, ct_manifest: Path) -> None:
    torch.manual_seed(0)
    studies = read_manifest(ct_manifest, "val")
    model = GlintModel(tiny_ct_cfg).eval()
    texts, matched = affirmed_pairs([affirmed(study) for study in studies])
    whole, masks = score_pairs(model, studies, texts, matched)
    assert masks.scores.shape == (len(MASK_THRESHOLDS), *masks.matched.shape)
    assert np.isfinite(masks.scores).all()
    # Thresholds are of maps before they are recentred: what an earlier calibration found does not matter.
    model.mask_threshold.fill_(0.3)
    again, others = score_pairs(model, studies, texts, matched)
    np.testing.assert_allclose(again.scores, whole.scores)
    np.testing.assert_allclose(others.scores, masks.scores, atol=1e-3)


def test_pairs__what_reports_say_in_other_words_is_not_unmatched(
    tmp_path: Path, tiny_cfg: GlintConfig
) -> None:
    reports = (
        "There is a left pleural effusion.",
        "Left pleural effusion. The left lung is visible.",
        "No pneumothorax.",
    )
    studies: list[Study] = []
    for number, text in enumerate(reports):
        path = tmp_path / f"{number}.txt"
        path.write_text(text)
        studies.append(Study(f"{number}", "val", tmp_path / "image.dcm", path, f"{number}"))
    claims = [affirmed(study) for study in studies]
    texts, matched = affirmed_pairs(claims)
    assert texts == ["Left pleural effusion.", "There is a left pleural effusion."], (
        "sentences that affirm a finding"
    )
    assert matched.tolist() == [[False, True, False], [True, False, False]]
    vectors = GlintModel(tiny_cfg).text.frozen_vectors
    same = said_otherwise(texts, claims, vectors, torch.device("cpu")).numpy()
    assert same.tolist() == [[True, True, False], [True, True, False]]
    left = Pairs(np.arange(6.0).reshape(2, 3), matched).among(matched | ~same)
    assert left.scores.tolist() == [1, 2, 3, 5]
    assert left.matched.tolist() == [True, False, True, False]
