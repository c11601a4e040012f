"""Image encoders: token layout, locality of order, strict loading."""

from pathlib import Path

import pytest
import torch
from pydantic import JsonValue

from glint.config.schema import VisionConfig
from glint.errors import ConfigError, DataError, WeightsError
from glint.model.vision.base import ImageEncoder
from glint.model.vision.registry import build_vision, save_encoder

STAGES: dict[str, JsonValue] = {"widths": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "neck_width": 48}
VIT: dict[str, JsonValue] = {"width": 48, "depth": 4, "heads": 3}
TEMPLATE = "glint.model.vision._template:TemplateEncoder"
CONFIGS = {
    "vit": VisionConfig(name="dinov3-vit", arch=VIT),
    "convnext8": VisionConfig(name="dinov3-convnext", arch=STAGES),
    "convnext16": VisionConfig(name="dinov3-convnext", arch=STAGES | {"token_stride": 16}),
    "convnext without a neck": VisionConfig(name="dinov3-convnext", arch=STAGES | {"neck_width": 0}),
    "convnet": VisionConfig(name="convnet", arch=STAGES),
    "convnet with three stages": VisionConfig(
        name="convnet", arch={"widths": [8, 16, 24], "depths": [0, 1, 1], "neck_width": 48}
    ),
    "template": VisionConfig(name=TEMPLATE),
}


def encoder(name: str) -> ImageEncoder:
    torch.manual_seed(0)
    return build_vision(CONFIGS[name]).eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_forward__grid_and_levels_fit_a_non_square_image(name: str) -> None:
    net = encoder(name)
    out = net(torch.rand(2, 1, 64, 96))
    assert out.grid == (64 // net.patch[-1], 96 // net.patch[-1])
    assert out.tokens.shape == (2, out.grid[0] * out.grid[1], net.width)
    assert len(out.levels) == (2 if "three" in name else 3)
    assert all(level.shape[0] == 2 and level.dim() == 3 for level in out.levels)


@pytest.mark.parametrize("name", CONFIGS)
def test_forward__tokens_are_in_row_major_order(name: str) -> None:
    net = encoder(name)
    image = torch.full((1, 1, 128, 128), 0.5)
    changed = image.clone()
    changed[..., 96:112, 16:32] = 1.0  # low left: rows 96-112, columns 16-32
    difference = (net(changed).tokens - net(image).tokens).norm(dim=-1)[0].detach()
    difference = difference.reshape(128 // net.patch[-1], 128 // net.patch[-1])
    row, col = 96 // net.patch[-1], 16 // net.patch[-1]
    assert float(difference[row, col]) > 1.2 * float(difference[col, row])  # column-major would swap them


def test_build_vision__init_restores_every_bit(tmp_path: Path) -> None:
    net = encoder("vit")
    save_encoder(net, "dinov3-vit", tmp_path)
    again = build_vision(
        VisionConfig(name="dinov3-vit", init=str(tmp_path))
    ).eval()  # the architecture is read, too
    image = torch.rand(1, 1, 64, 64)
    assert torch.equal(net(image).tokens, again(image).tokens)


def test_build_vision__refuses_other_architecture_and_names_it(tmp_path: Path) -> None:
    save_encoder(encoder("vit"), "dinov3-vit", tmp_path)
    other = VisionConfig(name="dinov3-vit", arch={"depth": 5}, init=str(tmp_path))
    with pytest.raises(WeightsError, match=r"missing.*layer\.4"):
        build_vision(other)


def test_build_vision__refuses_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not found"):
        build_vision(VisionConfig(init=str(tmp_path / "nowhere")))
    (tmp_path / "encoder.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(WeightsError, match="damaged"):
        build_vision(VisionConfig(init=str(tmp_path)))


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (
            VisionConfig(name="resnet"),
            r"no image encoder 'resnet'[\s\S]*convnet, .*dinov3-vit",
        ),
        (VisionConfig(name="nowhere:Thing"), "cannot be imported"),
        (VisionConfig(name="glint.errors:GlintError"), "subclass of ImageEncoder"),
        (
            VisionConfig(name="convnet", arch={"deepth": 3}),
            r"vision\.arch\.deepth[\s\S]*settings of convnet: .*depths",
        ),
        (VisionConfig(name="convnet", arch={"depths": [1, 1, 1, 1]}), "same length"),
        (VisionConfig(name="dinov3-vit", arch={"width": 50, "heads": 3}), "multiple of 4"),
    ],
)
def test_build_vision__bad_recipes_are_named(cfg: VisionConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_vision(cfg)


@pytest.mark.parametrize("name", CONFIGS)
def test_forward__a_size_that_does_not_fit_is_refused_and_pad_makes_it_fit(name: str) -> None:
    net = encoder(name)
    image = torch.rand(1, 1, 60, 33)
    with pytest.raises(DataError, match=r"60 x 33 .*[\s\S]*multiples of"):
        net(image)
    padded = net.pad(image)
    assert torch.equal(padded[..., :60, :33], image)
    assert float(padded[..., 60:, :].abs().sum() + padded[..., 33:].abs().sum()) == 0
    assert net(padded).tokens.isfinite().all()


def test_patch_mm__is_patch_times_spacing() -> None:
    assert encoder("vit").patch_mm((0.5, 0.25)) == (8.0, 4.0)
