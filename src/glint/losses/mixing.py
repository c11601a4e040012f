"""Mixed images: the gates of an image with a box of another in it are put together in the same way.

    x' = x_a outside of the box, x_b inside
    target_s = h_s(x_a) outside, h_s(x_b) inside; 0 where a report lacks s      h = min(1, g / peak of g)
    L_mix = mean over sentences s that either report affirms, patches p, of BCE(g_sp(x'), target_sp)

A gate that opens beside a finding, because the patch sees it from there, is wrong here: what was seen is gone, or lies
across the seam. And the inside of a finding has to be known without its telling edge. Targets are the gates of
the model itself at this step and get no gradient; no mask is read. Or they are those of the model that training went
on from, spread over patches that look alike (ops/spread.py): the gate learns how far what it opened on goes. Its own,
spread at every step, would go on and on.
Sources: CutMix (arXiv 1905.04899), as consistency of dense predictions (arXiv 1906.01916); docs/method.md.
Axes: S sentences, B studies, H = B // 2 mixed images, P patches, K pairs of a sentence and a mixed image.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from glint.losses.pairs import Pairs
from glint.model.align import Aligner, Patches, Sentences
from glint.ops.spread import Links, peaks, spread

SIDES = (0.3, 0.7)
"""Least and largest side of a box, as a share of the token grid."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """Images of the first half of a batch with boxes of the second half.

    Attributes:
        images: (H, C, *sides).
        valid_px: (H, *sides), False on padding.
        inside: (H, P), True for patches of the box.
    """

    images: Tensor
    valid_px: Tensor
    inside: Tensor


def mix_halves(
    images: Tensor,
    valid_px: Tensor,
    grid: tuple[int, ...],
    patch: tuple[int, ...],
    generator: torch.Generator,
) -> Mixed:
    """Put a random box of whole patches of image H + i into image i, at the place that it has there.

    Args:
        images: (B, C, *sides).
        valid_px: (B, *sides).
        grid: Patches along each axis.
        patch: Pixels (voxels) of a patch along each axis.
        generator: CPU generator.
    """
    half = len(images) // 2
    inside = random_boxes(grid, half, generator).to(images.device)
    pixels = inside
    for axis, side in enumerate(patch, start=1):
        pixels = pixels.repeat_interleave(side, axis)
    return Mixed(
        torch.where(pixels[:, None], images[half : 2 * half], images[:half]),
        torch.where(pixels, valid_px[half : 2 * half], valid_px[:half]),
        inside.flatten(1),
    )


def random_boxes(grid: tuple[int, ...], count: int, generator: torch.Generator) -> Tensor:
    """Return (count, *grid) bool, True inside of one box each."""
    inside = torch.ones(count, *grid, dtype=torch.bool)
    for axis, side in enumerate(grid, start=1):
        length = (side * torch.empty(count).uniform_(*SIDES, generator=generator)).round().clamp_min(1)
        start = ((side - length + 1) * torch.rand(count, generator=generator)).floor()
        place = torch.arange(side)
        within = (place >= start[:, None]) & (place < (start + length)[:, None])
        inside &= within.reshape(count, *(side if n == axis else 1 for n in range(1, len(grid) + 1)))
    return inside


@dataclass(frozen=True, slots=True)
class Mixture:
    """Encoded: the two halves of a batch, and the H images mixed of them.

    Attributes:
        sources: All patches of the first half, and of the second, as the model sees them whose gates are the targets.
        mixed: The mixed images, all patches or those that are chosen.
        inside: (H, P), True for patches of the box.
        chosen: (H, n) which patches of `mixed` there are; None for all.
        links: How patches of both halves are alike, for targets that spread.
    """

    sources: tuple[Patches, Patches]
    mixed: Patches
    inside: Tensor
    chosen: Tensor | None = None
    links: tuple[Links, Links] | None = None


@dataclass(frozen=True, slots=True)
class TargetGates:
    """A frozen model whose gates, spread over what looks alike, are the targets.

    Attributes:
        align: Makes its gates.
        sentences: As it reads them.
        rounds: In which its gates spread (ops/spread.py).
    """

    align: Aligner
    sentences: Sentences
    rounds: int


def mixed_gate_loss(
    align: Aligner, sentences: Sentences, pairs: Pairs, images: Mixture, targets: TargetGates | None = None
) -> Tensor:
    """Compare the gates of mixed images with those that they should have; zero when nothing can be compared.

    Args:
        align: Makes gates of sentences and patches.
        sentences: Those of `pairs`; they get no gradient from here.
        pairs: Which sentence is true of which of the B images.
        images: The images.
        targets: Whose gates are the targets; None for the model itself.
    """
    half = len(images.inside)
    told = pairs.claims[:, :half], pairs.claims[:, half : 2 * half]
    unknown = pairs.unknown[:, :half] | pairs.unknown[:, half : 2 * half]
    compared = (told[0] | told[1]) & ~unknown
    if not bool(compared.any()):
        return images.mixed.values.sum() * 0.0
    queries = None if sentences.queries is None else sentences.queries.detach()
    sentences = Sentences(sentences.values.detach(), queries)
    targets = TargetGates(align, sentences, 0) if targets is None else targets
    row = compared.T.nonzero()[:, 0]
    with torch.no_grad():
        outside, within = (
            _target(targets, patches, compared, own, None if images.links is None else images.links[number])
            for number, (patches, own) in enumerate(zip(images.sources, told, strict=True))
        )
        target = torch.where(images.inside[row], within, outside)
        target = target if images.chosen is None else target.gather(1, images.chosen[row])
    gate = align.gates(sentences, images.mixed, compared)
    loss = F.binary_cross_entropy(gate, target, reduction="none")
    valid = images.mixed.valid[row]
    return (loss * valid).sum() / valid.sum().clamp_min(1)  # hidden patches may leave nothing but padding


def _target(
    targets: TargetGates, patches: Patches, compared: Tensor, own: Tensor, links: Links | None
) -> Tensor:
    """Return what the gates of the K compared pairs should be in an image, (K, P): 0 where its report lacks it."""
    asked = compared & own
    gate = targets.align.gates(targets.sentences, patches, asked)
    if links is not None:
        gate = spread(gate, links, asked.sum(0).tolist(), targets.rounds)
    target = gate.new_zeros(int(compared.sum()), gate.shape[1])
    target[own.T[compared.T]] = relative_to_peak(gate)
    return target


def relative_to_peak(gate_KP: Tensor) -> Tensor:
    """Return gates (K, P) of sentences that are true, relative to the mean of their few widest open patches.

    Somewhere the gate of a true sentence is open, all the way. The score alone does not ask for it: a lung is so large
    that its patches outweigh the null answer at a twentieth, and no threshold would then fit lungs and nodules.
    """
    return (gate_KP / peaks(gate_KP).clamp_min(1e-6)).clamp(max=1)
