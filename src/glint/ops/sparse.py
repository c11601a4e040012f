"""Gated pooling that skips what closed gates hide: gate logits of all pairs, cosines of open tiles only.

A tile is one sentence and TILE neighbouring patches of one image. With a_T = sum over the tile of g, m = sum of all g,
P patches and the promised error epsilon, the tile is skipped if

    a_T <= epsilon (eps0 + m) |T| / P

What unit vectors answer, a, is at most 1, and the mass is always summed in full. So a score is wrong by at most

    |sum over skipped p of g a| / (eps0 + m)  <=  sum over skipped T of a_T / (eps0 + m)  <=  epsilon

Backward leaves the skipped tiles out, too; docs/gate.md bounds what that changes. A promise of 0 skips only what is 0.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glint.ops.chunked import CACHE_BYTES, Rows, accumulator, answer_block, backward_null, block, blocks
from glint.ops.reference import GateInputs

TILE = 64
DENSE = 0.7  # from this share of open sentences on, gathering them costs more than it saves


def gated_pool_sparse(x: GateInputs, epsilon: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Return scores (S, B), wrong by at most `epsilon`, and exact masses (S, B); the pool null, differentiable."""
    tensors = (x.text, x.queries, x.patches, x.keys, x.valid, x.alpha, x.beta, x.eps0, x.null, x.tau)
    return _SparsePool.apply(epsilon, x.below_null, *tensors)  # pyright: ignore[reportReturnType]


class _SparsePool(torch.autograd.Function):
    """Autograd around open tiles; what is open is found once, in forward."""

    @staticmethod
    def forward(ctx: Any, epsilon: float, below_null: float, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        x = GateInputs(*tensors, below_null=below_null)
        ctx.below_null = below_null
        mass, is_open = open_tiles(x, epsilon)
        inner = torch.zeros_like(mass)
        for b, rows, columns in _walk(x, is_open):
            gate, cosine = block(x, b, rows, columns)
            inner[rows, b] += answer_block(x, rows, cosine).mul_(gate).sum(-1, dtype=inner.dtype)
        scores = (inner + x.eps0 * (x.text @ x.null).to(mass.dtype)[:, None]) / (x.eps0 + mass)
        ctx.save_for_backward(*tensors, scores, mass, is_open)
        return scores, mass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        *tensors, scores, mass, is_open = ctx.saved_tensors
        x = GateInputs(*tensors, below_null=ctx.below_null)
        names = ("text", "queries", "patches", "keys", "alpha", "beta", "eps0", "null")
        d = {name: torch.zeros_like(getattr(x, name), dtype=scores.dtype) for name in names}
        backward_null(x, d, scores, mass, grads[0], grads[1], _walk(x, is_open))
        found = [d[name].to(getattr(x, name).dtype) for name in names]
        return None, None, *found[:4], None, *found[4:], None


@torch.no_grad()
def open_tiles(x: GateInputs, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return masses (S, B) and which tiles are open (S, B, T), T = ceil(P / TILE), the last one maybe shorter.

    Tiles with a gate, patch or sentence that is not finite stay open, so that nothing hides it.
    """
    sentences, images, patches = len(x.text), len(x.patches), x.patches.shape[1]
    tiles = -(-patches // TILE)
    sums = torch.zeros(sentences, images, tiles, dtype=accumulator(x.text), device=x.text.device)
    step = TILE * max(1, CACHE_BYTES // (TILE * x.text.element_size() * max(sentences, 1)))
    for b in range(images):
        for start in range(0, patches, step):
            gate = _gate(x, b, slice(start, start + step))
            padded = F.pad(gate, (0, -gate.shape[1] % TILE)).unflatten(1, (-1, TILE))
            sums[:, b, start // TILE : start // TILE + padded.shape[1]] = padded.sum(-1, dtype=sums.dtype)
    mass = sums.sum(-1)
    sizes = torch.full((tiles,), TILE, device=x.text.device)
    if tiles:
        sizes[-1] = patches - (tiles - 1) * TILE
    share = epsilon * (x.eps0 + mass)[..., None] * sizes / max(patches, 1)
    strange = F.pad(~x.patches.sum(-1).isfinite(), (0, -patches % TILE)).unflatten(1, (tiles, TILE)).any(-1)
    return mass, ~(sums <= share) | strange | ~x.text.sum(-1).isfinite()[:, None, None]


def _gate(x: GateInputs, b: int, columns: slice) -> Tensor:
    logits = (x.queries @ x.keys[b, columns].T).mul_(x.alpha).add_(x.beta)
    return logits.sigmoid_().mul_(x.valid[b, columns])


def _walk(x: GateInputs, is_open: Tensor) -> Iterator[tuple[int, Rows, slice]]:
    """Yield (image, sentences, patches) that cover the open tiles; whole images where almost nothing is closed."""
    for b in range(len(x.patches)):
        counts = is_open[:, b].sum(0).tolist()
        if sum(counts) >= DENSE * is_open[:, b].numel():
            yield from ((b, rows, columns) for rows, columns in blocks(x, b))
            continue
        for tile, count in enumerate(counts):
            if count:
                rows = is_open[:, b, tile].nonzero()[:, 0]
                yield b, rows, slice(tile * TILE, (tile + 1) * TILE)
