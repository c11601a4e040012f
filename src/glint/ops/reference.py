"""Gated pooling in plain PyTorch: the definition of truth for every faster form.

    c[s,b,p] = <t_s, v_bp>                       cosine in the alignment space
    z[s,b,p] = alpha <q_s, k_bp> + beta          gate logit;  g = sigmoid(z), 0 where a patch is not valid
    mass[s,b] = sum_p g
    null_mass, null_token:  score = (sum_p g a + eps0 n) / (eps0 + mass)     n = <t_s, u>;  u = 0 for null_mass
                            a = c where c >= n, else n + below_null (c - n)  what an open patch answers
    l2_mean:                score = <t_s, y> / |y|,   y = sum_p g v_bp
    vlcabs:                 score = <t_s, y> / |y|,   y = sum_p w v_bp,   w = softmax over valid p of c / tau

Axes: S sentences, B images, P patches, D alignment width, G gate width. An image whose patches are all invalid has
mass 0 and the score of an empty gate: <t_s, u>, and 0 for l2_mean and vlcabs. The mass of vlcabs is 1 otherwise.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Pool = Literal["null", "l2_mean", "vlcabs"]
TINY = 1e-6  # least length of a pooled vector


@dataclass(frozen=True, slots=True)
class GateInputs:
    """Everything the operation depends on.

    Attributes:
        text: (S, D) unit vectors t.
        queries: (S, G) unit vectors q.
        patches: (B, P, D) unit vectors v.
        keys: (B, P, G) unit vectors k.
        valid: (B, P) bool, False on padding.
        alpha: () gate scale; like queries, keys and beta not used by vlcabs.
        beta: () gate offset.
        eps0: () null mass; used by the pool null only.
        null: (D,) unit vector u, zeros for null_mass; used by the pool null only.
        tau: () temperature; used by vlcabs only.
        below_null: In [0, 1]: how much of an answer below the null answer counts; used by the pool null only.
    """

    text: Tensor
    queries: Tensor
    patches: Tensor
    keys: Tensor
    valid: Tensor
    alpha: Tensor
    beta: Tensor
    eps0: Tensor
    null: Tensor
    tau: Tensor = field(default_factory=lambda: torch.ones(()))
    below_null: float = 1.0

    def check(self) -> None:
        """Raise a ValueError that names what does not fit."""
        axes = {"text": 2, "queries": 2, "patches": 3, "keys": 3}
        for name, count in axes.items():
            if getattr(self, name).ndim != count:
                raise ValueError(f"{name} has {getattr(self, name).ndim} axes, expected {count}")
        sentences, width = self.text.shape
        images, patches, _ = self.patches.shape
        wanted = {
            "queries": (sentences, self.keys.shape[-1]),
            "patches": (images, patches, width),
            "keys": (images, patches, self.queries.shape[-1]),
            "valid": (images, patches),
            "null": (width,),
            "alpha": (),
            "beta": (),
            "eps0": (),
            "tau": (),
        }
        for name, shape in wanted.items():
            found = tuple(getattr(self, name).shape)
            if found != shape:
                raise ValueError(f"{name} has the shape {found}, expected {shape}")
        if self.valid.dtype != torch.bool:
            raise ValueError(f"valid is {self.valid.dtype}, expected bool")
        kinds = {getattr(self, name).dtype for name in ("text", "queries", "patches", "keys")}
        if len(kinds) != 1 or not kinds.pop().is_floating_point:
            raise ValueError("text, queries, patches and keys must have one floating-point type")
        if not 0 <= self.below_null <= 1:
            raise ValueError(f"below_null is {self.below_null}, expected 0 to 1")

    def pairs(self, rows: Tensor | slice, image: int) -> "GateInputs":
        """Return the inputs of some sentences with one image: S sentences, B = 1."""
        part = slice(image, image + 1)
        return replace(
            self,
            text=self.text[rows],
            queries=self.queries[rows],
            patches=self.patches[part],
            keys=self.keys[part],
            valid=self.valid[part],
        )


def gated_pool_reference(x: GateInputs, pool: Pool = "null") -> tuple[Tensor, Tensor]:
    """Return scores (S, B) and gate masses (S, B)."""
    gate, cosine = gate_and_cosine(x)
    if pool == "vlcabs":
        lowest = torch.finfo(
            cosine.dtype
        ).min  # not -inf: softmax of an image without valid patches is NaN then
        gate = (cosine / x.tau).masked_fill(~x.valid, lowest).softmax(-1) * x.valid
    mass = gate.sum(-1)
    if pool != "null":
        return cosine_pool(gate, cosine, x.patches), mass
    return null_pool(gate, cosine, x.eps0, x.text @ x.null, x.below_null), mass


def answers(cosine: Tensor, closed: Tensor, below_null: float) -> Tensor:
    """Return what open patches answer: their cosine, and of what is below the answer of a closed gate a part only.

    An open patch that may deny what the null answer claims lets the gate open on any landmark where nothing is
    (docs/experiments.md, "One chain from the first seed").
    """
    return cosine if below_null == 1 else F.leaky_relu(cosine - closed, below_null) + closed


def null_pool(gate: Tensor, cosine: Tensor, eps0: Tensor, closed: Tensor, below_null: float) -> Tensor:
    """Return scores (S, B) of gates and cosines (S, B, P): means of the `answers` of what is open and of a null.

    Args:
        gate: Gates.
        cosine: Cosines of sentences and patches.
        eps0: () null mass.
        closed: (S,) score <t, u> of a closed gate.
        below_null: How much of an answer below `closed` counts.
    """
    answer = answers(cosine, closed[:, None, None], below_null)
    return ((gate * answer).sum(-1) + eps0 * closed[:, None]) / (eps0 + gate.sum(-1))


def cosine_pool(weights: Tensor, cosine: Tensor, patches: Tensor) -> Tensor:
    """Return cosines (S, B) of sentences with weighted sums of patches (B, P, D); the numerator is at hand."""
    pooled = torch.einsum("sbp,bpd->sbd", weights, patches)
    return (weights * cosine).sum(-1) / pooled.norm(dim=-1).clamp_min(TINY)


def gate_and_cosine(x: GateInputs) -> tuple[Tensor, Tensor]:
    """Return the maps of all pairs: gate and cosine, both (S, B, P)."""
    logits = x.alpha * torch.einsum("sg,bpg->sbp", x.queries, x.keys) + x.beta
    return logits.sigmoid() * x.valid, torch.einsum("sd,bpd->sbp", x.text, x.patches)
