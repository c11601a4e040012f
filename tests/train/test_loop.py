"""The loop with the real model and objective on the tiny data set of conftest.py."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import glint.train.loop as loop_module
from glint.config import GlintConfig, load_config
from glint.errors import ConfigError, TrainingError
from glint.train.loop import align_task, fit, train
from glint.train.pretrain import pretrain
from glint.train.run import Stopped


def override(cfg: GlintConfig, **sections: dict[str, Any]) -> GlintConfig:
    return cfg.model_copy(
        update={name: getattr(cfg, name).model_copy(update=values) for name, values in sections.items()}
    )


def log_of(run: Path) -> list[dict[str, float]]:
    timing = ("time_s", "samples_per_s")
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in timing} for row in rows]


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int, number: int = signal.SIGTERM) -> None:
    """Send this process a signal once `steps` updates are done."""
    real = loop_module.step

    def step(state: Any, *args: Any) -> Any:
        report = real(state, *args)
        if state.step + 1 == steps:
            os.kill(os.getpid(), number)
        return report

    monkeypatch.setattr(loop_module, "step", step)


def test_train__writes_model_log_and_resolved_recipe(tiny_cfg: GlintConfig):
    folder = train(tiny_cfg)
    run = Path(tiny_cfg.train.out)
    assert folder == run / "model"
    from glint.model.folder import load_model

    model = load_model(folder)
    stored = load_file(run / "checkpoints" / "step-00000006" / "weights.safetensors")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, stored[f"model.{name}"]), name
    assert "auto" not in (run / "config.resolved.yaml").read_text()
    rows = log_of(run)
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if "val_loss" in row] == [3, 6]
    assert {"open_present", "open_absent", "alpha", "beta", "grad_norm", "loss_align"} <= rows[0].keys()
    assert not [path for path in run.rglob("*") if ".tmp" in path.name or ".part" in path.name]


@pytest.mark.parametrize(
    ("section", "setting", "words"),
    [
        ("data", {"size_px": 100}, r"multiple of 32[\s\S]*size_px to 128"),
        ("vision", {"arch": {"deepth": 3}}, r"vision\.arch\.deepth"),
        ("vision", {"tuning": "lora"}, "has no attention"),
        ("text", {"max_tokens": 513}, "512 tokens only"),
    ],
)
def test_train__a_recipe_that_cannot_be_built_leaves_no_run_behind(
    tiny_cfg: GlintConfig, section: str, setting: dict[str, Any], words: str
):
    with pytest.raises(ConfigError, match=words):
        train(override(tiny_cfg, **{section: setting}))
    assert not Path(tiny_cfg.train.out).exists()


def test_train__loss_goes_down(tiny_cfg: GlintConfig):
    train(override(tiny_cfg, train={"steps": 30, "val_every": 0, "save_every": 0}, data={"augment": 0.0}))
    losses = [row["loss"] for row in log_of(Path(tiny_cfg.train.out))]
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])


ARCHS = {
    "dinov3-convnext": {"widths": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "neck_width": 16},
    "convnet": {"widths": [8, 8, 16], "depths": [0, 1, 1], "neck_width": 16},
    "dinov3-vit": {"width": 48, "depth": 3, "heads": 3},
}


@pytest.mark.filterwarnings("ignore:loss.dfr > 0 without vision.init")
@pytest.mark.parametrize(
    ("encoder", "tuning", "dfr", "pretrained"),
    [
        ("dinov3-convnext", "full", 0.0, False),
        ("dinov3-convnext", "full", 1.0, False),
        ("convnet", "full", 1.0, True),
        ("dinov3-vit", "lora", 1.0, True),
        ("dinov3-vit", "adapters", 1.0, True),
    ],
)
def test_train__resumed_run_equals_uninterrupted_bit_for_bit(
    tiny_cfg: GlintConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    encoder: str,
    tuning: str,
    dfr: float,
    pretrained: bool,
):
    vision = {"name": encoder, "arch": ARCHS[encoder], "tuning": tuning}
    cfg = override(
        tiny_cfg, vision=vision, loss={"dfr": dfr}, train={"log_every": 2}, align={"token_keep": 0.7}
    )
    if pretrained:  # a teacher that is read from its file again, not kept in the checkpoint
        start = override(cfg, train={"out": str(tmp_path / "start"), "steps": 2})
        cfg = override(cfg, vision={"init": str(pretrain(start))})
    other = override(cfg, train={"out": str(tmp_path / "other")})
    whole = train(cfg)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)  # in the middle of a log window and between two regular checkpoints
        with pytest.raises(Stopped) as caught:
            train(other)
    assert (caught.value.step, caught.value.signal) == (3, signal.SIGTERM)
    assert not (tmp_path / "other" / "model").exists()
    parts = train(other)
    assert log_of(parts.parent) == log_of(whole.parent)
    first, second = (load_file(folder / "model.safetensors") for folder in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_train__resume_after_losing_the_newest_checkpoint(tiny_cfg: GlintConfig):
    cfg = override(tiny_cfg, train={"save_every": 2})
    whole = train(cfg)
    expected, run = log_of(whole.parent), whole.parent
    shutil.rmtree(whole)
    (run / "checkpoints" / "step-00000006" / "weights.safetensors").write_bytes(b"torn")
    with pytest.warns(UserWarning, match="damaged"):
        train(cfg)
    assert log_of(run) == expected


def test_train__finished_run_is_not_trained_again(tiny_cfg: GlintConfig, monkeypatch: pytest.MonkeyPatch):
    folder = train(tiny_cfg)
    monkeypatch.setattr(loop_module, "fit", None)
    assert train(tiny_cfg) == folder


def test_train__other_recipe_in_the_same_folder(tiny_cfg: GlintConfig):
    train(override(tiny_cfg, train={"steps": 1}))
    with pytest.raises(TrainingError, match=r"differs in: optim\.lr 0\.001 there, 0\.5 here") as caught:
        train(override(tiny_cfg, train={"steps": 1}, optim={"lr": 0.5}))
    assert "train.out" in caught.value.fix
    with pytest.raises(TrainingError, match="there is a run already"):
        train(override(tiny_cfg, train={"steps": 1}), resume=False)


def test_train__folder_that_is_no_run(tiny_cfg: GlintConfig):
    out = Path(tiny_cfg.train.out)
    out.mkdir()
    (out / "thesis.doc").write_text("x")
    with pytest.raises(TrainingError, match="not empty and not a run"):
        train(tiny_cfg)
    assert [path.name for path in out.iterdir()] == ["thesis.doc"]


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_fit__non_finite_never_reaches_the_weights(tiny_cfg: GlintConfig, tmp_path: Path, where: str):
    from glint.data.dataset import PairDataset
    from glint.train.precision import resolve

    tiny_cfg = tiny_cfg.model_copy(update={"train": resolve(tiny_cfg.train)})
    data = PairDataset(tiny_cfg.data.manifest, "train", tiny_cfg.data)
    task = align_task(tiny_cfg, data.texts())
    real, calls = task.objective, 0
    good: dict[str, torch.Tensor] = {}

    def poisoned(batch: Any, generator: torch.Generator) -> Any:
        nonlocal calls
        loss, report = real(batch, generator)
        calls += 1
        if calls < 3:
            return loss, report
        good.update({name: tensor.clone() for name, tensor in task.tensors().items()})
        bad = loss * float("nan")
        if where == "gradient":  # finite value, infinite slope
            bad = loss + (loss * 0).sqrt()
        return bad, report

    task.objective = poisoned
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(TrainingError, match=rf"the {where} is not finite at step 2") as caught:
        fit(tiny_cfg, task, data, [], run, run / "model")
    assert "loss_align=" in caught.value.where
    assert all(torch.equal(tensor, good[name]) for name, tensor in task.tensors().items())
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000002"]
    assert not (run / "model").exists()


def test_align_task__warns_of_a_random_teacher(tiny_cfg: GlintConfig):
    with pytest.warns(UserWarning, match="random features"):
        task = align_task(override(tiny_cfg, loss={"dfr": 1.0}), [])
    assert list(task.kept) == ["teacher"]  # it could not be made again, so checkpoints hold it


@pytest.mark.parametrize("tuning", ["frozen", "blocks"])
def test_align_task__no_teacher_for_levels_that_cannot_move(tiny_cfg: GlintConfig, tuning: str):
    with pytest.warns(UserWarning, match=rf"vision\.tuning={tuning} without vision\.init"):
        task = align_task(override(tiny_cfg, loss={"dfr": 1.0}, vision={"tuning": tuning}), [])
    assert not task.kept
    assert not task.rebuilt


def test_census__counts_what_learns_and_what_does_not(tiny_cfg: GlintConfig):
    vit = {"name": "dinov3-vit", "arch": ARCHS["dinov3-vit"], "tuning": "frozen"}
    with pytest.warns(UserWarning, match="random weights"):
        task = align_task(override(tiny_cfg, vision=vit, text={"adapter_hidden": 0}), [])
    vision, text, align, total = (line.split() for line in task.census())
    assert (vision[0], vision[1], vision[-1]) == ("vision", "0", "(0.00%)")
    assert text[:4] == [
        "text",
        "0",
        "of",
        "22,713,216",
    ]  # all of MiniLM, though it is not saved with the model
    assert align[1] == align[3]
    assert total[1] == align[1]
    assert [int(row[3].replace(",", "")) for row in (vision, text, align)] == [
        sum(p.numel() for p in part) for part in task.parts.values()
    ]


def test_train__says_how_many_parameters_learn(tiny_cfg: GlintConfig, capsys: pytest.CaptureFixture[str]):
    train(override(tiny_cfg, train={"steps": 1}))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines if line.endswith("%)")] == ["vision", "text", "align", "total"]


def test_train__same_recipe_same_weights_whatever_log_and_validation(tiny_cfg: GlintConfig, tmp_path: Path):
    quiet = override(
        tiny_cfg, train={"out": str(tmp_path / "q"), "val_every": 0, "log_every": 5, "save_every": 0}
    )
    first, second = (load_file(train(cfg) / "model.safetensors") for cfg in (tiny_cfg, quiet))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_cli_train__stop_and_errors_have_their_exit_codes(
    tiny_cfg: GlintConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    import typer

    from glint.cli.train import train as command
    from glint.config import dump_config

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump_config(tiny_cfg))
    with monkeypatch.context() as patch:
        stop_after(patch, 2, signal.SIGINT)
        with pytest.raises(typer.Exit) as caught:
            command(str(recipe))
    assert caught.value.exit_code == 130
    assert "stopped at step 2" in capsys.readouterr().out
    command(str(recipe))
    assert capsys.readouterr().out.strip() == str(Path(tiny_cfg.train.out) / "model")
    assert load_config(Path(tiny_cfg.train.out) / "config.resolved.yaml").train.device == "cpu"
