"""Training that goes on from a saved model."""

import shutil
from pathlib import Path

import pytest
import torch

from glint.config.schema import GlintConfig
from glint.errors import UsageError, WeightsError
from glint.model.folder import load_model, save_calibration, save_model
from glint.model.glint import GlintModel
from glint.train.loop import train
from glint.train.start import load_start, resolve_start

ARCH = {"widths": [8, 8, 16], "depths": [0, 0, 1]}


def recipe(manifest: Path, out: Path, **train_settings: object) -> GlintConfig:
    settings = {"steps": 2, "batch_size": 4, "out": str(out), "val_every": 0, "save_every": 0}
    return GlintConfig.model_validate(
        {"data": {"manifest": str(manifest), "size_px": 64}, "train": settings | train_settings}
    )


@pytest.fixture(scope="module")
def first(pairs_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cfg = recipe(pairs_manifest, tmp_path_factory.mktemp("first") / "run")
    changed = {
        "vision": cfg.vision.model_copy(update={"name": "convnet", "arch": ARCH}),
        "align": cfg.align.model_copy(update={"dim": 16, "gate_dim": 24, "pool": "null_token"}),
        "loss": cfg.loss.model_copy(update={"dfr": 0.0}),
        "text": cfg.text.model_copy(update={"whiten": 0.03, "adapter_hidden": 16}),
    }
    return train(cfg.model_copy(update=changed))


def test_start__goes_on_with_all_weights_and_shapes_of_the_model(
    first: Path, pairs_manifest: Path, tmp_path: Path
) -> None:
    # So small a rate that the weights are those of the start; the recipe knows nothing of the model's encoder.
    cfg = recipe(pairs_manifest, tmp_path / "run", start=str(first))
    slow = cfg.optim.model_copy(update={"lr": 1e-12, "vision_lr": 1e-12, "weight_decay": 0.0})
    second = load_model(train(cfg.model_copy(update={"optim": slow})))
    before = load_model(first)
    assert second.cfg.vision.name == "convnet"
    assert (second.cfg.align.dim, second.cfg.align.pool) == (16, "null_token")
    for (name, ours), theirs in zip(second.named_parameters(), before.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6), name
    ours, theirs = (model.state_dict()["text.whitening.matrix"] for model in (second, before))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("more", "had", "has"), [("context", 0, 1), ("neck_depth", 0, 1), ("depths", (0, 0, 1), (2, 0, 2))]
)
def test_start__an_encoder_given_more_is_the_same_model_until_it_learns(
    more: str, had: object, has: object, first: Path, pairs_manifest: Path, tmp_path: Path
) -> None:
    before = load_model(first)
    cfg = recipe(pairs_manifest, tmp_path / "run", start=str(first))
    wider = cfg.vision.model_copy(update={"arch": {more: has}})
    cfg = resolve_start(cfg.model_copy(update={"vision": wider}))
    torch.manual_seed(0)
    grown = GlintModel(cfg)
    load_start(grown, str(first))
    assert (getattr(grown.vision.arch, more), getattr(before.vision.arch, more)) == (has, had)
    images = torch.rand(2, 1, 64, 64)
    ours, theirs = (model.eval().vision(images).tokens for model in (grown, before))
    assert torch.equal(ours, theirs)
    assert load_model(train(cfg)).vision.arch == grown.vision.arch


def test_start__finer_tokens_are_those_of_the_start_interpolated_until_they_learn(
    first: Path, pairs_manifest: Path, tmp_path: Path
) -> None:
    before = load_model(first)
    cfg = recipe(pairs_manifest, tmp_path / "run", start=str(first))
    finer = cfg.vision.model_copy(update={"arch": {"token_stride": 4}})
    cfg = resolve_start(cfg.model_copy(update={"vision": finer}))
    torch.manual_seed(0)
    grown = GlintModel(cfg)
    load_start(grown, str(first))
    for model in (grown, before):  # so that no token is cut off at zero, which hides what it was made of
        model.vision.laterals[-1][1].bias.data.fill_(100.0)  # pyright: ignore[reportIndexIssue, reportArgumentType]
    images = torch.rand(2, 1, 64, 64)
    ours, theirs = (model.eval().vision(images) for model in (grown, before))
    assert (ours.grid, theirs.grid) == ((16, 16), (8, 8))
    fine, coarse = (x.tokens.transpose(1, 2).reshape(2, -1, *x.grid) for x in (ours, theirs))
    raised = torch.nn.functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(fine, raised)


def test_start__finer_tokens_join_behind_a_neck_that_compares_the_coarser_ones(
    first: Path, pairs_manifest: Path, tmp_path: Path
) -> None:
    cfg = recipe(pairs_manifest, tmp_path / "run", start=str(first))
    with_neck = cfg.vision.model_copy(update={"arch": {"neck_depth": 1}})
    torch.manual_seed(0)
    before = GlintModel(resolve_start(cfg.model_copy(update={"vision": with_neck}))).eval()
    torch.nn.init.ones_(before.vision.neck[0].second[1].weight)  # pyright: ignore[reportIndexIssue, reportArgumentType]
    save_model(before, tmp_path / "before", "card")
    finer = cfg.vision.model_copy(update={"arch": {"token_stride": 4, "neck_stride": 8}})
    started = cfg.train.model_copy(update={"start": str(tmp_path / "before")})
    grown = GlintModel(resolve_start(cfg.model_copy(update={"vision": finer, "train": started}))).eval()
    load_start(grown, str(tmp_path / "before"))
    images = torch.rand(2, 1, 64, 64)
    ours, theirs = (model.vision(images) for model in (grown, before))
    fine, coarse = (x.tokens.transpose(1, 2).reshape(2, -1, *x.grid) for x in (ours, theirs))
    raised = torch.nn.functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(fine, raised)


def test_start__windows_that_the_model_had_not_change_nothing_at_first(
    tiny_ct_cfg: GlintConfig, tmp_path: Path
) -> None:
    volume = tiny_ct_cfg.data.volume
    assert volume is not None

    def with_windows(*windows: tuple[float, float]) -> GlintConfig:
        other = volume.model_copy(update={"windows_hu": windows, "side": True})
        arch = {"mean": (0.5,) * (len(windows) + 1), "std": (0.25,) * (len(windows) + 1)}
        vision = tiny_ct_cfg.vision.model_copy(update={"arch": tiny_ct_cfg.vision.arch | arch})
        data = tiny_ct_cfg.data.model_copy(update={"volume": other})
        return tiny_ct_cfg.model_copy(update={"data": data, "vision": vision})

    full, soft, lung = (-1000.0, 1000.0), (-160.0, 240.0), (-1050.0, -650.0)
    before = GlintModel(with_windows(full, soft))
    save_model(before, tmp_path / "before", "card")
    cfg = with_windows(full, lung, soft)
    started = cfg.train.model_copy(update={"start": str(tmp_path / "before")})
    grown = GlintModel(resolve_start(cfg.model_copy(update={"train": started})))
    load_start(grown, str(tmp_path / "before"))
    images = torch.rand(1, 4, *volume.crop)  # the second channel is new
    ours = grown.eval().vision(images).tokens
    assert torch.equal(ours, grown.vision(images + torch.tensor([0, 0.3, 0, 0]).view(1, 4, 1, 1, 1)).tokens)
    theirs = before.eval().vision(images[:, [0, 2, 3]]).tokens
    assert torch.allclose(ours, theirs, atol=1e-5)
    moved = GlintModel(
        with_windows(full, lung)
    )  # as many, with other limits: the weights are those of before
    load_start(moved, str(tmp_path / "before"))
    assert torch.equal(moved.eval().vision(images[:, [0, 2, 3]]).tokens, theirs)
    with pytest.raises(WeightsError, match="other shape"):
        load_start(GlintModel(with_windows(full, lung, (-1.0, 1.0))), str(tmp_path / "before"))


def test_start__forgets_where_masks_of_the_model_ended(first: Path, tmp_path: Path) -> None:
    shutil.copytree(first, tmp_path / "calibrated")
    save_calibration(tmp_path / "calibrated", 2.0, 0.5, 0.2)
    model = load_model(tmp_path / "calibrated")
    assert float(model.mask_threshold) == pytest.approx(0.2)
    load_start(model, str(tmp_path / "calibrated"))
    assert float(model.mask_threshold) == 0.5


def test_start__other_widths_are_refused(first: Path, pairs_manifest: Path, tmp_path: Path) -> None:
    cfg = recipe(pairs_manifest, tmp_path / "run", start=str(first))
    other = cfg.vision.model_copy(update={"arch": {"widths": [8, 8, 32]}})
    with pytest.raises(WeightsError, match="other shape"):
        train(cfg.model_copy(update={"vision": other}))


def test_start__an_unknown_model_is_refused(pairs_manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no model 'nowhere'"):
        train(recipe(pairs_manifest, tmp_path / "run", start="nowhere"))
    assert not (tmp_path / "run").exists()
