import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from glint.config import GlintConfig
from glint.config.schema import VisionConfig
from glint.data.dataset import PairDataset
from glint.model.vision.registry import build_vision
from glint.train.loop import train
from glint.train.pretrain import masked_task, pretrain


def override(cfg: GlintConfig, out: Path, **values: object) -> GlintConfig:
    return cfg.model_copy(update={"train": cfg.train.model_copy(update={"out": str(out), **values})})


def test_pretrain__makes_an_encoder_that_training_starts_from(tiny_cfg: GlintConfig, tmp_path: Path):
    folder = pretrain(override(tiny_cfg, tmp_path / "ssl"))
    stored = load_file(folder / "encoder.safetensors")
    vision = tiny_cfg.vision.model_copy(update={"init": str(folder)})
    built = build_vision(vision).state_dict()
    assert all(torch.equal(stored[name], built[name]) for name in built)
    cfg = tiny_cfg.model_copy(
        update={"vision": vision, "loss": tiny_cfg.loss.model_copy(update={"dfr": 1.0})}
    )
    run = train(cfg).parent
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert rows[0]["loss_dfr"] == pytest.approx(0, abs=1e-5)  # student and teacher begin as the same encoder
    assert rows[-2]["loss_dfr"] > 1e-6
    state = json.loads(next((run / "checkpoints").glob("*/state.json")).read_text())
    assert list(state["rebuilt"]) == ["teacher"]  # read again from vision.init, so not stored
    assert not any(
        name.startswith("teacher")
        for name in load_file(run / "checkpoints/step-00000006/weights.safetensors")
    )


def with_method(cfg: GlintConfig, method: str) -> GlintConfig:
    """Return the recipe with another self-supervised method and, for jepa, an encoder that fits it."""
    settings = {"method": method, "prototypes": 32, "predictor_width": 32, "predictor_depth": 1}
    vision = cfg.vision
    if method == "jepa":
        vision = VisionConfig(name="dinov3-vit", arch={"width": 32, "depth": 4, "heads": 2})
    return cfg.model_copy(update={"pretrain": cfg.pretrain.model_copy(update=settings), "vision": vision})


@pytest.mark.parametrize("method", ["masked", "dino", "jepa"])
def test_pretrain__loss_goes_down_and_teacher_lives(tiny_cfg: GlintConfig, tmp_path: Path, method: str):
    cfg = override(with_method(tiny_cfg, method), tmp_path / "ssl", steps=40, save_every=0)
    run = pretrain(cfg).parent
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    mean = {
        part: [sum(r[part] for r in rs) / 5 for rs in (rows[:5], rows[-5:])]
        for part in ("loss", "teacher_spread")
    }
    assert mean["loss"][1] < 0.98 * mean["loss"][0]
    assert mean["teacher_spread"][1] > 0.1


@pytest.mark.parametrize("method", ["masked", "dino", "jepa"])
def test_pretrain__resumed_run_equals_uninterrupted(tiny_cfg: GlintConfig, tmp_path: Path, method: str):
    tiny_cfg = with_method(tiny_cfg, method)
    whole = pretrain(override(tiny_cfg, tmp_path / "ssl"))
    expected = load_file(whole / "encoder.safetensors")
    shutil.rmtree(whole)
    shutil.rmtree(whole.parent / "checkpoints" / "step-00000006")
    again = load_file(pretrain(override(tiny_cfg, tmp_path / "ssl")) / "encoder.safetensors")
    assert all(torch.equal(expected[name], again[name]) for name in expected)


def test_pretrain__reads_no_report(own_manifest: Path, tiny_cfg: GlintConfig):
    for report in (own_manifest.parent / "reports").iterdir():
        report.write_bytes(b"\xff\xff")
    data = PairDataset(own_manifest, "train", tiny_cfg.data, with_reports=False)
    assert len(data) == 24


def test_masked_task__optimises_student_and_heads_but_not_the_teacher(tiny_cfg: GlintConfig):
    names = masked_task(tiny_cfg).parameters()
    assert {name.split(".")[0] for name in names} == {"vision", "predictor", "latent", "pixels"}
