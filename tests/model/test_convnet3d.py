"""The ConvNet on volumes: grid, order of tokens, view, checkpointing."""

from typing import Any

import pytest
import torch

from glint.model.vision.convnet import ConvNet3d, ConvNetArch

TINY: dict[str, Any] = {"widths": (8, 8, 16), "depths": (0, 1, 2), "neck_width": 16, "coarse_kernel": 1}


def net(**settings: Any) -> ConvNet3d:
    torch.manual_seed(0)
    return ConvNet3d(ConvNetArch.model_validate(TINY | settings))


@pytest.mark.parametrize(
    ("settings", "multiple", "patch"),
    [
        ({}, 16, 8),
        ({"coarsest_stride": 4, "token_stride": 4}, 4, 4),
        ({"stem_stride": 2, "token_stride": 4}, 8, 4),
    ],
)
def test_forward__grid_and_levels(settings: dict[str, Any], multiple: int, patch: int) -> None:
    encoder = net(**settings)
    assert (encoder.multiple, encoder.patch) == ((multiple,) * 3, (patch,) * 3)
    out = encoder(torch.rand(2, 1, 16, 32, 48))
    assert out.grid == (16 // patch, 32 // patch, 48 // patch)
    assert out.tokens.shape == (2, 16 * 32 * 48 // patch**3, 16)
    assert len(out.levels) == 2


@pytest.mark.parametrize(
    ("settings", "view"),
    [
        ({"coarsest_stride": 4, "token_stride": 4, "depths": (1, 0, 3)}, 23),
        ({"stem_stride": 2, "token_stride": 4, "depths": (0, 1, 2), "coarsest_stride": 4}, 25),
    ],
)
def test_view_px__is_what_gradients_reach_and_tokens_are_row_major(
    settings: dict[str, Any], view: int
) -> None:
    encoder = net(**settings).eval()
    assert encoder.arch.view_px == view
    images = torch.rand(1, 1, 48, 56, 64, requires_grad=True)
    out = encoder(images)
    z, y, x = 6, 7, 8
    out.tokens[0, (z * out.grid[1] + y) * out.grid[2] + x].sum().backward()
    assert images.grad is not None
    reached = images.grad[0, 0].nonzero()
    assert (reached.amax(0) - reached.amin(0) + 1).tolist() == [view] * 3
    middle = (reached.amax(0) + reached.amin(0)).float() / 2
    assert (middle - torch.tensor([4.0 * z, 4.0 * y, 4.0 * x])).abs().max() <= 4


def test_checkpointing__same_gradients_and_same_statistics() -> None:
    images = torch.rand(2, 1, 16, 16, 16)
    results: list[dict[str, torch.Tensor]] = []
    for again in (False, True):
        encoder = net(checkpointing=again).train()
        encoder(images).tokens.square().sum().backward()
        gradients = {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
        results.append(gradients | {name: b.float() for name, b in encoder.named_buffers()})
    assert results[0].keys() == results[1].keys()
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
