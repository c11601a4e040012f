"""The training objective of GLINT and its baselines: one batch in, one number and a report out.

    L = L_align + w_off L_off + w_budget L_budget + w_mix L_mix + w_polarity L_polarity + w_dfr L_dfr

Axes: S unique sentences of the batch, B studies, P patches. Baselines without a gate get the same terms where
they make sense (alignment, polarity, DFR) and none where they do not (gate terms), so that they stay comparable.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glint.config.schema import GlintConfig
from glint.losses.alignment import multi_positive_nce, polarity_contrast
from glint.losses.dense import dense_feature_loss
from glint.losses.mixing import Mixture, TargetGates, mix_halves, mixed_gate_loss
from glint.losses.pairs import Pairs, find_pairs
from glint.losses.polarity import opposite_pairs
from glint.losses.sparsity import gate_budget, gate_off
from glint.model.align import Patches, Pooled, Sentences, drop_tokens, take_tokens
from glint.model.glint import GlintModel, pool_valid
from glint.model.teacher import Teacher
from glint.model.vision.base import EncoderOutput

if TYPE_CHECKING:
    from glint.data.dataset import PairBatch

Report = dict[str, float]


class Objective:
    """Call it with a batch to get the loss.

    Args:
        cfg: The recipe.
        model: The model that is trained.
        teacher: Frozen image encoder for DFR, or None when `loss.dfr` is 0.
        start: The model that training goes on from, frozen, where its gates are the targets of mixed images.
    """

    def __init__(
        self,
        cfg: GlintConfig,
        model: GlintModel,
        teacher: Teacher | None,
        start: GlintModel | None = None,
    ) -> None:
        self.cfg, self.model, self.teacher, self.start = cfg, model, teacher, start

    def __call__(self, batch: "PairBatch", generator: torch.Generator) -> tuple[Tensor, Report]:
        """Return the total loss and its parts; `generator` chooses dropped tokens and mixed boxes."""
        features = self.model.vision(batch.images)
        valid = pool_valid(batch.valid_px, self.model.vision.patch)
        chosen = self._chosen(len(valid), features.grid, generator)
        mixed = self._mix(batch, features, valid, generator)
        patches = self._project(features.tokens, valid, chosen)
        with torch.autocast(valid.device.type, enabled=False):
            align, pairs = self.model.align, self._pairs(batch)
            parts, report = {"align": patches.values.float().sum() * 0.0}, Report()
            if pairs.texts:
                sentences = align.project_text(self.model.text.encode(pairs.texts).float())
                parts, report = self._contrast(sentences, pairs, patches)
                if mixed is not None:
                    targets = self._targets(pairs.texts)
                    parts["gate_mix"] = mixed_gate_loss(align, sentences, pairs, mixed, targets)
            if self.cfg.loss.polarity:
                parts["polarity"] = self._polarity(batch, patches, generator)
            if self.teacher is not None:
                reference = self.teacher.intermediate(batch.images)
                parts["dfr"] = dense_feature_loss(features.levels, reference, self.cfg.loss.dfr_metric)
        total = self._weigh(parts)
        report |= {f"loss_{name}": float(value.detach()) for name, value in parts.items()}
        return total, report | self._gate_state()

    def _weigh(self, parts: dict[str, Tensor]) -> Tensor:
        loss = self.cfg.loss
        weights = {
            "align": 1.0,
            "gate_off": loss.gate_off,
            "gate_budget": loss.gate_budget,
            "gate_mix": loss.gate_mix,
            "polarity": loss.polarity,
            "dfr": loss.dfr,
        }
        return torch.stack([weights[name] * value for name, value in parts.items()]).sum()

    def _chosen(self, count: int, grid: tuple[int, ...], generator: torch.Generator) -> Tensor | None:
        """Hide random blocks of patches from the score (not from the encoder) in training: indices (count, K)."""
        align = self.cfg.align
        if align.token_keep >= 1 or not self.model.training:
            return None
        return drop_tokens(grid, count, align.token_keep, generator, align.token_block)

    def _project(self, tokens: Tensor, valid: Tensor, chosen: Tensor | None) -> Patches:
        """Bring chosen tokens (all, if None) into the spaces of the alignment."""
        if chosen is not None:
            chosen = chosen.to(tokens.device)
            tokens, valid = take_tokens(tokens, chosen), valid.gather(1, chosen)
        return self.model.align.project_patches(tokens, valid)

    def _mix(
        self, batch: "PairBatch", features: EncoderOutput, valid: Tensor, generator: torch.Generator
    ) -> Mixture | None:
        """Encode mixed images, and take along what they were mixed of."""
        half = len(valid) // 2
        if self.cfg.loss.gate_mix == 0 or not self.model.align.has_sigmoid_gate or half == 0:
            return None
        vision, grid = self.model.vision, features.grid
        mixed = mix_halves(batch.images, batch.valid_px, grid, vision.patch, generator)
        tokens = vision(mixed.images).tokens
        chosen = self._chosen(half, grid, generator)
        chosen = None if chosen is None else chosen.to(valid.device)
        new = self._project(tokens, pool_valid(mixed.valid_px, vision.patch), chosen)
        halves = slice(half), slice(half, 2 * half)
        with torch.no_grad():
            if self.start is None:
                first, second = (self._project(features.tokens[n], valid[n], None) for n in halves)
                return Mixture((first, second), new, mixed.inside, chosen)
            images = batch.images[: 2 * half]
            tokens = self.start.vision(images).tokens
            first, second = (self.start.project(tokens[n], valid[n]) for n in halves)
            links = self.start.links(images, valid[: 2 * half])
        return Mixture((first, second), new, mixed.inside, chosen, (links.of(halves[0]), links.of(halves[1])))

    @torch.no_grad()
    def _targets(self, texts: list[str]) -> TargetGates | None:
        """Return whose gates mixed images should have; None for the model's own."""
        if self.start is None:
            return None
        sentences = self.start.align.project_text(self.start.text.encode(texts).float())
        return TargetGates(self.start.align, sentences, self.cfg.align.spread)

    def _pairs(self, batch: "PairBatch") -> Pairs:
        """All unique sentences against all images; negated ones are left to the polarity term by default."""
        loss = self.cfg.loss
        return find_pairs(
            batch,
            self.model.text.frozen_vectors,
            negated=loss.negated == "contrast",
            mask=loss.false_negatives == "mask",
        )

    def _contrast(
        self, sentences: Sentences, pairs: Pairs, patches: Patches
    ) -> tuple[dict[str, Tensor], Report]:
        """Scores of all pairs, and where the gate is open."""
        align, loss = self.model.align, self.cfg.loss
        pooled = align.pool(sentences, patches)
        parts = {"align": multi_positive_nce(pooled.scores, pairs.positive, align.tau, pairs.unknown)}
        if align.has_sigmoid_gate:
            parts["gate_off"] = gate_off(pooled.open, ~(pairs.positive | pairs.unknown))
            visible = align.gates(sentences, patches, pairs.claims)
            parts["gate_budget"] = gate_budget(visible, loss.rho_max, loss.rho_min)
        return parts, _statistics(pooled, pairs.positive, pairs.unknown)

    def _polarity(self, batch: "PairBatch", patches: Patches, generator: torch.Generator) -> Tensor:
        """Affirmed against negated forms of some sentences, on an image where one holds and one where it does not."""
        pairs = opposite_pairs(batch, self.model.text.frozen_vectors, generator)
        if not pairs:
            return patches.values.sum() * 0.0
        texts = [pair.affirmed for pair in pairs] + [pair.denied for pair in pairs]
        sentences = self.model.align.project_text(self.model.text.encode(texts).float())
        affirmed, denied = self.model.align.pool(sentences, patches).scores.chunk(2)
        margin = affirmed - denied  # (K, B)
        rows = torch.arange(len(pairs), device=margin.device)
        with_it, without = [pair.image_with for pair in pairs], [pair.image_without for pair in pairs]
        return polarity_contrast(margin[rows, with_it], margin[rows, without], self.model.align.tau)

    def _gate_state(self) -> Report:
        state = {"tau": float(self.model.align.tau.detach())}
        if self.model.align.gate is not None:
            state |= {
                "alpha": float(self.model.align.gate.alpha.detach()),
                "beta": float(self.model.align.gate.beta.detach()),
            }
        return state


@torch.no_grad()
def _statistics(pooled: Pooled, positive: Tensor, unknown: Tensor) -> Report:
    """Mean of the map on matched and unmatched pairs, and how often the best image is a right one."""
    best = pooled.scores.masked_fill(unknown, -torch.inf).argmax(1)
    return {
        "open_present": float(pooled.open[positive].mean()),
        "open_absent": float(pooled.open[~positive].mean()) if bool((~positive).any()) else 0.0,
        "unknown": float(unknown.float().mean()),
        "retrieval": float(positive[torch.arange(len(best), device=best.device), best].float().mean()),
    }
