"""Mixed images: the pixels, the gates that they should have, and who learns from them."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from glint.config.schema import AlignConfig
from glint.losses.mixing import (
    SIDES,
    Mixture,
    TargetGates,
    mix_halves,
    mixed_gate_loss,
    random_boxes,
    relative_to_peak,
)
from glint.losses.pairs import Pairs
from glint.model.align import Aligner, Patches, Sentences
from glint.ops.spread import find_links

GRID = (4, 4)
HALF, PATCHES, TEXTS = 2, 16, 3


@given(st.lists(st.integers(2, 12), min_size=2, max_size=3), st.integers(0, 2**31))
def test_random_boxes__are_boxes_of_the_sides_they_promise(grid: list[int], seed: int) -> None:
    boxes = random_boxes(tuple(grid), 3, torch.Generator().manual_seed(seed))
    for box in boxes:
        places = box.nonzero()
        sides = places.amax(0) - places.amin(0) + 1
        assert int(box.sum()) == int(sides.prod()), "no holes, one piece"
        for side, whole in zip(sides.tolist(), grid, strict=True):
            assert max(1, round(SIDES[0] * whole) - 1) <= side <= round(SIDES[1] * whole) + 1


@pytest.mark.parametrize(("patch", "sides"), [((8, 8), (32, 32)), ((2, 4, 4), (8, 16, 16))])
def test_mix_halves__puts_whole_patches_where_they_were(
    patch: tuple[int, ...], sides: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(0)
    images, valid = (
        torch.rand(5, 2, *sides, generator=generator),
        torch.rand(5, *sides, generator=generator) > 0.5,
    )
    grid = tuple(side // cell for side, cell in zip(sides, patch, strict=True))
    mixed = mix_halves(images, valid, grid, patch, generator)
    assert mixed.images.shape == (2, 2, *sides), "half of five images; the last one is in no pair"
    for i in range(2):
        box = mixed.inside[i].reshape(grid)
        for axis, cell in enumerate(patch):
            box = box.repeat_interleave(cell, axis)
        assert 0 < int(box.sum()) < box.numel()
        assert torch.equal(mixed.images[i][:, box], images[2 + i][:, box])
        assert torch.equal(mixed.images[i][:, ~box], images[i][:, ~box])
        assert torch.equal(mixed.valid_px[i], torch.where(box, valid[2 + i], valid[i]))


def aligner() -> Aligner:
    torch.manual_seed(0)
    return Aligner(AlignConfig(dim=8, gate_dim=8), text_width=8, vision_width=8, num_patches=PATCHES)


def unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def patches(seed: int) -> Patches:
    return Patches(
        unit(HALF, PATCHES, 8, seed=seed),
        unit(HALF, PATCHES, 8, seed=seed + 100),
        torch.ones(HALF, PATCHES, dtype=torch.bool),
    )


def pieced(first: Patches, second: Patches, inside: Tensor) -> Patches:
    """What an encoder whose patches see nothing but themselves makes of mixed images."""
    assert first.keys is not None
    assert second.keys is not None
    values, keys = (
        torch.where(inside[..., None], b, a)
        for a, b in ((first.values, second.values), (first.keys, second.keys))
    )
    return Patches(values, keys.clone().requires_grad_(), first.valid)


def loss_of(told: list[list[int]], unknown: list[list[int]] | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss, the keys of mixed patches and the queries; `told` (S, 2 * HALF) says whose report has what."""
    align, inside = aligner(), torch.zeros(HALF, PATCHES, dtype=torch.bool)
    inside[:, 5:11] = True
    sentences = Sentences(unit(TEXTS, 8, seed=7), unit(TEXTS, 8, seed=8).requires_grad_())
    positive = torch.tensor(told, dtype=torch.bool)
    silent = torch.zeros_like(positive) if unknown is None else torch.tensor(unknown, dtype=torch.bool)
    pairs = Pairs(["a", "b", "c"], positive, silent, torch.tensor([True, True, False]))
    first, second = patches(1), patches(2)
    mixed = pieced(first, second, inside)
    loss = mixed_gate_loss(align, sentences, pairs, Mixture((first, second), mixed, inside))
    assert mixed.keys is not None
    assert sentences.queries is not None
    return loss, mixed.keys, sentences.queries


def pull(keys: Tensor, queries: Tensor, text: int, image: int) -> Tensor:
    """Return (P,) how much a step would open (+) or close (-) the gate of a text in the patches of a mixed image."""
    assert keys.grad is not None
    return -(keys.grad[image] @ queries[text].detach())


def test_mixed_gate_loss__opens_what_both_reports_have_and_closes_nothing_of_it() -> None:
    loss, keys, queries = loss_of(
        [[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0]]
    )  # patches see only themselves, so all that is asked is that the peak be open
    loss.backward()
    for text in (0, 1):
        assert float(pull(keys, queries, text, text).min()) > -1e-7
        assert float(pull(keys, queries, text, text).max()) > 1e-6
    assert queries.grad is None


def test_mixed_gate_loss__closes_the_gate_in_the_part_whose_report_lacks_the_sentence() -> None:
    loss, keys, queries = loss_of([[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    loss.backward()
    closes = pull(keys, queries, 0, 0) < -1e-7
    assert closes.tolist() == [5 <= p < 11 for p in range(PATCHES)], "the box came from an image without it"
    assert keys.grad is not None
    assert not bool(keys.grad[1].any()), "neither image of the second pair has it"


def test_relative_to_peak__does_not_depend_on_how_far_the_gate_opens() -> None:
    gate = torch.rand(3, 20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(relative_to_peak(gate), relative_to_peak(gate * 0.03))
    by_hand = relative_to_peak(torch.tensor([[0.4, 0.2, 0.1, 0.1, 0.05]]))
    torch.testing.assert_close(by_hand, torch.tensor([[1, 1, 0.5, 0.5, 0.25]]))
    assert float(relative_to_peak(torch.zeros(1, 5)).max()) == 0


@pytest.mark.parametrize(
    ("told", "unknown"),
    [
        ([[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], None),  # the third sentence affirms nothing
        ([[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], [[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]),
    ],
    ids=["nothing is affirmed", "it may be true of the box"],
)
def test_mixed_gate_loss__is_zero_where_nothing_can_be_said(
    told: list[list[int]], unknown: list[list[int]] | None
) -> None:
    loss, _, _ = loss_of(told, unknown)
    assert float(loss) == 0.0


def test_mixed_gate_loss__is_zero_and_not_nan_where_all_is_padding() -> None:
    sentences = Sentences(unit(1, 8, seed=0), unit(1, 8, seed=1))
    image = Patches(unit(1, 4, 8, seed=2), unit(1, 4, 8, seed=3), torch.zeros(1, 4, dtype=torch.bool))
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    pairs = Pairs(["a"], ~nothing, nothing, torch.tensor([True]))
    images = Mixture((image, image), image, nothing[:, :1].expand(1, 4))
    loss = mixed_gate_loss(aligner(), sentences, pairs, images)
    assert float(loss.detach()) == 0.0


def at(sentences: Sentences, *cosines: float) -> Patches:
    """Patches of an image whose keys have these cosines with the first query."""
    assert sentences.queries is not None
    query = sentences.queries[0]
    other = F.normalize(unit(1, 8, seed=2)[0] - (unit(1, 8, seed=2)[0] @ query) * query, dim=-1)
    keys = torch.stack([c * query + (1 - c * c) ** 0.5 * other for c in cosines])[None]
    return Patches(keys, keys, torch.ones(1, len(cosines), dtype=torch.bool))


def both_told() -> Pairs:
    """One sentence, which two reports have."""
    return Pairs(
        ["a"], torch.tensor([[True, True]]), torch.zeros(1, 2, dtype=torch.bool), torch.tensor([True])
    )


def test_mixed_gate_loss__by_hand() -> None:
    align, inside = aligner(), torch.tensor([[False, True]])
    sentences = Sentences(unit(1, 8, seed=0), unit(1, 8, seed=1))
    sources = at(sentences, 0.9, 0.1), at(sentences, 0.2, 0.8)
    images = Mixture(sources, at(sentences, 0.5, 0.3), inside)
    found = mixed_gate_loss(align, sentences, both_told(), images)
    assert align.gate is not None
    gates = (align.gate.logits(torch.tensor(c)).sigmoid() for c in ([0.9, 0.1], [0.2, 0.8], [0.5, 0.3]))
    first, second, have = gates
    target = torch.stack([first[0] / first.mean(), second[1] / second.mean()]).clamp(max=1)
    expected = -(target * have.log() + (1 - target) * (1 - have).log()).mean()
    torch.testing.assert_close(found, expected)
    images = Mixture(sources, at(sentences, 0.3), inside, torch.tensor([[1]]))
    one = mixed_gate_loss(align, sentences, both_told(), images)
    expected = -(target[1] * have[1].log() + (1 - target[1]) * (1 - have[1]).log())
    torch.testing.assert_close(one, expected)


def test_mixed_gate_loss__targets_of_another_model_spread_over_what_looks_alike() -> None:
    align, inside = aligner(), torch.zeros(1, 6, dtype=torch.bool)
    sentences, others = (Sentences(unit(1, 8, seed=n), unit(1, 8, seed=n + 1)) for n in (0, 3))
    first, mixed = at(others, 0.9, *[-0.5] * 5), at(sentences, *[0.0] * 6)
    assert mixed.keys is not None
    mixed.keys.requires_grad_()
    halves = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]).reshape(1, 1, 1, 6)
    links = find_links(halves, torch.ones(1, 6, dtype=torch.bool), (1, 1))
    images = Mixture((first, first), mixed, inside, None, (links, links))
    targets = TargetGates(aligner(), others, rounds=50)
    mixed_gate_loss(align, sentences, both_told(), images, targets).backward()
    assert sentences.queries is not None
    opens = pull(mixed.keys, sentences.queries, 0, 0) > 0
    assert opens.tolist() == [True, True, True, False, False, False]
