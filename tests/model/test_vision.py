"""Image encoders: token layout, locality of order, strict loading."""

from pathlib import Path

import pytest
import torch

from glint.config.schema import VisionConfig
from glint.errors import WeightsError
from glint.model.vision._template import TemplateEncoder
from glint.model.vision.base import ImageEncoder, build_vision, save_encoder

CONFIGS = {
    "vit": VisionConfig(name="dinov3-vit", patch_px=16, width=48, depth=4, heads=3),
    "convnext8": VisionConfig(stage_widths=(8, 16, 24, 32), stage_depths=(1, 1, 1, 1), neck_width=48),
    "convnext16": VisionConfig(
        stage_widths=(8, 16, 24, 32), stage_depths=(1, 1, 1, 1), neck_width=48, token_stride=16
    ),
    "convnet": VisionConfig(
        name="convnet", stage_widths=(8, 16, 24, 32), stage_depths=(1, 1, 1, 1), neck_width=48
    ),
    "convnet without a stage at stride 32": VisionConfig(
        name="convnet", stage_widths=(8, 16, 24), stage_depths=(0, 1, 1), neck_width=48
    ),
}


def encoder(name: str) -> ImageEncoder:
    torch.manual_seed(0)
    if name == "template":
        return TemplateEncoder(VisionConfig(width=48)).eval()
    return build_vision(CONFIGS[name]).eval()


@pytest.mark.parametrize("name", [*CONFIGS, "template"])
def test_forward__grid_and_levels_fit_a_non_square_image(name: str) -> None:
    net = encoder(name)
    out = net(torch.rand(2, 1, 64, 96))
    assert out.grid == (64 // net.stride_px, 96 // net.stride_px)
    assert out.tokens.shape == (2, out.grid[0] * out.grid[1], net.width)
    assert len(out.levels) == (2 if "without" in name else 3)
    assert all(level.shape[0] == 2 and level.dim() == 3 for level in out.levels)


@pytest.mark.parametrize("name", [*CONFIGS, "template"])
def test_forward__tokens_are_in_row_major_order(name: str) -> None:
    net = encoder(name)
    image = torch.full((1, 1, 128, 128), 0.5)
    changed = image.clone()
    changed[..., 96:112, 16:32] = 1.0  # low left: rows 96-112, columns 16-32
    difference = (net(changed).tokens - net(image).tokens).norm(dim=-1)[0].detach()
    difference = difference.reshape(128 // net.stride_px, 128 // net.stride_px)
    row, col = 96 // net.stride_px, 16 // net.stride_px
    assert float(difference[row, col]) > 1.2 * float(difference[col, row])  # column-major would swap them


def test_build_vision__init_restores_every_bit(tmp_path: Path) -> None:
    net = encoder("vit")
    save_encoder(net, CONFIGS["vit"], tmp_path)
    again = build_vision(CONFIGS["vit"].model_copy(update={"init": str(tmp_path)})).eval()
    image = torch.rand(1, 1, 64, 64)
    assert torch.equal(net(image).tokens, again(image).tokens)


def test_build_vision__refuses_other_architecture_and_names_it(tmp_path: Path) -> None:
    save_encoder(encoder("vit"), CONFIGS["vit"], tmp_path)
    other = VisionConfig(name="dinov3-vit", patch_px=16, width=48, depth=5, heads=3, init=str(tmp_path))
    with pytest.raises(WeightsError, match=r"missing.*layer\.4"):
        build_vision(other)


def test_build_vision__refuses_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not found"):
        build_vision(VisionConfig(init=str(tmp_path / "nowhere")))
    (tmp_path / "encoder.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(WeightsError, match="damaged"):
        build_vision(VisionConfig(init=str(tmp_path)))
