"""DINOv3: what we load computes what the official code computes (fixtures of tools/fixtures_dinov3.py)."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from glint.config.schema import VisionConfig
from glint.errors import ConfigError, WeightsError
from glint.model.vision.base import ImageEncoder
from glint.model.vision.dinov3_convnext import DINOv3ConvNeXt
from glint.model.vision.dinov3_vit import DINOv3ViT
from glint.model.vision.registry import build_vision, save_encoder
from glint.model.weights import RawWeights, check_keys

FIXTURES = Path(__file__).parent / "fixtures"
# Official files do not say how many heads; fixtures have fewer channels a head than published models.
VITS: dict[str, dict[str, Any]] = {
    "mlp": {"heads": 2, "levels": [0, 1, 2, 3]},
    "swiglu": {"heads": 2, "levels": [0, 1, 2, 3]},
    "swiglu64": {"heads": 3, "levels": [0, 1]},
}
SIZES = ["square", "wide"]


def fixture(name: str) -> dict[str, Tensor]:
    return load_file(FIXTURES / f"dinov3_{name}.safetensors")


def official(content: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of the official model."""
    return {
        key.removeprefix("weights."): value for key, value in content.items() if key.startswith("weights.")
    }


def load_vit(case: str, tmp_path: Path, **arch: Any) -> ImageEncoder:
    """Build the encoder of a fixture from an official .pth file."""
    file = tmp_path / "dinov3_vit_pretrain_lvd1689m-00000000.pth"
    torch.save(official(fixture(f"vit_{case}")), file)
    return build_vision(VisionConfig(name="dinov3-vit", init=str(file), arch=VITS[case] | arch))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", VITS)
def test_adopt__vit_computes_what_the_official_code_does(case: str, size: str, tmp_path: Path) -> None:
    content, net = fixture(f"vit_{case}"), load_vit(case, tmp_path)
    with torch.no_grad():
        out = net(content[f"{size}.image"])
    torch.testing.assert_close(out.tokens, content[f"{size}.tokens"], rtol=1e-5, atol=1e-5)
    for i, level in enumerate(out.levels):
        torch.testing.assert_close(level, content[f"{size}.block{i}"], rtol=1e-5, atol=1e-5)
    assert len(out.levels) == len(net.blocks())


@pytest.mark.parametrize(
    ("case", "changed"),
    [("mlp", {"rope_theta": 10000.0}), ("swiglu", {"norm_eps": 1e-2}), ("swiglu64", {"heads": 1})],
)
def test_fixtures__notice_what_no_shape_tells(case: str, changed: dict[str, Any], tmp_path: Path) -> None:
    content, net = fixture(f"vit_{case}"), load_vit(case, tmp_path, **changed)
    with torch.no_grad():
        tokens = net(content["wide.image"]).tokens
    assert float((tokens - content["wide.tokens"]).abs().max()) > 1e-3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stride", [8, 16])
def test_adopt__convnext_computes_what_the_official_code_does(size: str, stride: int, tmp_path: Path) -> None:
    content, file = fixture("convnext"), tmp_path / "dinov3_convnext_tiny.pth"
    torch.save(official(content), file)
    cfg = VisionConfig(name="dinov3-convnext", init=str(file), arch={"token_stride": stride})
    with torch.no_grad():
        out = build_vision(cfg)(content[f"{size}.image"])
    torch.testing.assert_close(
        out.tokens, content[f"{size}.block{1 if stride == 8 else 2}"], rtol=1e-5, atol=1e-5
    )
    for i, level in enumerate(out.levels, start=1):
        torch.testing.assert_close(level, content[f"{size}.block{i}"], rtol=1e-5, atol=1e-5)


PUBLISHED = json.loads((FIXTURES / "dinov3_shapes.json").read_text())
# Without the masked key bias, which is no parameter of ours: width * depth fewer than the official module has.
VIT_PARAMETERS = {
    "dinov3_vits16": 21_596_544,
    "dinov3_vits16plus": 28_692_864,
    "dinov3_vitb16": 85_660_416,
    "dinov3_vitl16": 303_129_600,
    "dinov3_vith16plus": 840_592_640,
    "dinov3_vit7b16": 6_716_035_072,
}


def state_dict_on_meta(name: str) -> dict[str, Tensor]:
    """Return names and shapes of a published file: blocks after the first are like the first."""
    entry = PUBLISHED[name]
    tensors: dict[str, Tensor] = {}
    for key, shape in entry["tensors"].items():
        block = re.match(r"blocks\.0\.|stages\.(\d)\.0\.", key)
        stage = int(block[1] or 0) if block else 0
        for i in range(entry["depths"][stage] if block else 1):
            named = re.sub(r"\.0\.", f".{i}.", key, count=1) if stage == 0 else key
            named = re.sub(r"^(stages\.\d)\.0\.", rf"\1.{i}.", key) if key.startswith("stages.") else named
            tensors[named if block else key] = torch.empty(shape, device="meta")
    return tensors


@pytest.mark.parametrize("name", VIT_PARAMETERS)
def test_adopt__infers_every_published_vit(name: str) -> None:
    entry = PUBLISHED[name]
    arch, tensors = DINOv3ViT.adopt(RawWeights(state_dict_on_meta(name), name))
    with torch.device("meta"):
        net = DINOv3ViT(DINOv3ViT.Arch(**arch))
    check_keys(tensors, net.state_dict(), name)
    count = sum(parameter.numel() for parameter in net.parameters())
    assert (net.arch.heads, [net.arch.depth]) == (entry["heads"], entry["depths"])
    assert count == VIT_PARAMETERS[name]
    masked = net.width * net.arch.depth if net.arch.qv_bias else 0
    unused = 2 * net.width if name == "dinov3_vit7b16" else 0  # a norm of local crops, for training only
    assert count == entry["parameters"] - masked - unused


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_adopt__infers_every_published_convnext(size: str) -> None:
    name = f"dinov3_convnext_{size}"
    arch, tensors = DINOv3ConvNeXt.adopt(RawWeights(state_dict_on_meta(name), name))
    with torch.device("meta"):
        net = DINOv3ConvNeXt(DINOv3ConvNeXt.Arch(**arch))
    check_keys(tensors, net.state_dict(), name)
    assert sum(parameter.numel() for parameter in net.parameters()) == PUBLISHED[name]["parameters"]


def test_adopt__reads_a_teacher_with_heads_of_training(tmp_path: Path) -> None:
    content = fixture("vit_swiglu64")
    nested = {f"backbone.{key}": value for key, value in official(content).items()}
    heads = {"dino_head.mlp.0.weight": torch.zeros(2, 2), "ibot_head.last_layer.weight": torch.zeros(2)}
    torch.save({"teacher": nested | heads, "iteration": 7}, tmp_path / "model.pth")
    cfg = VisionConfig(name="dinov3-vit", init=str(tmp_path / "model.pth"), arch=VITS["swiglu64"])
    with torch.no_grad():
        tokens = build_vision(cfg)(content["square.image"]).tokens
    torch.testing.assert_close(tokens, content["square.tokens"], rtol=1e-5, atol=1e-5)


def test_adopt__keeps_a_key_bias_that_is_not_masked() -> None:
    state = {k: v for k, v in official(fixture("vit_mlp")).items() if not k.endswith("bias_mask")}
    arch, tensors = DINOv3ViT.adopt(RawWeights(state, "own.pth"))
    assert arch["key_bias"]
    assert torch.equal(
        tensors["net.model.layer.1.attention.k_proj.bias"], state["blocks.1.attn.qkv.bias"][32:64]
    )


def test_adopt__normalisation_of_satellite_models_follows_from_the_name() -> None:
    state = official(fixture("vit_mlp"))
    assert "mean" not in DINOv3ViT.adopt(RawWeights(state, "dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth"))[0]
    arch, _ = DINOv3ViT.adopt(RawWeights(state, "dinov3_vitl16_pretrain_sat493m-eadcf0ff.pth"))
    assert arch["mean"] == (0.430, 0.411, 0.296)


def test_forward__training_changes_nothing_unless_positions_are_augmented(tmp_path: Path) -> None:
    image = fixture("vit_mlp")["wide.image"]
    net = load_vit("mlp", tmp_path)
    with torch.no_grad():
        assert torch.equal(net.train()(image).tokens, net.eval()(image).tokens)
        net = load_vit("mlp", tmp_path, rope_rescale=2.0)
        assert float((net.train()(image).tokens - net.eval()(image).tokens).abs().max()) > 1e-3


def test_forward__positions_stay_in_fp32_under_autocast(tmp_path: Path) -> None:
    net: Any = load_vit("mlp", tmp_path)
    angles: list[torch.dtype] = []
    net.net.rope_embeddings.register_forward_hook(lambda _m, _i, out: angles.extend(x.dtype for x in out))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        net(fixture("vit_mlp")["square.image"])
    assert angles == [torch.float32, torch.float32]


def test_save_encoder__restores_every_bit(tmp_path: Path) -> None:
    net, image = load_vit("swiglu", tmp_path), fixture("vit_swiglu")["wide.image"]
    save_encoder(net, "dinov3-vit", tmp_path / "saved")
    again = build_vision(VisionConfig(name="dinov3-vit", init=str(tmp_path / "saved")))
    assert again.arch == net.arch
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in net.state_dict().items())
    assert torch.equal(net(image).tokens, again(image).tokens)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("blocks.1.mlp.fc2.bias"),
            r"missing \['net\.model\.layer\.1\.mlp\.down_proj\.bias'\]",
        ),
        (lambda s: s.pop("blocks.0.mlp.fc1.weight"), r"missing .*layer\.0\.mlp\.up_proj\.weight"),
        (lambda s: s.pop("patch_embed.proj.weight"), r"missing embeddings\.patch_embeddings\.weight"),
        (lambda s: s.pop("cls_token"), r"no cls_token among[\s\S]*dinov3_vit\*\.pth"),
        (lambda s: s.update(pos_embed=torch.zeros(1, 5, 32)), r"unknown \['net\.pos_embed'\]"),
        (
            lambda s: s.update({"norm.bias": torch.zeros(5)}),
            r"norm\.bias \(5,\) instead",
        ),
    ],
)
def test_build_vision__names_what_does_not_fit(change: Any, message: str, tmp_path: Path) -> None:
    state = official(fixture("vit_mlp"))
    change(state)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=message) as error:
        build_vision(VisionConfig(name="dinov3-vit", init=str(tmp_path / "weights.pth"), arch=VITS["mlp"]))
    assert error.value.fix or error.value.expected


def test_build_vision__reads_the_old_format_of_torch_save(tmp_path: Path) -> None:
    content, file = fixture("vit_mlp"), tmp_path / "old.pth"
    torch.save(official(content), file, _use_new_zipfile_serialization=False)
    net = build_vision(VisionConfig(name="dinov3-vit", init=str(file), arch=VITS["mlp"]))
    with torch.no_grad():
        tokens = net(content["square.image"]).tokens
    torch.testing.assert_close(tokens, content["square.tokens"], rtol=1e-5, atol=1e-5)


class Code:
    """Something that would run a command when unpickled."""

    def __reduce__(self) -> Any:
        return print, ("code ran",)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("other architecture", "no cls_token"),
        ("code", "could run code"),
        ("truncated", "damaged"),
        ("truncated safetensors", "damaged"),
    ],
)
def test_build_vision__refuses_bad_files(
    case: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / ("weights.safetensors" if "safetensors" in case else "weights.pth")
    if case == "other architecture":
        torch.save(official(fixture("convnext")), file)
    elif case == "code":
        torch.save(official(fixture("vit_mlp")) | {"more": Code()}, file)
    else:
        whole = tmp_path / "whole.pth"
        torch.save(official(fixture("vit_mlp")), whole)
        source = FIXTURES / "dinov3_vit_mlp.safetensors" if "safetensors" in case else whole
        file.write_bytes(source.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match=message):
        build_vision(VisionConfig(name="dinov3-vit", init=str(file)))
    assert "code ran" not in capsys.readouterr().out


def test_build_vision__levels_beyond_the_last_block_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"levels .* between 0 and depth - 1 = 5"):
        build_vision(VisionConfig(name="dinov3-vit", arch={"levels": [6]}))
