"""Primus: parity with the authors' code, published sizes, refusals."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from glint.config.schema import VisionConfig
from glint.errors import WeightsError
from glint.model.vision import primus
from glint.model.vision.primus import Primus, PrimusArch
from glint.model.vision.registry import build_vision

# Made by colipri 0.1.3's ImageEncoder around dynamic-network-architectures 0.4.4's Primus (timm 1.0.22's EvaBlock and
# RotaryEmbeddingCat): random weights, width 24, 2 blocks, 2 heads, patch 4, volume 8 x 12 x 16, projector to 12.
GOLDEN = Path(__file__).parent / "fixtures" / "primus.safetensors"


@pytest.fixture
def golden() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN)


def write_weights(folder: Path, tensors: dict[str, torch.Tensor]) -> VisionConfig:
    """Write the weights as a hub folder; the fixture's width is none of the published ones, so name its heads."""
    folder.mkdir(exist_ok=True)
    prefix = "weights."
    save_file(
        {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text('{"num_heads": 2}')
    return VisionConfig(name="primus", init=str(folder), arch={"levels": [0, 1]})


def test_forward__is_that_of_the_authors(golden: dict[str, torch.Tensor], tmp_path: Path) -> None:
    net = build_vision(write_weights(tmp_path, golden)).eval()
    out = net(golden["input"].permute(0, 1, 4, 3, 2) * 1000)  # [-1, 1] -> HU; (X, Y, Z) -> (Z, Y, X)
    assert out.grid == (4, 3, 2)
    expected = golden["dense"].permute(0, 4, 3, 2, 1).flatten(1, 3)
    torch.testing.assert_close(out.tokens, expected, rtol=1e-5, atol=1e-5)
    for number, level in enumerate(out.levels):
        block = golden[f"block{number}"].unflatten(1, (2, 3, 4)).transpose(1, 3).flatten(1, 3)
        torch.testing.assert_close(level, block, rtol=1e-5, atol=1e-5)


def test_forward__without_projection_is_that_of_the_authors(
    golden: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    backbone = {k: v for k, v in golden.items() if "projector" not in k and "pooler" not in k}
    cfg = write_weights(tmp_path, backbone)
    net = build_vision(cfg.model_copy(update={"arch": {"axes": "zyx"}})).eval()
    out = net(golden["input"] * 1000)
    torch.testing.assert_close(out.tokens, golden["raw"].flatten(2).transpose(1, 2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fault", ["halves", "axes", "theta"])
def test_forward__another_rotation_fails_the_fixture(
    golden: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    net = build_vision(write_weights(tmp_path, golden)).eval()
    right = primus.rotary
    faults = {
        "halves": lambda grid, width, device: tuple(
            torch.cat((part[:, ::2], part[:, ::2]), dim=1) for part in right(grid, width, device)
        ),
        "axes": lambda grid, width, device: tuple(
            part.unflatten(0, grid[::-1]).transpose(0, 2).flatten(0, 2)
            for part in right(grid[::-1], width, device)
        ),
        "theta": lambda grid, width, device: tuple(
            part.roll(2, dims=1) for part in right(grid, width, device)
        ),
    }
    monkeypatch.setattr(primus, "rotary", faults[fault])
    tokens = net(golden["input"].permute(0, 1, 4, 3, 2) * 1000).tokens.detach()
    expected = golden["dense"].permute(0, 4, 3, 2, 1).flatten(1, 3)
    assert float((tokens - expected).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("width", "depth", "heads", "params"),
    [
        (396, 12, 6, 22_893_156),
        (792, 12, 12, 90_949_320),
        (864, 16, 12, 144_085_536),
        (1056, 24, 16, 322_277_472),
    ],
    ids=["S", "B", "M", "L"],
)
def test_parameters__are_those_of_the_authors_encoder(
    width: int, depth: int, heads: int, params: int
) -> None:
    """Counted in dynamic-network-architectures 0.4.4's PrimusS ... PrimusL without decoder and absolute positions."""
    with torch.device("meta"):
        net = Primus(PrimusArch(width=width, depth=depth, heads=heads))
    assert sum(p.numel() for p in net.parameters()) == params


def test_adopt__names_what_is_wrong(golden: dict[str, torch.Tensor], tmp_path: Path) -> None:
    with_positions = golden | {"weights.image_encoder.backbone.eva.pos_embed": torch.zeros(1, 24, 24)}
    with pytest.raises(WeightsError, match=r"unknown \['eva\.pos_embed'\]"):
        build_vision(write_weights(tmp_path / "a", with_positions))
    lacking = {k: v for k, v in golden.items() if "blocks.1.mlp.fc2.bias" not in k}
    with pytest.raises(WeightsError, match=r"missing \['eva\.blocks\.1\.mlp\.fc2\.bias'\]"):
        build_vision(write_weights(tmp_path / "b", lacking))
    with pytest.raises(WeightsError, match=r"no Primus weights: no down_projection[\s\S]*microsoft/colipri"):
        build_vision(write_weights(tmp_path / "c", {"weights.conv1.weight": torch.zeros(3)}))
    cfg = write_weights(tmp_path / "d", golden)
    (tmp_path / "d" / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"none of the published sizes[\s\S]*num_heads"):
        build_vision(cfg)
