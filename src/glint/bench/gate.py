"""The gated pooling of all pairs in all its forms: time, TFLOP/s, share of the matrix-product peak, memory.

Counted are the operations that a dense result needs: 2 S B P (D + G) forward, three times as many with backward.
Recomputation is not counted, and what the sparse form skips is, so that shares compare as times do. The sparse form
may therefore pass 100 %.

Inputs have gates as after training, made up: sentences and tiles of patches carry one of 1 / share codes each, and a
gate is open where both have the same.
"""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from glint.bench.machine import measure
from glint.ops import GateInputs, gated_pool
from glint.ops.sparse import TILE, gated_pool_sparse, open_tiles

Form = Callable[[GateInputs], tuple[Tensor, Tensor]]
HEAD = ("form", "work", "ms", "TFLOP/s", "share of peak", "peak MB")
LEAVES = ("text", "queries", "patches", "keys", "alpha", "beta", "eps0")
EPSILON = 1e-3


@dataclass(frozen=True, slots=True)
class Size:
    """S sentences, B images, P patches, D alignment width, G gate width."""

    sentences: int
    images: int
    patches: int
    width: int
    gate_width: int

    @property
    def flops(self) -> int:
        """Operations of a dense forward pass."""
        return 2 * self.sentences * self.images * self.patches * (self.width + self.gate_width)


@dataclass(frozen=True, slots=True)
class Row:
    """One measured cell: form, work, median seconds, operations, memory above the inputs or None."""

    form: str
    work: str
    seconds: float
    flops: int
    peak_bytes: int | None

    def cells(self, peak: float) -> list[str]:
        """Return the cells under HEAD, given the machine's peak in FLOP/s."""
        rate = self.flops / self.seconds
        memory = "-" if self.peak_bytes is None else f"{self.peak_bytes / 1e6:,.0f}"
        return [
            self.form,
            self.work,
            f"{self.seconds * 1000:,.1f}",
            f"{rate / 1e12:.3f}",
            f"{rate / peak:.0%}",
            memory,
        ]


def forms(device: torch.device) -> dict[str, Form]:
    """Return the forms that run on a device, the plain one first."""
    found: dict[str, Form] = {
        "eager": lambda x: gated_pool(x, kernel="reference"),
        "chunked": lambda x: gated_pool(x, kernel="chunked"),
        "sparse": lambda x: gated_pool_sparse(x, EPSILON),
    }
    if device.type == "cuda":
        found["compile"] = torch.compile(found["eager"])
        if importlib.util.find_spec("triton") is not None:
            found["triton"] = lambda x: gated_pool(x, kernel="triton")
    return found


def inputs(size: Size, device: torch.device, dtype: torch.dtype, share: float = 0.05) -> GateInputs:
    """Return random inputs of which a `share` of the (sentence, tile) pairs is open; G must be at least 1 / share."""
    g = torch.Generator().manual_seed(0)
    codes = torch.eye(size.gate_width)[: round(1 / share)]
    tiles = torch.randint(len(codes), (size.images, -(-size.patches // TILE)), generator=g)
    of_patch = tiles.repeat_interleave(TILE, 1)[:, : size.patches]
    of_sentence = torch.randint(len(codes), (size.sentences,), generator=g)

    def unit(*shape: int) -> Tensor:
        return F.normalize(torch.randn(*shape, generator=g), dim=-1).to(device, dtype)

    number = {
        name: torch.tensor(value, device=device) for name, value in (("a", 26.0), ("b", -20.0), ("e", 1.0))
    }
    return GateInputs(
        text=unit(size.sentences, size.width),
        queries=codes[of_sentence].to(device, dtype),
        patches=unit(size.images, size.patches, size.width),
        keys=codes[of_patch].to(device, dtype),
        valid=torch.ones(size.images, size.patches, dtype=torch.bool, device=device),
        alpha=number["a"],
        beta=number["b"],
        eps0=number["e"],
        null=torch.zeros(size.width, device=device, dtype=dtype),
    )


def run(
    size: Size,
    device: torch.device,
    dtype: torch.dtype,
    names: list[str],
    share: float = 0.05,
    repeats: int = 5,
) -> Iterator[Row]:
    """Yield the rows of each form: forward, then forward and backward."""
    x = inputs(size, device, dtype, share)
    for name in names:
        form = forms(device)[name]
        for work, call in works(form, x).items():
            cost = measure(call, device, repeats)
            yield Row(name, work, cost.seconds, size.flops * (1 if work == "forward" else 3), cost.peak_bytes)


def works(form: Form, x: GateInputs) -> dict[str, Callable[[], object]]:
    """Return the two pieces of work as functions without arguments."""

    def forward() -> None:
        with torch.no_grad():
            form(x)

    def both() -> None:
        leaves = {name: getattr(x, name).detach().requires_grad_() for name in LEAVES}
        scores, mass = form(replace(x, **leaves))
        (scores.float().sum() + mass.float().mean()).backward()

    return {"forward": forward, "forward + backward": both}


def open_share(x: GateInputs) -> float:
    """Return which share of the (sentence, tile) pairs the sparse form does not skip."""
    return float(open_tiles(x, EPSILON)[1].float().mean())
