"""`glint models` as a user types it."""

from pathlib import Path

import pytest
import torch

from glint.cli.main import run
from glint.config.schema import VisionConfig
from glint.model.vision.registry import build_vision


def test_list__names_models_and_encoders(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert ["model", "glint-cxr-phantom"] in [line[:2] for line in lines]
    assert {"convnet", "dinov3-vit", "dinov3-convnext"} <= {line[1] for line in lines if line[0] == "encoder"}


def test_verify__the_packaged_model_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "verify", "glint-cxr-phantom"]) == 0
    assert "model.safetensors" in capsys.readouterr().out


def test_convert__carries_the_licence_into_the_folder_and_loads_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    official = tmp_path / "dinov3_vit_tiny.pth"
    arch = {"width": 64, "depth": 2, "heads": 1}
    torch.manual_seed(0)
    net = build_vision(VisionConfig(name="dinov3-vit", arch=arch)).eval()  # pyright: ignore[reportArgumentType]
    torch.save(
        {k.removeprefix("net.").replace("model.layer", "layer"): v for k, v in net.state_dict().items()},
        official,
    )
    assert run(["models", "convert", str(official), str(tmp_path / "out"), "--encoder", "dinov3-vit"]) == 0
    assert "DINOv3 License" in capsys.readouterr().out
    again = build_vision(VisionConfig(name="dinov3-vit", init=str(tmp_path / "out"))).eval()
    image = torch.rand(1, 1, 32, 48)
    assert torch.equal(net(image).tokens, again(image).tokens)
    assert again.arch.licence.startswith("DINOv3 License")
    assert run(["models", "verify", str(tmp_path / "out")]) == 0
    assert run(["models", "convert", str(official), str(tmp_path / "out"), "--encoder", "dinov3-vit"]) == 2
    assert "something already" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*part*"))
