"""Mixed images: the gates of an image with a box of another in it are put together in the same way.

    x' = x_a outside of the box, x_b inside
    target_s = h_s(x_a) outside, h_s(x_b) inside; 0 where a report lacks s      h = min(1, g / peak of g)
    L_mix = mean over sentences s that either report affirms, patches p, of BCE(g_sp(x'), target_sp)

A gate that opens beside a finding, because the patch sees it from there, is wrong here: what was seen is gone, or lies
across the seam. And the inside of a finding has to be known without its telling edge. Targets are the gates of
the model itself at this step and get no gradient; no mask is read.
Sources: CutMix (arXiv 1905.04899), as consistency of dense predictions (arXiv 1906.01916); docs/method.md.
Axes: S sentences, B studies, H = B // 2 mixed images, P patches, K pairs of a sentence and a mixed image.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from glint.losses.pairs import Pairs
from glint.model.align import Aligner, Patches, Sentences

SIDES = (0.3, 0.7)
"""Least and largest side of a box, as a share of the token grid."""
PEAK = 4
"""Patches that make the peak of a gate: one alone may be an accident."""


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


def mixed_gate_loss(
    align: Aligner,
    sentences: Sentences,
    pairs: Pairs,
    first: Patches,
    second: Patches,
    mixed: Patches,
    inside: Tensor,
) -> Tensor:
    """Compare the gates of mixed images with those that they should have; zero when nothing can be compared.

    Args:
        align: Makes gates of sentences and patches.
        sentences: Those of `pairs`; they get no gradient from here.
        pairs: Which sentence is true of which of the B images.
        first: The first H images as they are.
        second: Those whose boxes were put into them.
        mixed: The mixed images, the same patches.
        inside: (H, P).
    """
    half = len(inside)
    told = pairs.claims[:, :half], pairs.claims[:, half : 2 * half]
    unknown = pairs.unknown[:, :half] | pairs.unknown[:, half : 2 * half]
    compared = (told[0] | told[1]) & ~unknown
    if not bool(compared.any()):
        return mixed.values.sum() * 0.0
    queries = None if sentences.queries is None else sentences.queries.detach()
    sentences = Sentences(sentences.values.detach(), queries)
    with torch.no_grad():
        outside, within = (
            relative_to_peak(align.gates(sentences, image, compared)) * own.T[compared.T][:, None]
            for image, own in zip((first, second), told, strict=True)
        )
        row = compared.T.nonzero()[:, 0]
        target = torch.where(inside[row], within, outside)
    loss = F.binary_cross_entropy(align.gates(sentences, mixed, compared), target, reduction="none")
    valid = mixed.valid[row]
    return (loss * valid).sum() / valid.sum().clamp_min(1)  # hidden patches may leave nothing but padding


def relative_to_peak(gate_KP: Tensor) -> Tensor:
    """Return gates (K, P) of sentences that are true, relative to the mean of their PEAK widest open patches.

    Somewhere the gate of a true sentence is open, all the way. The score alone does not ask for it: a lung is so large
    that its patches outweigh the null answer at a twentieth, and no threshold would then fit lungs and nodules.
    """
    peak = gate_KP.topk(min(PEAK, gate_KP.shape[1]), dim=1).values.mean(1, keepdim=True)
    return (gate_KP / peak.clamp_min(1e-6)).clamp(max=1)
