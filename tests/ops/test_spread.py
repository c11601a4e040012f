"""Maps spread over what looks alike, and stop at edges."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from glint.ops.spread import ALIKE, find_links, peaks, spread


def flat(grid: tuple[int, ...], rounds: int, start: int, pixels: Tensor | None = None) -> Tensor:
    """Spread a map that is open in the PEAK patches from `start` on, on an image of one voxel a patch."""
    pixels = torch.zeros(grid) if pixels is None else pixels
    valid = torch.ones(1, pixels.numel(), dtype=torch.bool)
    links = find_links(pixels[None, None], valid, (1,) * len(grid))
    maps = torch.zeros(1, pixels.numel())
    maps[0, start : start + 4] = 0.8
    return spread(maps, links, [1], rounds)[0].reshape(grid)


@pytest.mark.parametrize("grid", [(8, 8), (4, 6, 5)])
def test_spread__fills_an_even_image_and_keeps_the_peak(grid: tuple[int, ...]) -> None:
    found = flat(grid, 200, 0)
    torch.testing.assert_close(found, torch.full(grid, 0.8), rtol=0.02, atol=0)
    assert float(peaks(flat(grid, 2, 0).reshape(1, -1))) == pytest.approx(0.8)


def test_spread__stops_at_an_edge() -> None:
    pixels = torch.zeros(8, 8)
    pixels[:, 4:] = 5 * ALIKE
    found = flat((8, 8), 100, 0, pixels)
    assert float(found[:, :4].min()) > 0.7
    assert float(found[:, 4:].max()) < 0.01


def test_spread__one_round_by_hand() -> None:
    pixels = torch.tensor([[0.0, 0.0, ALIKE]])
    links = find_links(pixels[None, None], torch.ones(1, 3, dtype=torch.bool), (1, 1))
    maps = torch.tensor([[0.9, 0.0, 0.0]])
    edge = torch.tensor(-0.5).exp()
    expected = torch.tensor([[(0.9 + 0) / 2, 0.9 / (2 + edge), 0.0]])
    expected = expected * (0.9 / 3) / expected.mean()  # of three patches all are the peak
    torch.testing.assert_close(spread(maps, links, [1], 1), expected)


def test_spread__padding_takes_and_gives_nothing() -> None:
    valid = torch.ones(1, 16, dtype=torch.bool)
    valid[0, 8:] = False
    links = find_links(torch.zeros(1, 1, 4, 4), valid, (1, 1))
    found = spread(torch.rand(3, 16) * valid, links, [3], 10)
    assert not bool(found[:, 8:].any())
    assert float(found[:, :8].min()) > 0


def test_spread__of_nothing_is_nothing() -> None:
    links = find_links(torch.zeros(2, 1, 4, 4), torch.ones(2, 16, dtype=torch.bool), (1, 1))
    assert not bool(spread(torch.zeros(2, 16), links, [0, 2], 3).any())
    assert spread(torch.zeros(0, 16), links, [0, 0], 3).shape == (0, 16)


@given(st.integers(0, 2**31), st.sampled_from([(4, 5), (3, 4, 5)]), st.integers(0, 4))
def test_spread__is_the_same_image_by_image_and_mirrored(
    seed: int, grid: tuple[int, ...], rounds: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    patch = (2,) * len(grid)
    pixels = torch.rand(2, 3, *(2 * side for side in grid), generator=generator)
    maps = torch.rand(5, *grid, generator=generator)
    links = find_links(pixels, torch.ones(2, maps[0].numel(), dtype=torch.bool), patch)
    together = spread(maps.flatten(1), links, [2, 3], rounds)
    assert float(together.min()) >= 0
    assert float(together.max()) <= 1
    alone = spread(maps[2:].flatten(1), links.of(slice(1, 2)), [3], rounds)
    torch.testing.assert_close(together[2:], alone)
    turned = find_links(pixels.flip(-1), torch.ones(2, maps[0].numel(), dtype=torch.bool), patch)
    mirrored = spread(maps.flip(-1).flatten(1), turned, [2, 3], rounds)
    torch.testing.assert_close(mirrored.reshape(maps.shape).flip(-1), together.reshape(maps.shape))
