"""Gated pooling in blocks that fit into the processor's cache; nothing of size S x B x P is ever held.

Forward keeps scores and masses only; backward computes each block again. All work is in the library's own matrix
products; the rest is done in place on one block (CACHE_BYTES), so that memory does not grow with pairs or patches.
Gradients of scores s and masses m, for the null pools, with n = sum_p g c + eps0 <t, u> and N = eps0 + m:

    dn = ds / N          dN = -ds s / N + dm          dg = dn c + dN          dz = dg g (1 - g)
    dt += (dn g) v       dv += (dn g)^T t             dq += alpha dz k        dk += alpha dz^T q
    dalpha = sum dz <q, k>          dbeta = sum dz          deps0 = sum dn <t, u> - ds s / N
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from glint.ops.reference import TINY, GateInputs, Pool, gate_and_cosine

CACHE_BYTES = 1 << 20  # of one (sentences, patches) matrix of a block; a handful of them are alive at a time
MAX_SENTENCES = 1024


def gated_pool_chunked(x: GateInputs, pool: Pool = "null") -> tuple[Tensor, Tensor]:
    """Return scores (S, B) and gate masses (S, B), differentiable in everything but `valid`."""
    tensors = (x.text, x.queries, x.patches, x.keys, x.valid, x.alpha, x.beta, x.eps0, x.null)
    return _GatedPool.apply(pool, *tensors)  # pyright: ignore[reportReturnType]


class _GatedPool(torch.autograd.Function):
    """Autograd around the loops below."""

    @staticmethod
    def forward(ctx: Any, pool: Pool, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        x = GateInputs(*tensors)
        scores, mass = forward(x, pool)
        ctx.pool = pool
        ctx.save_for_backward(*tensors, scores, mass)
        return scores, mass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        *tensors, scores, mass = ctx.saved_tensors
        found = backward(GateInputs(*tensors), ctx.pool, scores, mass, grads[0], grads[1])
        return None, *found


def forward(x: GateInputs, pool: Pool) -> tuple[Tensor, Tensor]:
    """Compute scores and masses (S, B), block by block, in the type of the inputs (fp32 sums for bf16)."""
    shape = (len(x.text), len(x.patches))
    total = accumulator(x.text)
    mass, inner = (torch.zeros(shape, dtype=total, device=x.text.device) for _ in range(2))
    pooled = torch.zeros(shape[0], x.patches.shape[-1], dtype=total, device=x.text.device)
    scores = torch.empty_like(mass)
    for b in range(shape[1]):
        if pool == "l2_mean":
            pooled.zero_()
        for rows, columns in blocks(x, b):
            gate, cosine = block(x, b, rows, columns)
            mass[rows, b] += gate.sum(-1, dtype=total)
            if pool == "l2_mean":
                pooled[rows] += (gate @ x.patches[b, columns]).to(total)
            inner[rows, b] += cosine.mul_(gate).sum(-1, dtype=total)
        if pool == "l2_mean":
            scores[:, b] = inner[:, b] / pooled.norm(dim=-1).clamp_min(TINY)
    if pool != "l2_mean":
        scores = (inner + x.eps0 * (x.text @ x.null).to(total)[:, None]) / (x.eps0 + mass)
    return scores, mass


def backward(
    x: GateInputs, pool: Pool, scores: Tensor, mass: Tensor, d_scores: Tensor, d_mass: Tensor
) -> tuple[Tensor | None, ...]:
    """Return the gradients of the fields of GateInputs, in their order."""
    total = scores.dtype
    d = {
        name: torch.zeros_like(getattr(x, name), dtype=total)
        for name in ("text", "queries", "patches", "keys", "alpha", "beta", "eps0", "null")
    }
    share = d_scores / (x.eps0 + mass) if pool == "null" else torch.zeros_like(d_scores)
    through_mass = d_mass - (share * scores if pool == "null" else 0)
    for b in range(len(x.patches)):
        d_pooled = _d_pooled(x, b, scores[:, b], d_scores[:, b]) if pool == "l2_mean" else None
        for rows, columns in blocks(x, b):
            gate, cosine = block(x, b, rows, columns)
            v, k, t, q = x.patches[b, columns], x.keys[b, columns], x.text[rows], x.queries[rows]
            if d_pooled is not None:
                d_gate = (d_pooled[rows].to(v.dtype) @ v.T).add_(through_mass[rows, b, None])
                d["patches"][b, columns] += gate.T @ d_pooled[rows].to(v.dtype)
            else:
                dn = share[rows, b, None].to(cosine.dtype)
                d_gate = cosine.mul_(dn).add_(through_mass[rows, b, None])
                weighted = gate * dn
                d["text"][rows] += weighted @ v
                d["patches"][b, columns] += weighted.T @ t
            d_logit = d_gate.mul_(gate).mul_(gate.neg_().add_(1))
            d["beta"] += d_logit.sum(dtype=total)
            d_logit_k = d_logit @ k  # serves alpha, too: sum dz <q, k> = sum <q, dz k>
            d["alpha"] += (d_logit_k * q).sum(dtype=total)
            d["queries"][rows] += x.alpha * d_logit_k
            d["keys"][b, columns] += x.alpha * (d_logit.T @ q)
    if pool == "l2_mean":
        d["text"] += _d_text_l2(x, d_scores)
    else:
        closed = (x.text @ x.null).to(total)[:, None]
        d["eps0"] += (share * (closed - scores)).sum()
        weight = (x.eps0 * share).sum(1)
        d["text"] += weight[:, None] * x.null
        d["null"] += weight.to(x.text.dtype) @ x.text
    grads = {name: value.to(getattr(x, name).dtype) for name, value in d.items()}
    order = ("text", "queries", "patches", "keys", "valid", "alpha", "beta", "eps0", "null")
    return tuple(grads.get(name) for name in order)


def block(x: GateInputs, b: int, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
    """Return gate and cosine (sentences, patches) of one block."""
    logits = (x.queries[rows] @ x.keys[b, columns].T).mul_(x.alpha).add_(x.beta)
    gate = logits.sigmoid_().mul_(x.valid[b, columns])
    return gate, x.text[rows] @ x.patches[b, columns].T


def blocks(x: GateInputs, b: int) -> Iterator[tuple[slice, slice]]:
    """Yield (sentences, patches) slices of one image whose matrices have CACHE_BYTES each."""
    count, patches = len(x.text), x.patches.shape[1]
    rows = min(count, MAX_SENTENCES)
    columns = max(64, CACHE_BYTES // (x.text.element_size() * max(rows, 1)))
    for i in range(0, count, rows or 1):
        for j in range(0, patches, columns):
            yield slice(i, i + rows), slice(j, j + columns)


def accumulator(values: Tensor) -> torch.dtype:
    """Return the type of sums: that of the values, but fp32 at least."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def _pooled(x: GateInputs, b: int) -> Tensor:
    """Return y = sum_p g v (S, D) of one image."""
    pooled = torch.zeros(x.text.shape, dtype=accumulator(x.text), device=x.text.device)
    for rows, columns in blocks(x, b):
        gate, _ = block(x, b, rows, columns)
        pooled[rows] += (gate @ x.patches[b, columns]).to(pooled.dtype)
    return pooled


def _d_pooled(x: GateInputs, b: int, scores: Tensor, d_scores: Tensor) -> Tensor:
    """Return the gradient of y (S, D) of one image: ds (t / |y| - s y / |y|^2)."""
    y = _pooled(x, b)
    length = y.norm(dim=-1, keepdim=True)
    safe = length.clamp_min(TINY)
    along = torch.where(length > TINY, scores[:, None] * y / safe.square(), 0.0)
    return d_scores[:, None] * (x.text / safe - along)


def _d_text_l2(x: GateInputs, d_scores: Tensor) -> Tensor:
    """Return the gradient of t for l2_mean: sum_b ds y / |y|."""
    found = torch.zeros(x.text.shape, dtype=d_scores.dtype, device=x.text.device)
    for b in range(len(x.patches)):
        y = _pooled(x, b)
        found += d_scores[:, b, None] * y / y.norm(dim=-1, keepdim=True).clamp_min(TINY)
    return found


def maps(x: GateInputs, rows: slice, b: int) -> tuple[Tensor, Tensor]:
    """Return gate and cosine (sentences, P) of some sentences on one image: the maps that somebody asked for."""
    part = GateInputs(
        x.text[rows], x.queries[rows], x.patches[b, None], x.keys[b, None], x.valid[b, None],
        x.alpha, x.beta, x.eps0, x.null,
    )  # fmt: skip
    gate, cosine = gate_and_cosine(part)
    return gate[:, 0], cosine[:, 0]
