"""The whole model: text cache, prediction, saving and loading."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from glint.config.schema import AlignConfig, DataConfig, GlintConfig, TextConfig, VisionConfig
from glint.errors import GlintError, UsageError, WeightsError
from glint.model.folder import load_model, save_calibration, save_model
from glint.model.glint import GlintModel, pool_valid
from glint.model.text import TextEncoder
from glint.ops.spread import find_links, spread_all

CFG = GlintConfig(
    data=DataConfig(size_px=64),
    vision=VisionConfig(
        name="convnet", arch={"widths": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "neck_width": 32}
    ),
    align=AlignConfig(dim=16, gate_dim=16),
)
QUERIES = ["There is a pleural effusion.", "No pleural effusion.", "Left upper lobe mass."]


@pytest.fixture(scope="module")
def model() -> GlintModel:
    torch.manual_seed(0)
    return GlintModel(CFG).eval()


def test_predict__does_not_depend_on_the_other_queries(model: GlintModel) -> None:
    images = torch.rand(2, 1, 64, 64)
    every = model.predict(images, None, QUERIES)
    one = model.predict(images, None, QUERIES[1:2])
    assert every.grid == (8, 8)
    assert every.maps_SBP.shape == (3, 2, 64)
    torch.testing.assert_close(every.scores_SB[1:2], one.scores_SB)
    assert float(every.scores_SB.min()) >= 0
    assert float(every.scores_SB.max()) <= 1


def test_predict__maps_and_evidence_spread_over_what_looks_alike_and_scores_do_not(model: GlintModel) -> None:
    wide = GlintModel(CFG.model_copy(update={"align": CFG.align.model_copy(update={"spread": 20})}))
    wide.load_state_dict(model.state_dict())
    images, valid = torch.rand(2, 1, 64, 64), torch.rand(2, 64) > 0.2
    plain, found = (each.predict(images, valid, QUERIES) for each in (model, wide))
    torch.testing.assert_close(found.scores_SB, plain.scores_SB)
    links = find_links(images, valid, (8, 8))
    torch.testing.assert_close(found.maps_SBP, spread_all(plain.maps_SBP, links, 20))
    torch.testing.assert_close(found.evidence_SBP, spread_all(plain.evidence_SBP, links, 20))
    assert not torch.equal(found.maps_SBP, plain.maps_SBP)


def test_predict__a_denial_that_rules_read_scores_one_minus_what_it_denies() -> None:
    torch.manual_seed(0)
    text = CFG.text.model_copy(update={"negation": "rules"})
    ruled = GlintModel(CFG.model_copy(update={"text": text})).eval()
    queries = ["Pleural effusion.", "No pleural effusion.", "Negative for pleural effusion.", "Normal heart."]
    queries += ["Positive for pleural effusion."]
    found = ruled.predict(torch.rand(2, 1, 64, 64), None, queries)
    claim, denial, other, normal, positive = found.scores_SB
    torch.testing.assert_close(denial, 1 - claim)
    torch.testing.assert_close(other, 1 - positive)
    assert not torch.allclose(normal, 1 - claim), "a statement of normality is a sentence of its own"
    assert torch.equal(found.maps_SBP[0], found.maps_SBP[1]), "the map shows where it would be"


def test_save_model__round_trip_is_exact(model: GlintModel, tmp_path: Path) -> None:
    save_model(model, tmp_path, "# card\n")
    again = load_model(tmp_path)
    images = torch.rand(1, 1, 64, 64)
    assert torch.equal(
        model.predict(images, None, QUERIES).maps_SBP, again.predict(images, None, QUERIES).maps_SBP
    )


def test_save_calibration__shifts_scores_and_maps_and_nothing_else(model: GlintModel, tmp_path: Path) -> None:
    save_model(model, tmp_path, "# card\n")
    images = torch.rand(1, 1, 64, 64)
    before = model.predict(images, None, QUERIES)
    save_calibration(tmp_path, 2.0, 0.5, 0.2)
    again = load_model(tmp_path)
    assert again.calibration.tolist() == [2.0, 0.5]
    after = again.predict(images, None, QUERIES)
    assert torch.equal(after.evidence_SBP, before.evidence_SBP)
    shift = torch.tensor(0.2).logit()
    torch.testing.assert_close(after.maps_SBP.logit(), before.maps_SBP.logit() - shift, atol=1e-4, rtol=1e-4)


def test_load_model__of_a_time_without_mask_threshold(model: GlintModel, tmp_path: Path) -> None:
    save_model(model, tmp_path, "# card\n")
    weights = tmp_path / "model.safetensors"
    save_file({k: v for k, v in load_file(weights).items() if k != "mask_threshold"}, weights)
    assert float(load_model(tmp_path).mask_threshold) == 0.5


def test_load_model__unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UsageError, match="no model 'glimt'"):
        load_model("glimt")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("model.safetensors", b"not weights", "damaged"),
        ("model.safetensors", None, "incomplete"),
        ("glint.json", b"{]", "cannot be read"),
        ("glint.json", json.dumps({"schema_version": 1, "colour": "red"}).encode(), "colour"),
    ],
)
def test_load_model__damaged_folder(
    model: GlintModel, tmp_path: Path, file: str, content: bytes | None, words: str
) -> None:
    save_model(model, tmp_path, "")
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(GlintError, match=words):
        load_model(tmp_path)


def test_load_model__truncated_weights_are_refused(model: GlintModel, tmp_path: Path) -> None:
    save_model(model, tmp_path, "")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="damaged"):
        load_model(tmp_path)


def test_text_encoder__cache_file_gives_the_same_vectors(tmp_path: Path) -> None:
    first, second = TextEncoder(TextConfig()), TextEncoder(TextConfig())
    file = tmp_path / "cache.safetensors"
    told = list[tuple[int, int]]()
    first.prime(QUERIES, file, batch=2, tell=lambda done, total: told.append((done, total)))
    assert told == [(min(2 * n, len(QUERIES)), len(QUERIES)) for n in range(1, len(told) + 1)]
    assert told[-1][0] == len(QUERIES)
    second.prime(QUERIES, file, tell=lambda done, total: pytest.fail("encoded again"))
    assert torch.equal(first.encode(QUERIES), second.encode(QUERIES))
    assert not any(name.startswith("net") for name in first.state_dict())


def test_text_encoder__unknown_model_is_named() -> None:
    with pytest.raises(WeightsError, match="could not be loaded"):
        TextEncoder(TextConfig(name="/nowhere/bert"))


def test_pool_valid__patch_counts_when_any_pixel_does() -> None:
    valid = torch.zeros(1, 16, 16, dtype=torch.bool)
    valid[0, 3:, :5] = True
    assert pool_valid(valid, (8, 8)).reshape(2, 2).tolist() == [[True, False], [True, False]]
