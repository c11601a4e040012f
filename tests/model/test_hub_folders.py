"""Encoders from hub folders: what we load computes what transformers computes with the same folder."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from glint.config.schema import VisionConfig
from glint.errors import WeightsError
from glint.model.vision.dinov2 import Dinov2
from glint.model.vision.hub import normalisation
from glint.model.vision.registry import build_vision, save_encoder
from glint.model.vision.siglip import Siglip
from glint.model.weights import RawWeights

from .hub_folders import parameters, write_hub_folder

RAD_DINO = {"image_mean": [0.5307] * 3, "image_std": [0.2583] * 3, "rescale_factor": 1 / 255}
SMALL: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3}
V2: dict[str, Any] = SMALL | {"image_size": 56, "patch_size": 14}
SIGLIP: dict[str, Any] = V2 | {"intermediate_size": 80}
TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "vocab_size": 9,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def models(case: str) -> tuple[str, Any, int]:
    """Return our name of the encoder, a fresh model of transformers, and how many prefix tokens it has."""
    if case == "dinov3":
        config = DINOv3ViTConfig(**SMALL, intermediate_size=96, num_register_tokens=4, pos_embed_rescale=2.0)
        return "dinov3-vit", DINOv3ViTModel(config), 5
    if case == "dinov3 gated":
        config = DINOv3ViTConfig(
            **SMALL, intermediate_size=96, use_gated_mlp=True, hidden_act="silu", query_bias=False
        )
        config.value_bias = False
        return "dinov3-vit", DINOv3ViTModel(config), 1
    if case == "dinov2":
        return "dinov2", Dinov2Model(Dinov2Config(**V2)), 1
    if case == "dinov2 gated":
        return "dinov2", Dinov2Model(Dinov2Config(**V2, use_swiglu_ffn=True, use_mask_token=False)), 1
    if case == "dinov2 registers":
        return "dinov2", Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**V2, num_register_tokens=4)), 5
    if case == "siglip":
        return "siglip", SiglipModel(SiglipConfig(text_config=TEXT, vision_config=SIGLIP)), 0
    return "siglip", SiglipVisionModel(SiglipVisionConfig(**SIGLIP)), 0


CASES = [
    "dinov3",
    "dinov3 gated",
    "dinov2",
    "dinov2 gated",
    "dinov2 registers",
    "siglip",
    "siglip image half",
]


def reference(net: Any, pixels: Tensor, prefix: int) -> tuple[Tensor, list[Tensor]]:
    """Return the patch tokens of transformers' own forward pass, and those of its blocks."""
    inner = getattr(net, "vision_model", net).eval()
    options = {"interpolate_pos_encoding": True} if "Siglip" in type(inner).__name__ else {}
    with torch.no_grad():
        out = inner(pixels, output_hidden_states=True, **options)
    return out.last_hidden_state[:, prefix:], [hidden[:, prefix:] for hidden in out.hidden_states[1:]]


@pytest.mark.parametrize("case", CASES)
def test_adopt__computes_what_transformers_does_at_every_size(case: str, tmp_path: Path) -> None:
    name, net, prefix = models(case)
    write_hub_folder(net, tmp_path, RAD_DINO)
    encoder = build_vision(VisionConfig(name=name, init=str(tmp_path), arch={"levels": [0, 1, 2, 3]}))
    unit = encoder.patch[0]
    for sides in [(4 * unit, 4 * unit), (7 * unit, 7 * unit), (3 * unit, 5 * unit), (2 * unit, 8 * unit)]:
        image = torch.rand(2, 1, *sides)
        tokens, blocks = reference(net, (image.expand(-1, 3, -1, -1) - 0.5307) / 0.2583, prefix)
        with torch.no_grad():
            out = encoder.train()(image)
        assert out.grid == (sides[0] // unit, sides[1] // unit)
        torch.testing.assert_close(out.tokens, tokens, rtol=1e-5, atol=1e-5)
        for level, block in zip(out.levels, blocks, strict=True):
            torch.testing.assert_close(level, block, rtol=1e-5, atol=1e-5)
    assert len(encoder.blocks()) == len(blocks)


@pytest.mark.parametrize("case", CASES)
def test_save_encoder__restores_every_bit(case: str, tmp_path: Path) -> None:
    name, net, _ = models(case)
    encoder = build_vision(
        VisionConfig(name=name, init=str(write_hub_folder(net, tmp_path / "hub", RAD_DINO)))
    )
    save_encoder(encoder, name, tmp_path / "saved")
    again = build_vision(VisionConfig(name=name, init=str(tmp_path / "saved")))
    assert again.arch == encoder.arch
    assert again.arch.mean == (0.5307,) * 3
    image = torch.rand(1, 1, *(5 * side for side in encoder.patch))
    assert torch.equal(encoder(image).tokens, again(image).tokens)


def test_adopt__convnext_computes_what_transformers_does(tmp_path: Path) -> None:
    net = DINOv3ConvNextModel(DINOv3ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1]))
    write_hub_folder(net, tmp_path, RAD_DINO)
    encoder = build_vision(VisionConfig(name="dinov3-convnext", init=str(tmp_path)))
    image = torch.rand(1, 1, 64, 96)
    with torch.no_grad():
        out = encoder(image)
        pixels = (image.expand(-1, 3, -1, -1) - 0.5307) / 0.2583
        maps = net.eval()(pixels, output_hidden_states=True).hidden_states
    assert (encoder.patch, encoder.width, out.grid) == ((16, 16), 24, (4, 6))
    for level, stage in zip((out.tokens, *out.levels), (maps[-2], *maps[-3:]), strict=True):
        torch.testing.assert_close(level, stage.flatten(2).transpose(1, 2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ["dinov3", "dinov2", "siglip"])
def test_open_weights__reads_shards_and_misses_lost_ones(case: str, tmp_path: Path) -> None:
    name, net, _ = models(case)
    whole = build_vision(VisionConfig(name=name, init=str(write_hub_folder(net, tmp_path / "one", RAD_DINO))))
    folder = write_hub_folder(net, tmp_path / "shards", RAD_DINO, shard="100KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    found = build_vision(VisionConfig(name=name, init=str(folder))).state_dict()
    assert all(torch.equal(value, found[key]) for key, value in whole.state_dict().items())
    shards[1].unlink()
    with pytest.raises(WeightsError, match=rf"part of the weights is missing: {shards[1].name}"):
        build_vision(VisionConfig(name=name, init=str(folder)))


def test_open_weights__other_safetensors_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    name, net, _ = models("dinov2")
    folder = write_hub_folder(net, tmp_path, RAD_DINO)
    (folder / "backbone_compatible.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:50])
    assert build_vision(VisionConfig(name=name, init=str(folder))).width == 48


def change_config(folder: Path, **changes: Any) -> None:
    """Rewrite entries of config.json; None removes one."""
    file = folder / "config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


@pytest.mark.parametrize(
    ("case", "name", "message"),
    [
        ("dinov2", "dinov3-vit", r"model_type = dinov2[\s\S]*set vision\.name = dinov2"),
        ("dinov3", "dinov2", r"model_type = dinov3_vit[\s\S]*set vision\.name = dinov3-vit"),
        ("siglip", "dinov3-convnext", r"model_type = siglip[\s\S]*set vision\.name = siglip"),
    ],
)
def test_build_vision__a_model_of_another_kind_says_who_reads_it(
    case: str, name: str, message: str, tmp_path: Path
) -> None:
    write_hub_folder(models(case)[1], tmp_path, RAD_DINO)
    with pytest.raises(WeightsError, match=message):
        build_vision(VisionConfig(name=name, init=str(tmp_path)))


@pytest.mark.parametrize("case", CASES)
def test_build_vision__more_blocks_in_config_than_in_the_file_are_missed(case: str, tmp_path: Path) -> None:
    name, net, _ = models(case)
    write_hub_folder(net, tmp_path, RAD_DINO)
    deeper: dict[str, Any] = {"num_hidden_layers": 5}
    if case == "siglip":
        deeper = {"vision_config": SIGLIP | deeper}
    change_config(tmp_path, **deeper)
    with pytest.raises(WeightsError, match=r"missing .*net\..*layers?\.4\."):
        build_vision(VisionConfig(name=name, init=str(tmp_path)))


@pytest.mark.parametrize("case", ["dinov3", "dinov2", "siglip"])
def test_build_vision__another_activation_is_refused(case: str, tmp_path: Path) -> None:
    name, net, _ = models(case)
    write_hub_folder(net, tmp_path, RAD_DINO)
    change_config(
        tmp_path, **({"vision_config": SIGLIP | {"hidden_act": "relu"}} if case == "siglip" else {})
    )
    change_config(tmp_path, hidden_act="relu")
    with pytest.raises(WeightsError, match="hidden_act = relu"):
        build_vision(VisionConfig(name=name, init=str(tmp_path)))


@pytest.mark.parametrize(
    ("case", "file"),
    [("dinov2", "preprocessor_config.json"), ("dinov2", "config.json"), ("siglip", "config.json")],
)
def test_build_vision__asks_for_the_file_that_is_missing(case: str, file: str, tmp_path: Path) -> None:
    name, net, _ = models(case)
    write_hub_folder(net, tmp_path, RAD_DINO)
    (tmp_path / file).unlink()
    with pytest.raises(WeightsError, match=rf"{file} is missing[\s\S]*copy {file}"):
        build_vision(VisionConfig(name=name, init=str(tmp_path)))


def test_read_encoder__own_weights_of_another_kind_say_so(tmp_path: Path) -> None:
    save_encoder(build_vision(VisionConfig(name="convnet")), "convnet", tmp_path)
    with pytest.raises(WeightsError, match=r"another kind: convnet[\s\S]*set vision\.name = convnet"):
        build_vision(VisionConfig(name="dinov3-vit", init=str(tmp_path)))


@pytest.mark.parametrize(
    ("preprocessor", "mean", "std"),
    [
        ({"image_mean": [0.5307], "image_std": [0.2583]}, [0.5307] * 3, [0.2583] * 3),
        ({"image_mean": 127.5, "image_std": 51, "do_rescale": False}, [0.5] * 3, [0.2] * 3),
        ({"image_mean": [1] * 3, "image_std": [2] * 3, "rescale_factor": 2 / 255}, [0.5] * 3, [1.0] * 3),
        ({"image_mean": [0.4] * 3, "image_std": [0.2] * 3, "do_normalize": False}, [0.0] * 3, [1.0] * 3),
    ],
)
def test_normalisation__is_what_the_processor_does_to_bytes(
    preprocessor: dict[str, Any], mean: list[float], std: list[float]
) -> None:
    assert normalisation(RawWeights({}, "", preprocessor=preprocessor), 3) == {"mean": mean, "std": std}


DINOV2_PARAMETERS = {"S": 22_056_576, "B": 86_580_480, "L": 304_368_640, "g": 1_136_480_768}


@pytest.mark.parametrize(
    ("size", "width", "depth", "heads"),
    [("S", 384, 12, 6), ("B", 768, 12, 12), ("L", 1024, 24, 16), ("g", 1536, 40, 24)],
)
def test_dinov2__published_sizes_have_the_parameters_of_transformers(
    size: str, width: int, depth: int, heads: int
) -> None:
    config = Dinov2Config(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        image_size=518,
        use_swiglu_ffn=size == "g",
    )
    arch = Dinov2.Arch(width=width, depth=depth, heads=heads, image_px=518, gated_mlp=size == "g")
    with torch.device("meta"):
        theirs, ours = parameters(Dinov2Model(config)), parameters(Dinov2(arch))
    assert theirs == DINOV2_PARAMETERS[size]
    assert ours == theirs - width  # the mask token is for pretraining only


def test_siglip__medsiglip_has_the_parameters_of_transformers() -> None:
    config = SiglipVisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=27,
        num_attention_heads=16,
        image_size=448,
        patch_size=14,
    )
    arch = Siglip.Arch(width=1152, depth=27, heads=16, mlp_width=4304, image_px=448)
    with torch.device("meta"):
        net, encoder = SiglipVisionModel(config), Siglip(arch)
    assert parameters(net) == 428_565_440
    assert parameters(encoder) == parameters(net) - parameters(net.head)
    assert math.prod(size // patch for size, patch in zip((448, 448), encoder.patch, strict=True)) == 1024
