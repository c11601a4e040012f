"""Gated similarity of sentences and images: one score a pair, one map a pair.

    c[s,b,p] = <t_s, v_bp>                        cosine in the alignment space (width D)
    null_mass:   score = sum_p g a / (eps0 + sum_p g)
    null_token:  score = (sum_p g a + eps0 <t_s, u>) / (eps0 + sum_p g)
    l2_mean:     score = cos(t_s, sum_p g v_bp)

What an open patch answers, a, is c, and with align.below_null < 1 only a part of what is below the null answer. The
pooled vector of the first two is not re-normalised: re-normalising would make the absolute gate level unidentifiable
and the sigmoid a softmax in disguise. Baselines: `vlcabs` (RadZero: softmax of the cosine itself in the shared space)
and `global` (mean-pooled CLIP). Axes as in glint.types.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glint.config.schema import AlignConfig
from glint.model.gate import Gate
from glint.ops import GateInputs, gated_pool
from glint.ops.chunked import gates
from glint.ops.reference import cosine_pool, gate_and_cosine, null_pool


@dataclass(frozen=True, slots=True)
class Patches:
    """Projected image side: values v (B, P, D), gate keys k (B, P, G) or None, validity (B, P), False on padding.

    Under autocast they are bf16: there are thousands of patches an image, and what is made of a pair is summed in fp32.
    """

    values: Tensor
    keys: Tensor | None
    valid: Tensor

    def float(self) -> "Patches":
        """Return them in fp32."""
        return Patches(self.values.float(), None if self.keys is None else self.keys.float(), self.valid)


@dataclass(frozen=True, slots=True)
class Sentences:
    """Projected text side: t (S, D), gate queries q (S, G) or None."""

    values: Tensor
    queries: Tensor | None


@dataclass(frozen=True, slots=True)
class Alignment:
    """Scores and maps of all pairs of S sentences and B images.

    Attributes:
        scores: (S, B) pooled similarity, about -1..1.
        gate: (S, B, P) weights in [0, 1]; zero on padding.
        cosine: (S, B, P) cosine of sentence and patch.
        maps: (S, B, P) localisation map in [0, 1]; 0.5 is the fixed threshold.
        gated: Whether the map is a gate.
        null: (S,) what a sentence scores where its gate is closed; None where the score is no mean over open patches
            and a null of mass `eps0`.
    """

    scores: Tensor
    gate: Tensor
    cosine: Tensor
    maps: Tensor
    gated: bool = False
    null: Tensor | None = None

    @property
    def evidence(self) -> Tensor:
        """(S, B, P) what each patch adds to the score, in [0, 1]: where the sentence is to be pointed at.

        An open gate is flat inside a finding; gate * relu(cosine) still says which of its patches says most. Methods
        without a gate point with their map.
        """
        return self.gate * self.cosine.clamp(min=0) if self.gated else self.maps


@dataclass(frozen=True, slots=True)
class Pooled:
    """Scores of all pairs without their maps.

    Attributes:
        scores: (S, B) pooled similarity, about -1..1.
        open: (S, B) mean of the map over all P patches, padding (which is closed) included.
    """

    scores: Tensor
    open: Tensor


class Aligner(nn.Module):
    """Project both sides, gate, pool.

    Args:
        cfg: Alignment settings.
        text_width: E.
        vision_width: C.
        num_patches: P at the training size.
    """

    def __init__(self, cfg: AlignConfig, text_width: int, vision_width: int, num_patches: int) -> None:
        super().__init__()
        self.cfg = cfg
        self.text_proj = nn.Sequential(nn.LayerNorm(text_width), nn.Linear(text_width, cfg.dim))
        self.patch_proj = nn.Sequential(nn.LayerNorm(vision_width), nn.Linear(vision_width, cfg.dim))
        separate = cfg.type == "gated"
        self.gate = Gate(cfg, text_width, vision_width, num_patches) if separate else None
        self.null = nn.Parameter(torch.randn(cfg.dim) * cfg.dim**-0.5) if cfg.pool == "null_token" else None
        self.log_tau = nn.Parameter(torch.tensor(cfg.temperature_init).log())

    @property
    def tau(self) -> Tensor:
        """Temperature of the contrastive loss and of the `vlcabs` attention."""
        return self.log_tau.exp().clamp(self.cfg.temperature_min, 0.5)

    def project_text(self, text: Tensor) -> Sentences:
        """(S, E) -> unit vectors in both spaces."""
        values = F.normalize(self.text_proj(text).float(), dim=-1)
        if self.gate is None:
            return Sentences(values, None)
        return Sentences(values, values if self.cfg.gate_space == "shared" else self.gate.queries(text))

    def project_patches(self, tokens: Tensor, valid: Tensor | None = None) -> Patches:
        """(B, P, C) -> unit vectors in both spaces, bf16 under autocast; `valid` (B, P): False on padding."""
        if valid is None:
            valid = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        values = F.normalize(self.patch_proj(tokens), dim=-1)
        if self.gate is None:
            return Patches(values, None, valid)
        return Patches(values, values if self.cfg.gate_space == "shared" else self.gate.keys(tokens), valid)

    def null_scores(self, sentences: Sentences) -> Tensor:
        """Return (S,) what sentences score where nothing is open: <t_s, u>, or 0 without a null token."""
        if self.null is None:
            return sentences.values.new_zeros(len(sentences.values))
        return sentences.values @ F.normalize(self.null, dim=0)

    def all_pairs(self, sentences: Sentences, patches: Patches) -> Alignment:
        """Align every sentence with every image: scores (S, B), maps (S, B, P), all in fp32."""
        patches = patches.float()
        if self.has_sigmoid_gate:
            return self._all_gates(self._gate_inputs(sentences, patches))
        values, valid = patches.values, patches.valid
        cosine = torch.einsum("sd,bpd->sbp", sentences.values, values)
        if self.cfg.type == "global":
            mean = F.normalize((values * valid[..., None]).sum(1), dim=-1)
            weights = valid.expand_as(cosine).float()
            return Alignment(sentences.values @ mean.T, weights, cosine, self._cosine_map(cosine, valid))
        if self.gate is None:  # vlcabs
            weights = self._softmax(cosine / self.tau, valid)
            scores = cosine_pool(weights, cosine, values)
            return Alignment(scores, weights, cosine, self._cosine_map(cosine, valid))
        assert sentences.queries is not None
        assert patches.keys is not None
        affinity = torch.einsum("sg,bpg->sbp", sentences.queries, patches.keys)
        weights = self._softmax(self.gate.logits(affinity), valid)
        # A softmax has no absolute scale: relative to its peak is the most favourable reading of it.
        maps = weights / weights.amax(-1, keepdim=True).clamp_min(1e-12)
        return Alignment((weights * cosine).sum(-1), weights, cosine, maps, gated=True)

    def _all_gates(self, x: GateInputs) -> Alignment:
        """The plain form of `pool`, which keeps the maps."""
        gate, cosine = gate_and_cosine(x)
        if self.cfg.pool == "l2_mean":
            return Alignment(cosine_pool(gate, cosine, x.patches), gate, cosine, gate, gated=True)
        null = x.text @ x.null
        scores = null_pool(gate, cosine, x.eps0, null, x.below_null)
        return Alignment(scores, gate, cosine, gate, gated=True, null=null)

    def pool(self, sentences: Sentences, patches: Patches) -> Pooled:
        """Score every sentence with every image; the sigmoid gate does so without a matrix of pairs and patches."""
        if not self.has_sigmoid_gate:
            aligned = self.all_pairs(sentences, patches)
            return Pooled(aligned.scores, aligned.maps.mean(-1))
        x = self._gate_inputs(sentences, patches)
        pool = "l2_mean" if self.cfg.pool == "l2_mean" else "null"
        scores, mass = gated_pool(x, pool, self.cfg.kernel)
        return Pooled(scores, mass / patches.values.shape[1])

    def gates(self, sentences: Sentences, patches: Patches, pairs: Tensor) -> Tensor:
        """Return the gates (K, P) of the K pairs that are set in `pairs` (S, B) bool, image by image."""
        return gates(self._gate_inputs(sentences, patches), pairs)

    @property
    def has_sigmoid_gate(self) -> bool:
        """Whether the gates are absolute: closed where there is nothing to see."""
        return self.gate is not None and self.cfg.gate_activation == "sigmoid"

    def _gate_inputs(self, sentences: Sentences, patches: Patches) -> GateInputs:
        assert self.gate is not None
        assert sentences.queries is not None
        assert patches.keys is not None
        null = torch.zeros_like(self.log_tau).expand(self.cfg.dim)
        null = null if self.null is None else F.normalize(self.null, dim=0)
        dtype = patches.values.dtype
        return GateInputs(
            text=sentences.values.to(dtype),
            queries=sentences.queries.to(dtype),
            patches=patches.values,
            keys=patches.keys,
            valid=patches.valid,
            alpha=self.gate.alpha,
            beta=self.gate.beta,
            eps0=torch.full_like(self.log_tau, self._eps0),
            null=null.to(dtype),
            below_null=self.cfg.below_null,
        )

    @property
    def _eps0(self) -> float:
        """Null mass in open patches; under token dropout fewer patches are there to open."""
        return self.cfg.eps0 * (self.cfg.token_keep if self.training else 1.0)

    @staticmethod
    def _softmax(logits: Tensor, valid: Tensor) -> Tensor:
        """Weigh patches; an image of which no patch is valid (all hidden in a training step) gets no weight at all."""
        # Not -inf: over no patch at all that would be NaN.
        return logits.masked_fill(~valid, -1e30).softmax(-1) * valid

    def _cosine_map(self, cosine: Tensor, valid: Tensor) -> Tensor:
        """RadZero's map: sigmoid(cos / tau), no bias."""
        return (cosine / self.tau).sigmoid() * valid


def join(parts: Sequence[Patches]) -> Patches:
    """Put images one after the other."""
    keys = [part.keys for part in parts if part.keys is not None]
    return Patches(
        torch.cat([part.values for part in parts]),
        torch.cat(keys) if keys else None,
        torch.cat([part.valid for part in parts]),
    )


def drop_tokens(
    grid: tuple[int, ...], batch: int, keep: float, generator: torch.Generator, block: int
) -> Tensor:
    """Choose the patches that one training step sees: indices (B, K), K = round(keep * P), in random blocks.

    Whole blocks go, so that no part of a finding can be left to its most telling edge (hide-and-seek).
    """
    fine = torch.rand(batch, 1, *(-(-side // block) + 1 for side in grid), generator=generator)
    for axis in range(2, 2 + len(grid)):
        fine = fine.repeat_interleave(block, axis)
    for axis, side in enumerate(grid, start=2):
        fine = fine.narrow(axis, int(torch.randint(block, (1,), generator=generator)), side)
    order = fine.flatten(1)
    return order.topk(max(1, round(keep * math.prod(grid))), dim=1).indices.sort(1).values


def take_tokens(tokens: Tensor, chosen: Tensor) -> Tensor:
    """Return the tokens (B, K, C) of (B, P, C) at the indices `chosen` (B, K).

    By rows: `gather` wants an index for every number, and its gradient copies that index, 8 bytes each.
    """
    first = torch.arange(len(tokens), device=tokens.device)[:, None] * tokens.shape[1]
    rows = tokens.flatten(0, 1).index_select(0, (chosen + first).flatten())
    return rows.unflatten(0, chosen.shape)
