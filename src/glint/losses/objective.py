"""The training objective of GLINT and its baselines: one batch in, one number and a report out.

    L = L_align + w_off L_off + w_budget L_budget + w_polarity L_polarity + w_dfr L_dfr

Axes: S unique sentences of the batch, B studies, P patches. Baselines without a gate get the same terms where
they make sense (alignment, polarity, DFR) and none where they do not (gate terms), so that they stay comparable.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glint.config.schema import GlintConfig
from glint.losses.alignment import multi_positive_nce, polarity_contrast
from glint.losses.claims import follows
from glint.losses.dense import dense_feature_loss
from glint.losses.polarity import opposite_pairs
from glint.losses.sparsity import gate_budget, gate_off
from glint.model.align import Patches, Pooled, drop_tokens
from glint.model.glint import GlintModel, pool_valid
from glint.model.teacher import Teacher

if TYPE_CHECKING:
    from glint.data.dataset import PairBatch

Report = dict[str, float]


class Objective:
    """Call it with a batch to get the loss.

    Args:
        cfg: The recipe.
        model: The model that is trained.
        teacher: Frozen image encoder for DFR, or None when `loss.dfr` is 0.
    """

    def __init__(self, cfg: GlintConfig, model: GlintModel, teacher: Teacher | None) -> None:
        self.cfg, self.model, self.teacher = cfg, model, teacher

    def __call__(self, batch: "PairBatch", generator: torch.Generator) -> tuple[Tensor, Report]:
        """Return the total loss and its parts; `generator` chooses the dropped tokens."""
        features = self.model.vision(batch.images)
        valid = pool_valid(batch.valid_px, self.model.vision.patch)
        tokens, valid = self._drop(features.tokens, valid, features.grid, generator)
        with torch.autocast(tokens.device.type, enabled=False):
            patches = self.model.align.project_patches(tokens.float(), valid)
            parts, report = self._contrast(batch, patches)
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
            "polarity": loss.polarity,
            "dfr": loss.dfr,
        }
        return torch.stack([weights[name] * value for name, value in parts.items()]).sum()

    def _drop(
        self, tokens: Tensor, valid: Tensor, grid: tuple[int, ...], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Hide random blocks of patches from the score (not from the encoder) in training."""
        align = self.cfg.align
        if align.token_keep >= 1 or not self.model.training:
            return tokens, valid
        kept = drop_tokens(grid, tokens.shape[0], align.token_keep, generator, align.token_block)
        kept = kept.to(tokens.device)
        return tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1])), valid.gather(1, kept)

    def _contrast(self, batch: "PairBatch", patches: Patches) -> tuple[dict[str, Tensor], Report]:
        """All unique sentences against all images; negated ones are left to the polarity term by default."""
        ordinary = [i for i in range(len(batch.states)) if self._is_ordinary(batch, i)]
        texts, positive = _told(
            [batch.sentences[i] for i in ordinary],
            [[sentence.text for sentence in report] for report in batch.reports],
            batch.owner.device,
        )
        if not texts:
            return {"align": patches.values.sum() * 0.0}, {}
        sentences = self.model.align.project_text(self.model.text.encode(texts).float())
        pooled = self.model.align.pool(sentences, patches)
        affirming = {batch.sentences[i] for i in ordinary if _affirms(batch.states[i], batch.normal[i])}
        affirms = torch.tensor([text in affirming for text in texts], device=positive.device)
        unknown = self._unknown(batch, texts, positive, affirms)
        parts = {"align": multi_positive_nce(pooled.scores, positive, self.model.align.tau, unknown)}
        if self.model.align.has_sigmoid_gate:
            parts["gate_off"] = gate_off(pooled.open, ~(positive | unknown))
            visible = self.model.align.gates(sentences, patches, positive & affirms[:, None])
            parts["gate_budget"] = gate_budget(visible, self.cfg.loss.rho_max, self.cfg.loss.rho_min)
        return parts, _statistics(pooled, positive, unknown)

    def _unknown(self, batch: "PairBatch", texts: list[str], positive: Tensor, affirms: Tensor) -> Tensor:
        """Return (S, B): the report does not have this affirmation but one that says the same in other words."""
        if self.cfg.loss.false_negatives == "keep":
            return torch.zeros_like(positive)
        claims = [[s.text for s in report if _affirms(s.state, s.normal)] for report in batch.reports]
        if not any(claims):
            return torch.zeros_like(positive)
        premises, told = _told([text for own in claims for text in own], claims, positive.device)
        vectors = self.model.text.frozen_vectors
        same = follows(texts, premises, vectors(texts), vectors(premises)).to(positive.device)
        return (same.float() @ told.float() > 0) & affirms[:, None] & ~positive

    def _is_ordinary(self, batch: "PairBatch", i: int) -> bool:
        return _affirms(batch.states[i], batch.normal[i]) or self.cfg.loss.negated == "contrast"

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


def _affirms(state: str, normal: bool) -> bool:
    """Say whether a sentence names something that can be seen: neither denied nor declared normal."""
    return state != "absent" and not normal


def _told(
    texts: list[str], reports: Sequence[Sequence[str]], device: torch.device
) -> tuple[list[str], Tensor]:
    """Return unique texts and the mask (S, B) of the images whose report has them, word for word."""
    index = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    told = torch.zeros(len(index), len(reports), dtype=torch.bool, device=device)
    for image, report in enumerate(reports):
        told[[index[text] for text in report if text in index], image] = True
    return list(index), told


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
