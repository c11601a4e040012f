"""One door to the gated pooling: checks what comes in, then takes the form that fits the device."""

import importlib.util
from typing import Literal

import torch
from torch import Tensor

from glint.errors import UsageError
from glint.ops.chunked import gated_pool_chunked
from glint.ops.reference import GateInputs, Pool, gated_pool_reference

Kernel = Literal["fastest", "reference", "chunked", "triton"]
SMALL_BYTES = (
    4 << 20
)  # of one map of all pairs (S, B, P): up to here the plain form is the fastest on a processor


def gated_pool(x: GateInputs, pool: Pool = "null", kernel: Kernel = "fastest") -> tuple[Tensor, Tensor]:
    """Return scores and gate masses (S, B) of all pairs, differentiable.

    Args:
        x: Inputs; may be empty along any axis of sentences, images or patches.
        pool: null for null_mass and null_token, or l2_mean, vlcabs.
        kernel: fastest takes Triton for the pool null on a CUDA device in fp32, bf16 or fp16; else the reference while
            a map of all pairs has at most SMALL_BYTES, and the chunked form beyond.

    Raises:
        UsageError: If shapes or types do not fit each other, or Triton is asked for where it cannot run.
    """
    try:
        x.check()
    except ValueError as error:
        raise UsageError(f"the gate cannot pool this: {error}") from error
    form = _best(x, pool) if kernel == "fastest" else kernel
    if form == "triton":
        return _triton(x, pool)
    return gated_pool_reference(x, pool) if form == "reference" else gated_pool_chunked(x, pool)


def _best(x: GateInputs, pool: Pool) -> Kernel:
    if x.text.is_cuda and _triton_obstacle(x, pool) is None:
        return "triton"
    itemsize = x.text.element_size()
    is_small = len(x.text) * x.valid.numel() * itemsize <= SMALL_BYTES
    return (
        "reference" if is_small and itemsize >= 4 else "chunked"
    )  # the reference would sum 16-bit numbers as such


def gated_pool_owned(
    x: GateInputs, owner: Tensor, pool: Pool = "null", kernel: Kernel = "fastest"
) -> tuple[Tensor, Tensor]:
    """Return scores and gate masses (S,) of each sentence with its own image `owner` (S,) int64 only.

    Images may have any number of sentences, also none. Errors as in `gated_pool`, and for an owner that is no image.
    """
    if owner.shape != x.text.shape[:1] or owner.dtype != torch.int64:
        raise UsageError(
            f"owner is {owner.dtype} {tuple(owner.shape)}", expected=f"int64 {tuple(x.text.shape[:1])}"
        )
    images = len(x.patches)
    if len(owner) and not 0 <= int(owner.min()) <= int(owner.max()) < images:
        raise UsageError(
            f"owner names an image that is not there: {images} images", expected=f"0..{images - 1}"
        )
    order = owner.argsort(stable=True)
    parts = [gated_pool(x.pairs(rows, int(owner[rows[0]])), pool, kernel) for rows in _runs(order, owner)]
    if not parts:
        scores, mass = gated_pool(x, pool, kernel)
        return scores.sum(1), mass.sum(1)
    place = order.argsort()
    scores, mass = (torch.cat([part[i][:, 0] for part in parts])[place] for i in range(2))
    return scores, mass


def _runs(order: Tensor, owner: Tensor) -> list[Tensor]:
    """Return the sentences of each image that has any, images in order."""
    _, counts = owner[order].unique_consecutive(return_counts=True)
    return list(order.split(counts.tolist())) if len(order) else []


def _triton_obstacle(x: GateInputs, pool: Pool) -> str | None:
    """Say why Triton cannot take these inputs, or None."""
    if pool != "null":
        return f"it has no kernel for {pool}"
    if x.text.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"it does not compute in {x.text.dtype}"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    return None if x.text.device.type == "cuda" or _interprets() else "the tensors are not on a CUDA device"


def _interprets() -> bool:
    """Say whether Triton's interpreter stands in for a GPU (TRITON_INTERPRET=1); for tests."""
    import triton  # pyright: ignore[reportMissingImports] - optional

    return bool(triton.knobs.runtime.interpret)


def _triton(x: GateInputs, pool: Pool) -> tuple[Tensor, Tensor]:
    obstacle = _triton_obstacle(x, pool)
    if obstacle is not None:
        raise UsageError(f"Triton cannot pool this: {obstacle}", fix="use kernel fastest or chunked")
    from glint.ops.triton_gate import gated_sums

    closed = (x.text @ x.null.to(x.text.dtype)).float()
    scalars = x.alpha.float(), x.beta.float(), closed
    inner, mass = gated_sums(x.text, x.queries, x.patches, x.keys, x.valid, *scalars, x.below_null)
    return (inner + x.eps0 * closed[:, None]) / (x.eps0 + mass), mass
