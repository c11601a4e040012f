"""Maps flow between neighbouring patches that look alike; the edges of the image hold them back.

A sentence is told apart by a part of what it names: the rim of a lung, the lower border of an effusion. What it names
goes on as far as the image does not change. So a map m is averaged with its neighbours, along one axis after the other:

    a_pq = exp(-|f_p - f_q|^2 / (2 ALIKE^2))           f: mean pixels of a patch, all channels; 0 where q is padding
    m_p <- (m_p + sum_q a_pq m_q) / (1 + sum_q a_pq)   q: the patches before and after p along the axis

and its peak is kept. No mask is read. Sources: affinity propagation of class activation maps (arXiv 1803.10464);
docs/decisions.md. Axes: B images, C channels, N maps, P patches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

ALIKE = 0.1
"""Difference of mean pixels, in [0, 1], at which two patches are hardly alike (weight 0.61)."""
PEAK = 4
"""Patches that make the peak of a map: one alone may be an accident."""
CACHED = 1 << 18
"""Numbers of maps that are gone through together: these fit into the cache of a processor, and take half the time."""


@dataclass(frozen=True, slots=True)
class Links:
    """How much neighbouring patches of images are alike.

    Attributes:
        grid: Patches along each axis.
        taken: For each axis two tensors (B, *grid with one patch less on that axis), of each patch p and the next one q
            along it: the share a_pq / (1 + sum_r a_pr) of their difference that p takes, and q likewise.
    """

    grid: tuple[int, ...]
    taken: tuple[tuple[Tensor, Tensor], ...]

    def of(self, images: slice) -> "Links":
        """Return those of some images."""
        return Links(self.grid, tuple((p[images], q[images]) for p, q in self.taken))


def find_links(pixels: Tensor, valid: Tensor, patch: tuple[int, ...]) -> Links:
    """Compare neighbouring patches.

    Args:
        pixels: (B, C, *sides) in [0, 1].
        valid: (B, P), False on padding.
        patch: Pixels (voxels) of a patch along each axis.
    """
    pool = F.avg_pool2d if len(patch) == 2 else F.avg_pool3d
    mean = pool(pixels, patch)
    inside = valid.reshape(len(mean), *mean.shape[2:])
    taken = list[tuple[Tensor, Tensor]]()
    for axis in range(1, inside.dim()):
        alike = torch.exp(mean.diff(dim=axis + 1).square().sum(1) / (-2 * ALIKE**2))
        before, after = _ends(inside, axis)
        alike = alike * (before & after)
        total = torch.ones_like(inside, dtype=alike.dtype)
        for end in _ends(total, axis):
            end += alike
        before, after = _ends(total, axis)
        taken.append((alike / before, alike / after))
    return Links(tuple(inside.shape[1:]), tuple(taken))


def spread(maps: Tensor, links: Links, counts: Sequence[int], rounds: int) -> Tensor:
    """Return maps (N, P) after some rounds, each with the peak that it had.

    Args:
        maps: (N, P) in [0, 1], image by image.
        links: Of B images.
        counts: How many of the maps are of each of the B images.
        rounds: How often all axes are gone through; patches that far apart can exchange anything.
    """
    result = maps.clone()
    peak = peaks(maps)
    for image, part in enumerate(result.split(list(counts))):
        for few in part.split(max(1, CACHED // part.shape[1])):
            _flow(few.view(-1, *links.grid), links, image, rounds)
    return result.mul_(peak / peaks(result).clamp_min(1e-6)).clamp_(max=1)


def spread_all(maps: Tensor, links: Links, rounds: int) -> Tensor:
    """Return maps (S, B, P) of all sentences and B images after some rounds of `spread`."""
    texts, images, _ = maps.shape
    by_image = spread(maps.transpose(0, 1).flatten(0, 1), links, [texts] * images, rounds)
    return by_image.unflatten(0, (images, texts)).transpose(0, 1)


def peaks(maps: Tensor) -> Tensor:
    """Return (N, 1): the mean of the PEAK highest patches of each map (N, P)."""
    return maps.topk(min(PEAK, maps.shape[1]), dim=1).values.mean(1, keepdim=True)


def _flow(maps: Tensor, links: Links, image: int, rounds: int) -> None:
    """Change maps (n, *grid) of one image in place."""
    for _ in range(rounds):
        for axis, (by_p, by_q) in enumerate(links.taken, start=1):
            more = maps.diff(dim=axis)
            p, q = _ends(maps, axis)
            p.addcmul_(more, by_p[image])
            q.addcmul_(more, by_q[image], value=-1)


def _ends(each: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return all but the last, and all but the first along an axis."""
    length = each.shape[axis] - 1
    return each.narrow(axis, 0, length), each.narrow(axis, 1, length)
