"""Both stages of training on tiny CT scans, and the models that they leave behind."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from glint.config import GlintConfig, load_config
from glint.config.schema import VisionConfig
from glint.data.dataset import PairDataset, batch_at
from glint.errors import ConfigError
from glint.losses.masked import MaskedPrediction
from glint.model.folder import load_model
from glint.model.glint import pool_valid
from glint.model.vision.registry import build_vision, resolve_vision
from glint.train.loop import train
from glint.train.pretrain import pretrain

VJEPA = VisionConfig(name="vjepa", arch={"width": 48, "depth": 2, "heads": 2, "patch_px": 8, "tubelet": 4})


def changed(cfg: GlintConfig, **sections: dict[str, object]) -> GlintConfig:
    return cfg.model_copy(
        update={name: getattr(cfg, name).model_copy(update=values) for name, values in sections.items()}
    )


def with_vjepa(cfg: GlintConfig, method: str = "jepa") -> GlintConfig:
    """The same data in one window, for a tiny V-JEPA."""
    settings = {"method": method, "predictor_width": 32, "predictor_depth": 1}
    assert cfg.data.volume is not None
    volume = cfg.data.volume.model_copy(update={"windows_hu": ((-1000.0, 600.0),), "side": False})
    return changed(cfg, pretrain=settings, data={"volume": volume}).model_copy(update={"vision": VJEPA})


@pytest.mark.parametrize("encoder", ["convnet3d", "vjepa"])
def test_both_stages__resumed_runs_equal_uninterrupted_ones(
    tiny_ct_cfg: GlintConfig, tmp_path: Path, encoder: str
) -> None:
    cfg = tiny_ct_cfg if encoder == "convnet3d" else with_vjepa(tiny_ct_cfg)
    start = pretrain(changed(cfg, train={"out": str(tmp_path / "ssl")}))
    first = load_file(start / "encoder.safetensors")
    shutil.rmtree(start)
    shutil.rmtree(start.parent / "checkpoints" / "step-00000004")
    again = load_file(pretrain(changed(cfg, train={"out": str(tmp_path / "ssl")})) / "encoder.safetensors")
    assert all(torch.equal(first[name], again[name]) for name in first)

    cfg = changed(cfg, vision={"init": str(start)}, loss={"dfr": 1.0})
    folder = train(cfg)
    first = load_file(folder / "model.safetensors")
    rows = [json.loads(line) for line in (folder.parent / "log.jsonl").read_text().splitlines()]
    assert rows[0]["loss_dfr"] == pytest.approx(0, abs=1e-5)  # student and teacher begin as the same encoder
    assert [row["step"] for row in rows if "val_loss" in row] == [2, 4]
    shutil.rmtree(folder)
    shutil.rmtree(folder.parent / "checkpoints" / "step-00000004")
    again = load_file(train(cfg) / "model.safetensors")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert "16 x 24 x 24 voxels of 12 x 12 x 12 mm" in (folder / "README.md").read_text()


def test_train__leaves_a_model_that_answers_on_volumes(tiny_ct_cfg: GlintConfig) -> None:
    model = load_model(train(changed(tiny_ct_cfg, train={"steps": 2, "val_every": 0})))
    batch = batch_at(PairDataset(tiny_ct_cfg.data.manifest, "train", tiny_ct_cfg.data), 2, 0, 0).normalised()
    valid = pool_valid(batch.valid_px, model.vision.patch)
    answer = model.predict(batch.images, valid, ["There is a pleural effusion."])
    assert answer.grid == (4, 6, 6)
    assert answer.maps_SBP.shape == (1, 2, 4 * 6 * 6)
    assert float(answer.maps_SBP.min()) >= 0
    assert float(answer.maps_SBP.max()) <= 1
    assert float(answer.maps_SBP[:, ~valid].abs().max()) == 0  # nothing is open outside of a scan


def test_masked_prediction__only_patches_that_are_hidden_and_valid_are_scored(
    tiny_ct_cfg: GlintConfig,
) -> None:
    objective = MaskedPrediction(tiny_ct_cfg.pretrain, build_vision(tiny_ct_cfg.vision))
    batch = batch_at(PairDataset(tiny_ct_cfg.data.manifest, "train", tiny_ct_cfg.data), 2, 0, 0).normalised()
    loss, report = objective(batch, torch.Generator().manual_seed(0))
    loss.backward()
    assert report["loss_pixel"] > 0
    assert objective.vision.stem[0].weight.grad is not None
    batch.valid_px[:] = False
    _, report = objective(batch, torch.Generator().manual_seed(0))
    assert report["loss_pixel"] != report["loss_pixel"]  # the mean over no patch at all


def test_pretrain__dino_refuses_volumes(tiny_ct_cfg: GlintConfig) -> None:
    with pytest.raises(ConfigError, match="crops out of 2D images"):
        pretrain(changed(tiny_ct_cfg, pretrain={"method": "dino"}))


@pytest.mark.parametrize(
    ("recipe", "grid", "width"),
    [
        ("phantom-ct-pretrain", (6, 6, 6), 128),
        ("ct-vjepa-tiny", (6, 6, 6), 192),
        ("ct-base", (64, 16, 16), 768),
    ],
)
def test_recipes__can_be_built_at_their_sizes(recipe: str, grid: tuple[int, ...], width: int) -> None:
    cfg = resolve_vision(load_config(recipe))
    assert cfg.data.volume is not None
    with torch.device("meta"):
        encoder = build_vision(cfg.vision)
        out = encoder(torch.zeros(1, cfg.data.channels, *cfg.data.volume.crop))
    assert out.grid == grid
    assert out.tokens.shape[-1] == width
