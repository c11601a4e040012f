"""Random inputs of the gated pooling."""

import torch
import torch.nn.functional as F

from glint.ops.reference import GateInputs


def inputs(
    seed: int = 0,
    sentences: int = 7,
    images: int = 3,
    patches: int = 10,
    width: int = 6,
    gate_width: int = 4,
    alpha: float = 6.0,
    beta: float = -2.0,
    ragged: bool = True,
    dtype: torch.dtype = torch.float64,
    below_null: float = 1.0,
) -> GateInputs:
    """Return unit vectors and, if `ragged`, images with padded patches at their ends."""
    g = torch.Generator().manual_seed(seed)

    def unit(*shape: int) -> torch.Tensor:
        return F.normalize(torch.randn(*shape, generator=g, dtype=torch.float64), dim=-1).to(dtype)

    valid = torch.ones(images, patches, dtype=torch.bool)
    if ragged:
        for b in range(1, images):
            valid[b, patches - b * patches // (2 * images) :] = False
    number = {
        name: torch.tensor(value, dtype=dtype) for name, value in (("a", alpha), ("b", beta), ("e", 1.5))
    }
    return GateInputs(
        unit(sentences, width), unit(sentences, gate_width), unit(images, patches, width),
        unit(images, patches, gate_width), valid, number["a"], number["b"], number["e"], unit(width),
        torch.tensor(0.3, dtype=dtype), below_null,
    )  # fmt: skip
