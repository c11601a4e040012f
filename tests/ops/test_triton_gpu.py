"""The Triton kernels on a GPU against the reference in fp64."""

import dataclasses

import pytest
import torch

from glint.ops import gated_pool

from .conftest import inputs


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_triton__on_a_gpu(dtype: torch.dtype, tolerance: float) -> None:
    x = inputs(1, 130, 3, 200, 96, 40, dtype=dtype)
    fields = [field.name for field in dataclasses.fields(x)]
    there = dataclasses.replace(x, **{name: getattr(x, name).cuda() for name in fields})
    exact = dataclasses.replace(x, **{n: getattr(x, n).double() for n in fields if n != "valid"})
    results = []
    for y, kernel in ((there, "triton"), (exact, "reference")):
        leaf = y.patches.clone().requires_grad_()
        scores, mass = gated_pool(dataclasses.replace(y, patches=leaf), kernel=kernel)  # type: ignore[arg-type]
        scores.sum().backward()
        results.append([t.detach().double().cpu() for t in (scores, mass, leaf.grad)])  # type: ignore[union-attr]
    for mine, right in zip(*results, strict=True):
        assert float((mine - right).abs().max()) <= tolerance * max(1.0, float(right.abs().max()))
