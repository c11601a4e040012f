"""Published V-JEPA weights: the same features as the authors' code, from every layout, and nothing read in silence."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import JsonValue
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2Model

from glint.config.schema import VisionConfig
from glint.errors import WeightsError
from glint.model.vision.registry import build_vision, save_encoder
from glint.model.vision.vjepa import IMAGENET_MEAN, IMAGENET_STD, VJEPA, VJEPAArch
from glint.model.weights import open_weights

FIXTURES = Path(__file__).parent / "fixtures"  # made by tools/fixtures_vjepa.py
EXACT = {"atol": 1e-5, "rtol": 1e-5}
CASES = [("2.0", "square"), ("2.0", "oblong"), ("2.1", "square"), ("2.1", "oblong"), ("2.1", "slice")]
PUBLISHED = {
    # The encoders of the authors' code (commit 204698b45b37), counted on the meta device; B and g of 2.1 are also
    # the numbers on the cards of converted checkpoints. 2.0 without `pos_embed`, which rotary positions replace.
    ("2.0", 1024, 24, 0, 0): 303_885_312,
    ("2.0", 1280, 32, 16, 0): 631_648_000,
    ("2.0", 1408, 40, 0, 6144): 1_012_173_952,
    ("2.1", 768, 12, 0, 0): 86_833_152,
    ("2.1", 1024, 24, 0, 0): 304_680_960,
    ("2.1", 1408, 40, 0, 6144): 1_013_267_968,
    ("2.1", 1664, 48, 0, 8192): 1_845_216_768,
}


def fixture(version: str) -> dict[str, Tensor]:
    return load_file(FIXTURES / f"vjepa_{version.replace('.', '_')}.safetensors")


def weights(version: str) -> dict[str, Tensor]:
    found = fixture(version).items()
    return {name.removeprefix("weights."): value for name, value in found if name.startswith("weights.")}


def load(file: Path, **arch: JsonValue) -> VJEPA:
    net = build_vision(VisionConfig(name="vjepa", init=str(file), arch=arch)).eval()
    assert isinstance(net, VJEPA)
    return net


def plain(folder: Path, version: str, **change: Tensor) -> Path:
    """Write the weights of a fixture as plain safetensors with the authors' names."""
    save_file(weights(version) | change, folder / "plain.safetensors")
    return folder / "plain.safetensors"


@pytest.mark.parametrize(("version", "case"), CASES)
def test_parity__features_are_those_of_the_authors_code(version: str, case: str, tmp_path: Path) -> None:
    net, expected = load(plain(tmp_path, version)), fixture(version)
    wanted = VJEPAArch(version=version, patch_px=4, width=128, depth=4, heads=0, mlp_width=64)
    assert net.arch == wanted.model_copy(update={"licence": VJEPA.licence})
    with torch.no_grad():
        out = net(expected[f"{case}.pixels"])
    torch.testing.assert_close(out.tokens, expected[f"{case}.tokens"], **EXACT)


def test_parity__all_hierarchical_levels(tmp_path: Path) -> None:
    net, expected = load(plain(tmp_path, "2.1")), fixture("2.1")
    with torch.no_grad():
        out = net(expected["oblong.pixels"])
        normed = [norm(level) for norm, level in zip(net.net.norms_block, out.levels, strict=False)]
    assert len(normed) == 3
    for i, level in enumerate([*normed, out.tokens]):
        torch.testing.assert_close(level, expected[f"oblong.level{i}"], **EXACT)


@pytest.mark.parametrize(("version", "case"), CASES)
def test_parity__the_other_rotary_positions_fail_it(version: str, case: str, tmp_path: Path) -> None:
    net, expected = load(plain(tmp_path, version)), fixture(version)
    net.net.rope = replace(net.net.rope, tiled=not net.net.rope.tiled)
    with torch.no_grad():
        tokens = net(expected[f"{case}.pixels"]).tokens
    assert float((tokens - expected[f"{case}.tokens"]).abs().max()) > 1e-2


@pytest.mark.parametrize("case", ["square", "oblong", "slice"])
def test_parity__rows_and_columns_that_are_not_mapped_fail_2_1(case: str, tmp_path: Path) -> None:
    net, expected = load(plain(tmp_path, "2.1")), fixture("2.1")
    net.net.rope = replace(net.net.rope, trained_grid=0)
    with torch.no_grad():
        tokens = net(expected[f"{case}.pixels"]).tokens
    assert float((tokens - expected[f"{case}.tokens"]).abs().max()) > 1e-2


@pytest.mark.parametrize("key", ["ema_encoder", "target_encoder", "encoder"])
def test_adopt__reads_official_checkpoints(key: str, tmp_path: Path) -> None:
    order = ["ema_encoder", "target_encoder", "encoder"]
    worse = {name: {"module.backbone.junk": torch.zeros(1)} for name in order[order.index(key) + 1 :]}
    prefixed = {f"module.backbone.{name}": value for name, value in weights("2.0").items()}
    prefixed["module.backbone.pos_embed"] = torch.zeros(1, 12, 128)
    content = worse | {key: prefixed, "predictor": {"module.x": torch.ones(1)}, "epoch": 3, "lr": 0.1}
    torch.save(content, tmp_path / "vitl.pt")
    official, bare = load(tmp_path / "vitl.pt"), load(plain(tmp_path, "2.0"))
    pixels = fixture("2.0")["square.pixels"]
    assert torch.equal(official(pixels).tokens, bare(pixels).tokens)


def hub_model(folder: Path) -> VJEPA2Model:
    """Write a hub folder of the 2.0 with heads of 32 channels, all parameters random; return its model."""
    torch.manual_seed(0)
    sizes = {"patch_size": 8, "crop_size": 32, "frames_per_clip": 4, "hidden_size": 64}
    predictor = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    config = VJEPA2Config(**sizes, num_attention_heads=2, num_hidden_layers=2, mlp_ratio=3, **predictor)
    model = VJEPA2Model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        for parameter in model.encoder.embeddings.parameters():
            parameter *= 1e-3  # so faint that the epsilon of the first norm matters
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("older_names", [False, True])
def test_adopt__a_hub_folder_gives_the_features_of_transformers(older_names: bool, tmp_path: Path) -> None:
    model = hub_model(tmp_path)
    if older_names:
        found = load_file(tmp_path / "model.safetensors")
        old = {name.replace(".attention.", ".attention.attention."): value for name, value in found.items()}
        assert old.keys() != found.keys()
        save_file(old, tmp_path / "model.safetensors")
    pixels = torch.rand(2, 1, 4, 32, 32)
    mean, std = (torch.tensor(numbers).view(3, 1, 1, 1) for numbers in (IMAGENET_MEAN, IMAGENET_STD))
    net = load(tmp_path)
    with torch.no_grad():
        clips = ((pixels - mean) / std).transpose(1, 2)
        theirs = model(pixel_values_videos=clips, skip_predictor=True).last_hidden_state
        torch.testing.assert_close(net(pixels).tokens, theirs, **EXACT)
    assert (net.arch.version, net.arch.heads, net.arch.mlp_width) == ("2.0", 2, 192)


@pytest.mark.parametrize("sizes", PUBLISHED, ids=lambda sizes: "-".join(map(str, sizes)))
def test_sizes__have_the_published_number_of_parameters(sizes: tuple[str, int, int, int, int]) -> None:
    version, width, depth, heads, mlp_width = sizes
    with torch.device("meta"):
        net = VJEPA(VJEPAArch(version=version, width=width, depth=depth, heads=heads, mlp_width=mlp_width))
    assert sum(parameter.numel() for parameter in net.parameters()) == PUBLISHED[sizes]


def test_adopt__knows_the_heads_of_h(tmp_path: Path) -> None:
    tensors = {"patch_embed.proj.weight": torch.zeros(1280, 3, 2, 2, 2), "norm.weight": torch.zeros(1280)}
    tensors["blocks.0.mlp.fc1.weight"] = torch.zeros(2, 1280)
    save_file(tensors, tmp_path / "h.safetensors")
    with pytest.raises(WeightsError, match="missing"):
        load(tmp_path / "h.safetensors")
    assert VJEPA.adopt(open_weights(str(tmp_path / "h.safetensors")))[0]["heads"] == 16


@pytest.mark.parametrize("version", ["2.0", "2.1"])
def test_save_encoder__load_restores_every_bit(version: str, tmp_path: Path) -> None:
    net = load(plain(tmp_path, version), depth_rope="interpolate", levels=[0, 2])
    save_encoder(net, "vjepa", tmp_path / "own")
    again = load(tmp_path / "own")
    pixels = fixture(version)["oblong.pixels"]
    assert again.arch == net.arch
    before, after = net(pixels), again(pixels)
    assert torch.equal(after.tokens, before.tokens)
    assert all(torch.equal(a, b) for a, b in zip(after.levels, before.levels, strict=True))


def test_adopt__warns_of_norms_that_were_never_trained(tmp_path: Path) -> None:
    ones, zeros = torch.ones(128), torch.zeros(128)
    fresh = {f"norms_block.{i}.weight": ones.clone() for i in (0, 2)}
    fresh |= {f"norms_block.{i}.bias": zeros.clone() for i in (0, 2)}
    with pytest.warns(UserWarning, match=r"norms_block \[0, 2\] were never trained"):
        load(plain(tmp_path, "2.1", **fresh))


@pytest.mark.parametrize(
    ("version", "other", "message"),
    [("2.0", "2.1", r"net\.norms_block\.0"), ("2.1", "2.0", r"unknown.*net\.img_mod_embed")],
)
def test_load__a_recipe_of_the_other_version_is_an_error(
    version: str, other: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=message + r"[\s\S]*vision\.arch"):
        load(plain(tmp_path, version), version=other)


def test_load__missing_and_unknown_tensors_are_named(tmp_path: Path) -> None:
    found = weights("2.1")
    del found["blocks.2.attn.proj.bias"]
    save_file(found, tmp_path / "less.safetensors")
    with pytest.raises(WeightsError, match=r"missing.*blocks\.2\.attn\.proj\.bias[\s\S]*less\.safetensors"):
        load(tmp_path / "less.safetensors")
    with pytest.raises(WeightsError, match=r"unknown.*cls_token"):
        load(plain(tmp_path, "2.1", cls_token=torch.zeros(1)))
    with pytest.raises(WeightsError, match=r"other shape.*norm2\.bias \(3,\) instead of \(128,\)"):
        load(plain(tmp_path, "2.1", **{"blocks.0.norm2.bias": torch.zeros(3)}))


def test_load__a_hub_folder_that_lacks_a_tensor_is_named(tmp_path: Path) -> None:
    hub_model(tmp_path)
    found = load_file(tmp_path / "model.safetensors")
    del found["encoder.layer.1.attention.key.bias"]
    save_file(found, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"lack.*blocks\.1\.attn\.key\.bias"):
        load(tmp_path)


def test_load__other_peoples_weights_are_refused(tmp_path: Path) -> None:
    for tensors, message in (
        ({"cls_token": torch.zeros(1)}, r"no 3D patch_embed\.proj\.weight among \['cls_token'\]"),
        ({"patch_embed.proj.weight": torch.zeros(8, 3, 16, 16)}, "no 3D patch_embed"),
        ({"patch_embed.proj.weight": torch.zeros(8, 3, 2, 16, 16)}, "no blocks.0.mlp.fc1.weight"),
    ):
        save_file(tensors, tmp_path / "other.safetensors")
        with pytest.raises(WeightsError, match=r"no V-JEPA weights: " + message):
            load(tmp_path / "other.safetensors")
    channels_last = weights("2.1")["patch_embed.proj.weight"].permute(0, 2, 3, 4, 1).contiguous()
    with pytest.raises(WeightsError, match=r"\(128, 2, 4, 4, 3\)[\s\S]*permute"):
        load(plain(tmp_path, "2.1", **{"patch_embed.proj.weight": channels_last}))


def test_load__damaged_files_and_pickled_code_are_named(tmp_path: Path) -> None:
    whole = plain(tmp_path, "2.1").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"damaged[\s\S]*cut\.safetensors"):
        load(tmp_path / "cut.safetensors")
    torch.save({"encoder": Path("code")}, tmp_path / "code.pt")
    with pytest.raises(WeightsError, match=r"could run code[\s\S]*code\.pt"):
        load(tmp_path / "code.pt")
    torch.save({"epoch": 3, "predictor": {}}, tmp_path / "empty.pt")
    with pytest.raises(WeightsError, match=r"no tensors[\s\S]*ema_encoder, target_encoder, encoder"):
        load(tmp_path / "empty.pt")


def test_adopt__takes_the_normalisation_beside_the_weights(tmp_path: Path) -> None:
    hub_model(tmp_path)
    numbers = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(numbers))
    assert load(tmp_path).arch.mean == (0.5, 0.5, 0.5)
