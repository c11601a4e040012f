"""Gated pooling in blocks that fit into the processor's cache; nothing of size S x B x P is ever held.

Forward keeps scores and masses only; backward computes each block again. All work is in the library's own matrix
products; the rest is done in place on one block (CACHE_BYTES), so that memory does not grow with pairs or patches.
Gradients of scores s and masses m, for the null pools, with n = sum_p g a + eps0 <t, u> and N = eps0 + m:

    dn = ds / N          dN = -ds s / N + dm          dg = dn a + dN          dz = dg g (1 - g)
    dc = dn g a'         dt += dc v                   dv += dc^T t
    dq += alpha dz k     dk += alpha dz^T q           dalpha = sum dz <q, k>          dbeta = sum dz
    d<t, u> = sum dn (eps0 + sum_p g (1 - a'))        deps0 = sum dn <t, u> - ds s / N

a is the answer of an open patch: the cosine c with a' = 1, or a part a' = below_null of what is below <t, u>.

For l2_mean and vlcabs, dy = ds (t / |y| - s y / |y|^2) and dg = <dy, v>; the logits of vlcabs are c / tau.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from glint.ops.reference import TINY, GateInputs, Pool, answers, gate_and_cosine

CACHE_BYTES = 1 << 20  # of one (sentences, patches) matrix of a block; a handful of them are alive at a time
MAX_SENTENCES = 1024
Rows = Tensor | slice  # sentences: indices without repetition, or a range


def gated_pool_chunked(x: GateInputs, pool: Pool = "null") -> tuple[Tensor, Tensor]:
    """Return scores (S, B) and gate masses (S, B), differentiable in everything but `valid`."""
    tensors = (x.text, x.queries, x.patches, x.keys, x.valid, x.alpha, x.beta, x.eps0, x.null, x.tau)
    return _GatedPool.apply(pool, x.below_null, *tensors)  # pyright: ignore[reportReturnType]


class _GatedPool(torch.autograd.Function):
    """Autograd around the loops below."""

    @staticmethod
    def forward(ctx: Any, pool: Pool, below_null: float, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        x = GateInputs(*tensors, below_null=below_null)
        scores, mass = forward(x, pool)
        ctx.pool, ctx.below_null = pool, below_null
        ctx.save_for_backward(*tensors, scores, mass)
        return scores, mass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        *tensors, scores, mass = ctx.saved_tensors
        x = GateInputs(*tensors, below_null=ctx.below_null)
        return None, None, *backward(x, ctx.pool, scores, mass, grads[0], grads[1])


def forward(x: GateInputs, pool: Pool) -> tuple[Tensor, Tensor]:
    """Compute scores and masses (S, B), block by block, in the type of the inputs (fp32 sums for bf16)."""
    shape = (len(x.text), len(x.patches))
    total = accumulator(x.text)
    mass, inner = (torch.zeros(shape, dtype=total, device=x.text.device) for _ in range(2))
    scores = torch.empty_like(mass)
    for b in range(shape[1]):
        level = softmax_level(x, b) if pool == "vlcabs" else None
        pooled = torch.zeros(x.text.shape, dtype=total, device=x.text.device) if pool != "null" else None
        for rows, columns in blocks(x, b):
            gate, cosine = block(x, b, rows, columns, level)
            mass[rows, b] += gate.sum(-1, dtype=total)
            if pooled is None:
                cosine = answer_block(x, rows, cosine)
            else:
                pooled[rows] += (gate @ x.patches[b, columns]).to(total)
            inner[rows, b] += cosine.mul_(gate).sum(-1, dtype=total)
        if pooled is not None:
            scores[:, b] = inner[:, b] / pooled.norm(dim=-1).clamp_min(TINY)
    if pool == "null":
        scores = (inner + x.eps0 * (x.text @ x.null).to(total)[:, None]) / (x.eps0 + mass)
    return scores, mass


def backward(
    x: GateInputs, pool: Pool, scores: Tensor, mass: Tensor, d_scores: Tensor, d_mass: Tensor
) -> tuple[Tensor | None, ...]:
    """Return the gradients of the fields of GateInputs, in their order."""
    names = ("text", "queries", "patches", "keys", "alpha", "beta", "eps0", "null", "tau")
    # With one block a patch there is nothing to sum in a wider type.
    own = ("patches", "keys") if pool == "null" and len(x.text) <= MAX_SENTENCES else ()
    inputs = {name: getattr(x, name) for name in names}
    d = {n: torch.zeros_like(t, dtype=t.dtype if n in own else scores.dtype) for n, t in inputs.items()}
    if pool == "null":
        everything = ((b, rows, columns) for b in range(len(x.patches)) for rows, columns in blocks(x, b))
        backward_null(x, d, scores, mass, d_scores, d_mass, everything)
    else:
        for b in range(len(x.patches)):
            _backward_pooled(x, d, b, pool == "vlcabs", scores[:, b], d_scores[:, b], d_mass[:, b])
    grads = {name: value.to(getattr(x, name).dtype) for name, value in d.items()}
    order = ("text", "queries", "patches", "keys", "valid", "alpha", "beta", "eps0", "null", "tau")
    return tuple(grads.get(name) for name in order)


def backward_null(
    x: GateInputs,
    d: dict[str, Tensor],
    scores: Tensor,
    mass: Tensor,
    d_scores: Tensor,
    d_mass: Tensor,
    tiles: Iterable[tuple[int, Rows, slice]],
) -> None:
    """Add the gradients of null_mass and null_token to `d`, those of `tiles` (image, sentences, patches) only."""
    share = d_scores / (x.eps0 + mass)
    through_mass = d_mass - share * scores
    weight = (x.eps0 * share).sum(1)
    for b, rows, columns in tiles:
        gate, cosine = block(x, b, rows, columns)
        dn = share[rows, b, None].to(cosine.dtype)
        weighted = gate * dn
        if x.below_null != 1:
            lost = weighted * (cosine <= null_answers(x, rows)) * (1 - x.below_null)
            weight[rows] += lost.sum(-1, dtype=weight.dtype)
            weighted -= lost
        d["text"][rows] += weighted @ x.patches[b, columns]
        d["patches"][b, columns] += weighted.T @ x.text[rows]
        d_gate = answer_block(x, rows, cosine).mul_(dn).add_(through_mass[rows, b, None])
        _backward_gate(x, d, b, rows, columns, gate, d_gate)
    closed = (x.text @ x.null).to(scores.dtype)[:, None]
    d["eps0"] += (share * (closed - scores)).sum()
    d["text"] += weight[:, None] * x.null
    d["null"] += weight.to(x.text.dtype) @ x.text


def _backward_pooled(
    x: GateInputs,
    d: dict[str, Tensor],
    b: int,
    softmax: bool,
    scores: Tensor,
    d_scores: Tensor,
    d_mass: Tensor,
) -> None:
    """Add the gradients of l2_mean or vlcabs of image b to `d`; scores and their gradients (S,)."""
    level = softmax_level(x, b) if softmax else None
    y = torch.zeros(x.text.shape, dtype=scores.dtype, device=x.text.device)
    for rows, columns in blocks(x, b):
        y[rows] += (block(x, b, rows, columns, level)[0] @ x.patches[b, columns]).to(y.dtype)
    length = y.norm(dim=-1, keepdim=True)
    safe = length.clamp_min(TINY)
    d["text"] += d_scores[:, None] * y / safe
    along = torch.where(length > TINY, scores[:, None] * y / safe.square(), 0.0)
    d_y = d_scores[:, None] * (x.text / safe - along)
    constant = (d_y * y).sum(-1)  # what a softmax takes from all of its gradients alike
    for rows, columns in blocks(x, b):
        gate, cosine = block(x, b, rows, columns, level)
        v, dy = x.patches[b, columns], d_y[rows].to(x.patches.dtype)
        d["patches"][b, columns] += gate.T @ dy
        d_gate = dy @ v.T
        if not softmax:
            _backward_gate(x, d, b, rows, columns, gate, d_gate.add_(d_mass[rows, None]))
            continue
        d_logit = d_gate.sub_(constant[rows, None]).mul_(gate)
        d["tau"] -= (d_logit * cosine).sum(dtype=y.dtype) / x.tau**2
        d_cosine = d_logit / x.tau
        d["text"][rows] += d_cosine @ v
        d["patches"][b, columns] += d_cosine.T @ x.text[rows]


def _backward_gate(
    x: GateInputs, d: dict[str, Tensor], b: int, rows: Rows, columns: slice, gate: Tensor, d_gate: Tensor
) -> None:
    """Take the gradient of a block's gate to queries, keys, alpha and beta; overwrites gate and d_gate."""
    q, k, total = x.queries[rows], x.keys[b, columns], d["beta"].dtype
    d_logit = d_gate.mul_(gate).mul_(gate.neg_().add_(1))
    d["beta"] += d_logit.sum(dtype=total)
    d_logit_k = d_logit @ k  # serves alpha, too: sum dz <q, k> = sum <q, dz k>
    d["alpha"] += (d_logit_k * q).sum(dtype=total)
    d["queries"][rows] += x.alpha * d_logit_k
    d["keys"][b, columns] += x.alpha * (d_logit.T @ q)


def block(
    x: GateInputs, b: int, rows: Rows, columns: slice, level: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return weights and cosine (sentences, patches) of one block: gates, or those of a softmax with its `level`."""
    cosine = x.text[rows] @ x.patches[b, columns].T
    if level is not None:
        logits = (cosine / x.tau).masked_fill_(~x.valid[b, columns], -torch.inf)
        return logits.sub_(level[rows, None]).exp_(), cosine
    logits = (x.queries[rows] @ x.keys[b, columns].T).mul_(x.alpha).add_(x.beta)
    return logits.sigmoid_().mul_(x.valid[b, columns]), cosine


def answer_block(x: GateInputs, rows: Rows, cosine: Tensor) -> Tensor:
    """Return what the patches of a block answer when they are open."""
    return cosine if x.below_null == 1 else answers(cosine, null_answers(x, rows), x.below_null)


def null_answers(x: GateInputs, rows: Rows) -> Tensor:
    """Return the scores (sentences, 1) of closed gates."""
    return (x.text[rows] @ x.null)[:, None]


def softmax_level(x: GateInputs, b: int) -> Tensor:
    """Return log sum_p exp(c / tau) (S,) over the valid patches of image b; 0 where there are none."""
    level = torch.full((len(x.text),), -torch.inf, dtype=accumulator(x.text), device=x.text.device)
    for rows, columns in blocks(x, b):
        logits = (x.text[rows] @ x.patches[b, columns].T).to(level.dtype) / x.tau
        part = logits.masked_fill_(~x.valid[b, columns], -torch.inf).logsumexp(-1)
        level[rows] = torch.logaddexp(level[rows], part)
    return level.masked_fill(level == -torch.inf, 0.0)


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


def maps(x: GateInputs, rows: Rows, b: int) -> tuple[Tensor, Tensor]:
    """Return gate and cosine (sentences, P) of some sentences on one image: the maps that somebody asked for."""
    gate, cosine = gate_and_cosine(x.pairs(rows, b))
    return gate[:, 0], cosine[:, 0]


def gates(x: GateInputs, pairs: Tensor) -> Tensor:
    """Return the gates (K, P), fp32 at least, of the K pairs that are set in `pairs` (S, B) bool, image by image."""
    # In bf16 an open gate would be 1, and the logarithm of what it lacks infinite.
    total = accumulator(x.keys)
    # unbind, not keys[b]: the gradient of an index is a tensor as large as all keys, once for every image.
    images = zip(pairs.unbind(1), x.keys.unbind(), x.valid.unbind(), strict=True)
    return torch.cat(
        [
            (x.alpha * (x.queries[rows] @ keys.T).to(total) + x.beta).sigmoid() * valid
            for rows, keys, valid in images
        ]
    )
