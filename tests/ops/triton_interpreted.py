"""The Triton kernels in Triton's interpreter, on the processor, against the reference in fp64.

test_triton.py runs this file in a process of its own: TRITON_INTERPRET must be set before triton is imported.
"""

import dataclasses

import pytest
import torch
from torch import Tensor

from glint.errors import UsageError
from glint.ops import triton_gate
from glint.ops.pool import gated_pool
from glint.ops.reference import GateInputs, gated_pool_reference

from .conftest import inputs

NAMES = ("text", "queries", "patches", "keys", "alpha", "beta", "eps0", "null")


def pooled(x: GateInputs, kernel: str) -> tuple[tuple[Tensor, Tensor], dict[str, Tensor]]:
    leaves = {name: getattr(x, name).clone().requires_grad_() for name in NAMES}
    scores, mass = gated_pool(dataclasses.replace(x, **leaves), kernel=kernel)  # type: ignore[arg-type]
    g = torch.Generator().manual_seed(3)
    a, b = (torch.randn(scores.shape, generator=g, dtype=torch.float64).to(scores.dtype) for _ in range(2))
    ((scores * a).sum() + 0.1 * (mass * b).sum()).backward()
    grads = {
        name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for name, leaf in leaves.items()
    }
    return (scores.detach(), mass.detach()), grads


def compare(x: GateInputs, tolerance: float) -> None:
    exact = dataclasses.replace(x, **{name: getattr(x, name).double() for name in (*NAMES, "tau")})
    (values, grads), (truth, true_grads) = pooled(x, "triton"), pooled(exact, "reference")
    for mine, right in zip(values, truth, strict=True):
        assert float((mine - right).abs().max()) <= tolerance * max(1.0, float(right.abs().max()))
    for name in NAMES:
        error = (grads[name].double() - true_grads[name]).abs().max()
        assert float(error) <= 10 * tolerance * max(1.0, float(true_grads[name].abs().max())), name


@pytest.mark.parametrize("below_null", [1.0, 0.02])
@pytest.mark.parametrize(
    ("sentences", "images", "patches", "width", "gate_width", "alpha", "beta"),
    [
        (1, 1, 1, 1, 1, 6.0, -2.0),
        (17, 2, 33, 19, 5, 6.0, -2.0),
        (5, 3, 70, 40, 16, 50.0, 0.0),  # steep
        (5, 3, 40, 20, 16, 1.0, -60.0),  # closed
        (5, 3, 40, 20, 16, 1.0, 60.0),  # open
    ],
)
def test_triton__equals_the_reference(
    sentences: int,
    images: int,
    patches: int,
    width: int,
    gate_width: int,
    alpha: float,
    beta: float,
    below_null: float,
) -> None:
    x = inputs(1, sentences, images, patches, width, gate_width, alpha, beta, dtype=torch.float32)
    compare(dataclasses.replace(x, below_null=below_null), 1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_triton__lower_precision_stays_close(dtype: torch.dtype) -> None:
    compare(inputs(2, 9, 2, 50, 32, 16, dtype=dtype), 1e-2)


def test_triton__workspace_smaller_than_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_gate, "WORKSPACE_BYTES", 2048)
    assert triton_gate.workspace(5, 3, 150, 4) == (1, 128)
    compare(inputs(4, 5, 2, 150, 8, 8, dtype=torch.float32, below_null=0.1), 1e-6)
    assert triton_gate.workspace(5, 3, 20, 4) == (2, 20)
    compare(inputs(5, 5, 3, 20, 8, 8, dtype=torch.float32), 1e-6)


def test_triton__outputs_are_written_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that nobody wrote is NaN."""
    monkeypatch.setattr(torch, "empty", lambda *size, **kw: torch.full(size, torch.nan, **kw))
    compare(inputs(6, 18, 2, 35, 8, 8, dtype=torch.float32), 1e-6)


def test_triton__tiny_fp16_gradients_do_not_vanish() -> None:
    x = inputs(7, 4, 2, 12, 8, 8, dtype=torch.float16)
    zero, closed, mass = torch.zeros(4, 2), torch.zeros(4), torch.ones(4, 2)
    found = [
        triton_gate.gated_sums_backward(
            x.text,
            x.queries,
            x.patches,
            x.keys,
            x.valid,
            x.alpha.float(),
            x.beta.float(),
            closed,
            0.1,
            mass,
            scale + zero,
            zero,
        )
        for scale in (1.0, 1e-12)
    ]
    for big, small in zip(*found, strict=True):
        if big.dtype == torch.float32:  # gradients of patches and keys come in the type of their inputs
            torch.testing.assert_close(small * 1e12, big, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("sentences", "images"), [(0, 2), (3, 0)])
def test_triton__nothing_to_pair(sentences: int, images: int) -> None:
    (scores, mass), grads = pooled(inputs(0, sentences, images, dtype=torch.float32), "triton")
    assert scores.shape == mass.shape == (sentences, images)
    assert all(float(grad.abs().sum()) == 0.0 for grad in grads.values())


def test_triton__no_valid_patch_and_nan() -> None:
    x = inputs(dtype=torch.float32)
    x.valid[0] = False
    x.keys[1, 0, 0] = torch.nan
    (scores, mass), _ = pooled(x, "triton")
    torch.testing.assert_close(scores[:, 0], x.text @ x.null)
    assert float(mass[:, 0].abs().max()) == 0.0
    assert bool(scores[:, 1].isnan().all())
    assert bool(scores[:, 2].isfinite().all())


def test_custom_operators__keep_the_contract() -> None:
    x = inputs(3, 4, 2, 7, 5, 3, dtype=torch.float32)
    sides = [getattr(x, name).requires_grad_() for name in ("text", "queries", "patches", "keys")]
    alpha, beta = (getattr(x, name).requires_grad_() for name in ("alpha", "beta"))
    closed = (x.text @ x.null).detach().requires_grad_()
    for below_null in (1.0, 0.1):
        torch.library.opcheck(triton_gate.gated_sums, (*sides, x.valid, alpha, beta, closed, below_null))
        plain = [side.detach() for side in (*sides, x.valid, alpha, beta, closed)]
        grads = [torch.ones(4, 2)] * 3
        torch.library.opcheck(triton_gate.gated_sums_backward, (*plain, below_null, *grads))


def test_triton__says_why_it_cannot() -> None:
    with pytest.raises(UsageError, match="no kernel for l2_mean"):
        gated_pool(inputs(dtype=torch.float32), "l2_mean", "triton")
    with pytest.raises(UsageError, match="float64"):
        gated_pool(inputs(), "null", "triton")


def test_reference__is_what_fp64_says() -> None:
    x = inputs()
    assert torch.equal(gated_pool(x, kernel="reference")[0], gated_pool_reference(x)[0])
