"""The gated sums of all pairs as Triton kernels behind two custom operators. Needs the optional package triton.

    inner[s,b] = sum_p g a          mass[s,b] = sum_p g          (axes and letters as in glint.ops.reference)

Forward is one kernel: a program owns SENTENCES sentences of one image, walks over tiles of its patches, forms logits
and cosines by two small matrix products and keeps two running sums, all in fp32. Backward computes each tile again.
With di, dm the gradients of inner and mass, and a' = 1 where c > n, else below_null:

    dc = di g a'       dz = (di a + dm) g (1 - g)          dn = sum_b di mass - sum dc
    dt = dc v          dv = dc^T t          dq = alpha dz k          dk = alpha dz^T q

A tile's dt and dv have D columns: at D = 512 their fp32 sums do not fit into the registers of a program, and cutting D
would mean computing logits and cosines again for each cut. So a second kernel writes dc and dz of a few images and
patches at a time, in the type of the inputs, into a workspace of WORKSPACE_BYTES that stays in the L2 cache, and the
library's matrix products take them from there, once for the sentences' side and once for the patches' side. The two
scalars cost nothing more: dbeta = sum dz and dalpha = sum dz <q, k> = sum <q, dz k>. There are no atomics.

Scores follow outside, by ordinary differentiable operations on (S, B) numbers: see glint.ops.pool.
"""

# Triton reads the annotations of kernels, so they are plain, and the names of sizes are capitals, as in its own docs.
# pyright: basic, reportArgumentType=false, reportIndexIssue=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
from typing import Any

import torch
import triton  # pyright: ignore[reportMissingImports] - optional
import triton.language as tl  # pyright: ignore[reportMissingImports] - optional
from torch import Tensor

WORKSPACE_BYTES = 32 << 20  # both matrices of gradients; a GPU's L2 cache has 40 to 60 MB
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# The interpreter's product of two bf16 tiles is wrong (it multiplies their bits), that of widened ones is right.
INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))


def _config(sentences: int, patches: int, depth: int, warps: int, stages: int) -> triton.Config:
    sizes = {"SENTENCES": sentences, "PATCHES": patches, "DEPTH": depth}
    return triton.Config(sizes, num_warps=warps, num_stages=stages)


def _configs() -> list[triton.Config]:
    """Return the tiles to choose from; the interpreter cannot time any and takes small ones."""
    if triton.knobs.runtime.interpret:
        return [_config(16, 32, 16, 1, 1)]
    return [
        _config(128, 128, 64, 8, 3),
        _config(128, 128, 64, 8, 4),
        _config(128, 128, 32, 8, 4),
        _config(128, 256, 64, 8, 3),
        _config(64, 128, 64, 4, 3),
        _config(64, 64, 32, 4, 3),  # fp32 inputs: little shared memory
    ]


@triton.jit
def _tile(
    a_ptr, b_ptr, a_rows, b_rows, A_COUNT, B_COUNT, WIDTH, acc, DEPTH: tl.constexpr, EXACT: tl.constexpr
):
    """Return acc + a b^T of rows of two contiguous matrices of WIDTH columns; rows beyond the counts are zeros."""
    for start in range(0, WIDTH, DEPTH):
        at = start + tl.arange(0, DEPTH)
        a_in = (a_rows[:, None] < A_COUNT) & (at[None, :] < WIDTH)
        b_in = (b_rows[None, :] < B_COUNT) & (at[:, None] < WIDTH)
        a = tl.load(a_ptr + a_rows[:, None].to(tl.int64) * WIDTH + at[None, :], mask=a_in, other=0.0)
        b = tl.load(b_ptr + b_rows[None, :].to(tl.int64) * WIDTH + at[:, None], mask=b_in, other=0.0)
        if INTERPRETED:
            a, b = a.to(tl.float32), b.to(tl.float32)
        acc = tl.dot(a, b, acc, input_precision="ieee" if EXACT else "tf32")
    return acc


@triton.jit
def _gate_and_cosine(
    t_ptr, q_ptr, v_ptr, k_ptr, valid_ptr, alpha, beta, rows, columns, S, P, D, G,
    SENTENCES: tl.constexpr, PATCHES: tl.constexpr, DEPTH: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Return gate and cosine of one tile; pointers of patches are those of the image at hand."""
    zeros = tl.zeros((SENTENCES, PATCHES), dtype=tl.float32)
    affinity = _tile(q_ptr, k_ptr, rows, columns, S, P, G, zeros, DEPTH, EXACT)
    cosine = _tile(t_ptr, v_ptr, rows, columns, S, P, D, zeros, DEPTH, EXACT)
    valid = tl.load(valid_ptr + columns, mask=columns < P, other=0) != 0
    gate = tl.where(valid[None, :], tl.sigmoid(alpha * affinity + beta), 0.0)
    return gate, cosine


@triton.jit
def _answer(cosine, closed_ptr, below_null, rows, S):
    """Return what open patches answer, and its slope a'."""
    closed = tl.load(closed_ptr + rows, mask=rows < S, other=0.0)[:, None]
    slope = tl.where(cosine > closed, 1.0, below_null)
    return closed + slope * (cosine - closed), slope


@triton.autotune(configs=_configs(), key=["D", "G"])
@triton.jit(do_not_specialize=["below_null", "S", "B", "P"])
def _sums_kernel(
    t_ptr, q_ptr, v_ptr, k_ptr, valid_ptr, alpha_ptr, beta_ptr, closed_ptr, below_null, inner_ptr, mass_ptr,
    S, B, P, D, G,
    EXACT: tl.constexpr, SENTENCES: tl.constexpr, PATCHES: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * SENTENCES + tl.arange(0, SENTENCES)
    alpha, beta = tl.load(alpha_ptr), tl.load(beta_ptr)
    inner = tl.zeros((SENTENCES,), dtype=tl.float32)
    mass = tl.zeros((SENTENCES,), dtype=tl.float32)
    for start in range(0, P, PATCHES):
        columns = start + tl.arange(0, PATCHES)
        gate, cosine = _gate_and_cosine(
            t_ptr, q_ptr, v_ptr + b * P * D, k_ptr + b * P * G, valid_ptr + b * P, alpha, beta, rows, columns,
            S, P, D, G, SENTENCES, PATCHES, DEPTH, EXACT,
        )  # fmt: skip
        answer, _ = _answer(cosine, closed_ptr, below_null, rows, S)
        inner += tl.sum(gate * answer, axis=1)
        mass += tl.sum(gate, axis=1)
    out = rows.to(tl.int64) * B + b
    tl.store(inner_ptr + out, inner, mask=rows < S)
    tl.store(mass_ptr + out, mass, mask=rows < S)


@triton.autotune(configs=_configs(), key=["D", "G"])
@triton.jit(do_not_specialize=["below_null", "S", "B", "P", "first_image", "first_patch", "COUNT"])
def _weights_kernel(
    t_ptr, q_ptr, v_ptr, k_ptr, valid_ptr, alpha_ptr, beta_ptr, closed_ptr, below_null,
    di_ptr, dm_ptr, dc_ptr, dz_ptr, S, B, P, D, G, first_image, first_patch, COUNT,
    EXACT: tl.constexpr, SENTENCES: tl.constexpr, PATCHES: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Write dc and dz (S, images, COUNT) of COUNT patches of some images."""
    image = tl.program_id(2)
    b = (first_image + image).to(tl.int64)
    rows = tl.program_id(0) * SENTENCES + tl.arange(0, SENTENCES)
    local = tl.program_id(1) * PATCHES + tl.arange(0, PATCHES)
    columns = first_patch + local
    gate, cosine = _gate_and_cosine(
        t_ptr, q_ptr, v_ptr + b * P * D, k_ptr + b * P * G, valid_ptr + b * P, tl.load(alpha_ptr),
        tl.load(beta_ptr), rows, columns, S, P, D, G, SENTENCES, PATCHES, DEPTH, EXACT,
    )  # fmt: skip
    pair = rows.to(tl.int64) * B + b
    di = tl.load(di_ptr + pair, mask=rows < S, other=0.0)[:, None]
    dm = tl.load(dm_ptr + pair, mask=rows < S, other=0.0)[:, None]
    inside = (rows[:, None] < S) & (local[None, :] < COUNT)
    answer, slope = _answer(cosine, closed_ptr, below_null, rows, S)
    dz = (di * answer + dm) * gate * (1.0 - gate)
    out = (rows[:, None].to(tl.int64) * tl.num_programs(2) + image) * COUNT + local[None, :]
    tl.store(dc_ptr + out, (di * gate * slope).to(dc_ptr.dtype.element_ty), mask=inside)
    tl.store(dz_ptr + out, dz.to(dz_ptr.dtype.element_ty), mask=inside)


@torch.library.custom_op("glint::gated_sums", mutates_args=())
def gated_sums(
    text: Tensor, queries: Tensor, patches: Tensor, keys: Tensor, valid: Tensor, alpha: Tensor, beta: Tensor,
    closed: Tensor, below_null: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return inner and mass (S, B), fp32, of inputs shaped as in GateInputs, of one of DTYPES.

    alpha, beta and closed, the null answers n (S,), are fp32.
    """
    text, queries, patches, keys, valid, closed = _contiguous(text, queries, patches, keys, valid, closed)
    sizes = _sizes(text, queries, patches)
    inner, mass = (torch.zeros(sizes[:2], dtype=torch.float32, device=text.device) for _ in range(2))
    if inner.numel() and sizes[2]:
        _sums_kernel[lambda meta: (triton.cdiv(sizes[0], meta["SENTENCES"]), sizes[1])](
            text, queries, patches, keys, valid, alpha, beta, closed, below_null, inner, mass, *sizes,
            EXACT=text.dtype == torch.float32,
        )  # fmt: skip
    return inner, mass


@gated_sums.register_fake
def _(
    text: Tensor, queries: Tensor, patches: Tensor, keys: Tensor, valid: Tensor, alpha: Tensor, beta: Tensor,
    closed: Tensor, below_null: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    shape = (text.shape[0], patches.shape[0])
    return text.new_empty(shape, dtype=torch.float32), text.new_empty(shape, dtype=torch.float32)


@torch.library.custom_op("glint::gated_sums_backward", mutates_args=())
def gated_sums_backward(
    text: Tensor, queries: Tensor, patches: Tensor, keys: Tensor, valid: Tensor, alpha: Tensor, beta: Tensor,
    closed: Tensor, below_null: float, mass: Tensor, d_inner: Tensor, d_mass: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of text, queries (fp32), patches, keys (in their type), alpha, beta and closed (fp32)."""
    text, queries, patches, keys, valid, closed = _contiguous(text, queries, patches, keys, valid, closed)
    dt, dq = (torch.zeros(a.shape, dtype=torch.float32, device=a.device) for a in (text, queries))
    d_beta = torch.zeros((), dtype=torch.float32, device=text.device)
    d_closed = torch.zeros_like(closed)
    sizes = _sizes(text, queries, patches)
    S, B, P = sizes[:3]
    if S == 0 or B == 0 or P == 0:
        d_alpha, dv, dk = (torch.zeros_like(a) for a in (d_beta, patches, keys))
        return dt, dq, dv, dk, d_alpha, d_beta, d_closed
    dv, dk = (torch.empty(*a.shape, dtype=a.dtype, device=a.device) for a in (patches, keys))
    # fp16 gradients of a mean over many pairs would vanish: the workspace holds them relative to their largest.
    unit = torch.maximum(d_inner.abs().max(), d_mass.abs().max())
    unit = torch.where(unit == 0, 1.0, unit)
    di, dm = ((d / unit).float().contiguous() for d in (d_inner, d_mass))
    scale = alpha * unit
    if below_null != 1:  # else nothing depends on it: the difference of two sums would be their rounding
        d_closed += (di * mass).sum(1)
    images, count = workspace(S, B, P, text.element_size())
    for b, p in ((b, p) for b in range(0, B, images) for p in range(0, P, count)):
        n, m = min(images, B - b), min(count, P - p)
        dc, dz = (torch.empty(S, n * m, dtype=text.dtype, device=text.device) for _ in range(2))
        _weights_kernel[_grid(S, m, n)](
            text, queries, patches, keys, valid, alpha, beta, closed, below_null, di, dm, dc, dz,
            *sizes, b, p, m,
            EXACT=text.dtype == torch.float32,
        )  # fmt: skip
        d_beta += dz.sum(dtype=torch.float32)
        if below_null != 1:
            d_closed -= dc.sum(1, dtype=torch.float32)
        part = (slice(b, b + n), slice(p, p + m))
        for weights, d_row, row, d_column, column, factor in (
            (dc, dt, text, dv, patches, unit),
            (dz, dq, queries, dk, keys, scale),
        ):
            d_row += _product(weights, column[part].reshape(n * m, -1))
            d_column[part] = _product(weights.T, row).mul_(factor).view(n, m, -1)
    d_alpha = (dq * queries).sum() * unit
    return dt.mul_(unit), dq.mul_(scale), dv, dk, d_alpha, d_beta * unit, d_closed * unit


@gated_sums_backward.register_fake
def _(
    text: Tensor, queries: Tensor, patches: Tensor, keys: Tensor, valid: Tensor, alpha: Tensor, beta: Tensor,
    closed: Tensor, below_null: float, mass: Tensor, d_inner: Tensor, d_mass: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    dt, dq = (a.new_empty(a.shape, dtype=torch.float32) for a in (text, queries))
    return (
        dt,
        dq,
        patches.new_empty(patches.shape),
        keys.new_empty(keys.shape),
        text.new_empty((), dtype=torch.float32),
        text.new_empty((), dtype=torch.float32),
        torch.empty_like(closed),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.below_null = inputs
    ctx.save_for_backward(*tensors, output[1])


def _backward(ctx: Any, d_inner: Tensor, d_mass: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, mass = ctx.saved_tensors
    dt, dq, dv, dk, *scalars = gated_sums_backward(*tensors, ctx.below_null, mass, d_inner, d_mass)
    found = (dt, dq, dv, dk, None, *scalars)
    return *(None if d is None else d.to(x.dtype) for d, x in zip(found, tensors, strict=True)), None


gated_sums.register_autograd(_backward, setup_context=_save)


def _grid(sentences: int, patches: int, images: int) -> Any:
    return lambda meta: (
        triton.cdiv(sentences, meta["SENTENCES"]),
        triton.cdiv(patches, meta["PATCHES"]),
        images,
    )


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b in fp32, of matrices in the type they have where the library can, else of copies in fp32."""
    if a.is_cuda and a.dtype != torch.float32:
        return torch.mm(a, b, out_dtype=torch.float32)
    return a.float() @ b.float()


def workspace(sentences: int, images: int, patches: int, itemsize: int) -> tuple[int, int]:
    """Return how many images, and patches of each, backward takes at a time; whole images before parts of one."""
    cells = max(1, WORKSPACE_BYTES // (2 * itemsize * max(sentences, 1)))
    if cells < patches:
        return 1, max(min(patches, 128), cells)
    return min(images, cells // patches), patches


def _sizes(text: Tensor, queries: Tensor, patches: Tensor) -> tuple[int, int, int, int, int]:
    return text.shape[0], patches.shape[0], patches.shape[1], text.shape[1], queries.shape[1]


def _contiguous(*tensors: Tensor) -> list[Tensor]:
    return [a.contiguous() for a in tensors]
