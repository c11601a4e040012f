"""V-JEPA as an encoder: sizes, slices, positions, settings, training. Parity is in test_vjepa_weights.py."""

import copy
from dataclasses import replace

import pytest
import torch
from pydantic import JsonValue, ValidationError
from torch import Tensor

from glint.config.schema import VisionConfig
from glint.errors import ConfigError, DataError
from glint.model.vision.registry import build_vision
from glint.model.vision.vjepa import VJEPA, VJEPAArch, hierarchical_levels
from glint.model.vision.vjepa_vit import Rope, rope_tables

TINY: dict[str, JsonValue] = {"patch_px": 8, "tubelet": 4, "width": 96, "depth": 4, "heads": 3}
SMALLEST: dict[str, JsonValue] = {"patch_px": 2, "tubelet": 1, "width": 24, "depth": 1, "heads": 1}


def encoder(arch: dict[str, JsonValue] = TINY, **settings: JsonValue) -> VJEPA:
    """An encoder whose parameters are all random, so that no part can be left out unnoticed."""
    torch.manual_seed(0)
    net = build_vision(VisionConfig(name="vjepa", arch=arch | settings)).eval()
    assert isinstance(net, VJEPA)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net


def volume(*size: int, channels: int = 1) -> Tensor:
    return torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("version", ["2.0", "2.1"])
def test_forward__grid_and_levels_of_a_volume(version: str) -> None:
    net = encoder(version=version)
    out = net(volume(8, 16, 24))
    assert out.grid == (2, 2, 3)
    assert out.tokens.shape == (1, 12, 96)
    assert [level.shape for level in out.levels] == [(1, 12, 96)] * 3
    assert net.patch_mm((2.0, 0.5, 0.25)) == (8.0, 4.0, 2.0)


def test_forward__tokens_are_in_row_major_order() -> None:
    net = encoder()
    flat = torch.full((1, 1, 8, 32, 32), 0.5)
    changed = flat.clone()
    changed[..., 4:, 0:8, 16:24] = 1.0
    difference = (net(changed).tokens - net(flat).tokens).norm(dim=-1).reshape(2, 4, 4)
    assert int(difference.argmax()) == 1 * 16 + 0 * 4 + 2


def test_forward__levels_are_outputs_of_blocks() -> None:
    net, seen = encoder(levels=[1, 3]), list[Tensor]()
    for block in net.blocks():
        block.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    out = net(volume(8, 16, 16))
    assert len(seen) == 4
    assert torch.equal(out.levels[0], seen[1])
    assert torch.equal(out.levels[1], seen[3])
    assert torch.equal(out.tokens, net.net.norms_block[-1](seen[3]))


def test_hierarchical_levels__are_as_published() -> None:
    assert hierarchical_levels(12) == (2, 5, 8, 11)
    assert hierarchical_levels(24) == (5, 11, 17, 23)
    assert hierarchical_levels(40) == (9, 19, 29, 39)
    assert hierarchical_levels(48) == (11, 23, 37, 47)


@pytest.mark.parametrize("size", [(7, 16, 16), (8, 20, 16), (8, 16, 9), (1, 20, 9)])
def test_forward__a_size_that_does_not_fit_is_named_and_pad_makes_it_fit(size: tuple[int, ...]) -> None:
    net = encoder()
    pixels = volume(*size)
    named = " x ".join(map(str, size[1:] if size[0] == 1 else size))
    with pytest.raises(DataError, match=rf"{named} does not fit VJEPA[\s\S]*multiples of[\s\S]*pad"):
        net(pixels)
    padded = net.pad(pixels)
    assert torch.equal(padded[:, :, : size[0], : size[1], : size[2]], pixels)
    assert float(padded.sum()) == pytest.approx(float(pixels.sum()))
    assert (padded.shape[2] == 1) == (size[0] == 1)
    assert net(padded).tokens.isfinite().all()


def test_forward__single_slices_are_for_2_1_only() -> None:
    assert encoder()(volume(1, 16, 24)).grid == (1, 2, 3)
    older = encoder(version="2.0")
    with pytest.raises(DataError, match=r"1 x 16 x 24 does not fit"):
        older(volume(1, 16, 24))
    assert older.pad(volume(1, 16, 24)).shape[2] == 4


def test_forward__channels_of_their_own() -> None:
    net = encoder()
    gray = volume(4, 16, 16)
    assert torch.equal(net(gray.expand(-1, 3, -1, -1, -1)).tokens, net(gray).tokens)
    windows = volume(4, 16, 16, channels=3)
    assert not torch.allclose(net(windows).tokens, net(windows[:, :1]).tokens, atol=1e-3)
    with pytest.raises(DataError, match=r"2 channels does not fit[\s\S]*1 or 3 channels"):
        net(volume(4, 16, 16, channels=2))
    with pytest.raises(DataError, match=r"3 channels does not fit[\s\S]*fold_gray"):
        encoder(fold_gray=True)(windows)


@pytest.mark.parametrize("size", [(8, 16, 16), (1, 16, 24)])
def test_fold_gray__equals_repeated_and_normalised_channels(size: tuple[int, ...]) -> None:
    pixels = volume(*size)
    folded, plain = encoder(fold_gray=True)(pixels), encoder()(pixels)
    torch.testing.assert_close(folded.tokens, plain.tokens, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(folded.levels, plain.levels, atol=1e-5, rtol=1e-5)


def test_positions__are_spread_over_the_trained_grid() -> None:
    rope = Rope(head_dim=32, tiled=False, trained_grid=16, trained_depth=32)
    depth, rows, columns = rope.positions((32, 31, 1))
    assert depth.tolist() == list(range(32))  # as long as in training: as it is
    assert rows.tolist() == [i / 2 for i in range(31)]
    assert columns.tolist() == [0.0]  # a single patch, where upstream divides by zero
    depth, rows, _ = replace(rope, trained_grid=0).positions((63, 31, 1))
    assert depth.tolist() == [i / 2 for i in range(63)]
    assert rows.tolist() == list(range(31))
    depth, _, _ = replace(rope, trained_depth=0).positions((63, 1, 1))
    assert depth.tolist() == list(range(63))


@pytest.mark.parametrize("version", ["2.0", "2.1"])
def test_depth_rope__changes_only_what_is_deeper_than_training(version: str) -> None:
    raw, mapped = (encoder(SMALLEST, version=version, depth_rope=d) for d in ("raw", "interpolate"))
    assert torch.equal(raw(volume(32, 4, 4)).tokens, mapped(volume(32, 4, 4)).tokens)
    assert not torch.allclose(raw(volume(64, 4, 4)).tokens, mapped(volume(64, 4, 4)).tokens, atol=1e-4)


@pytest.mark.parametrize("size", [(4, 8, 24), (4, 24, 8), (4, 8, 8), (1, 8, 8)])
def test_forward__axes_of_a_single_patch_are_finite(size: tuple[int, ...]) -> None:
    out = encoder()(volume(*size))
    assert out.tokens.isfinite().all()
    assert all(level.isfinite().all() for level in out.levels)


def test_checkpointing__gives_the_same_gradients() -> None:
    gradients: list[list[Tensor | None]] = []
    for checkpointing in (False, True):
        net = encoder(checkpointing=checkpointing).train()
        out, calls = net(volume(8, 16, 16)), list[int]()
        net.blocks()[0].register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        sum((level.square().mean() for level in out.levels), out.tokens.sin().mean()).backward()
        assert len(calls) == int(checkpointing)  # computed again in the backward pass
        gradients.append([parameter.grad for parameter in net.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_forward__positions_made_during_inference_serve_training() -> None:
    net, pixels = encoder(), volume(4, 8, 40)  # a grid that no other test has in its cache
    rope_tables.cache_clear()
    with torch.inference_mode():
        net(pixels)
    net(pixels).tokens.sum().backward()
    gradient = net.net.blocks[0].attn.qkv.weight.grad  # pyright: ignore
    assert gradient.abs().sum() > 0


def test_forward__bf16_stays_near_fp32() -> None:
    net, pixels = encoder(), volume(8, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(pixels).tokens
    torch.testing.assert_close(rough.float(), net(pixels).tokens, atol=0.1, rtol=0.1)


def test_training__a_tiny_encoder_learns_from_scratch() -> None:
    torch.manual_seed(0)
    net = build_vision(VisionConfig(name="vjepa", arch=TINY)).train()
    head, pixels = torch.nn.Linear(96, 1), torch.rand(8, 1, 8, 16, 16)
    target = pixels.unfold(2, 4, 4).unfold(3, 8, 8).unfold(4, 8, 8).mean((-3, -2, -1)).flatten(1)
    target = (
        target - target.mean()
    ) / target.std()  # the mean of each patch; 1.0 is the loss of knowing nothing
    optimiser = torch.optim.AdamW([*net.parameters(), *head.parameters()], lr=1e-3)
    for _ in range(60):
        loss = (head(net(pixels).tokens)[..., 0] - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.2


def test_copy__a_deep_copy_computes_the_same() -> None:
    net = encoder()
    assert torch.equal(copy.deepcopy(net)(volume(4, 16, 16)).tokens, net(volume(4, 16, 16)).tokens)


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ({"width": 96}, "no multiple of 64: say how many heads"),
        ({"width": 96, "heads": 5}, "even number of channels"),
        ({"width": 96, "heads": 24}, "6 or more"),
        ({"levels": [6]}, "blocks 0 to 5"),
        ({"version": "2.2"}, "2.1"),
    ],
)
def test_arch__impossible_settings_are_named(arch: dict[str, JsonValue], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        VJEPAArch.model_validate(arch)
    with pytest.raises(ConfigError, match=message):
        build_vision(VisionConfig(name="vjepa", arch=arch))
