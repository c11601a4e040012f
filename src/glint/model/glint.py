"""The whole model: image encoder, sentence encoder, aligner; from pixels and sentences to scores and maps."""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glint.config.schema import GlintConfig
from glint.model.align import Aligner, Alignment, Patches, Sentences
from glint.model.masks import mask_scores, recentred
from glint.model.text import TextEncoder
from glint.model.vision.registry import build_vision, input_grid
from glint.model.vision.tuning import tune
from glint.ops.spread import Links, find_links, spread_all


@dataclass(frozen=True, slots=True)
class Prediction:
    """Answer to S queries on B images.

    Attributes:
        scores_SB: Calibrated scores in [0, 1].
        maps_SBP: Localisation maps in [0, 1] on the token grid; 0.5 is the fixed threshold of masks.
        evidence_SBP: What each patch adds to the score, in [0, 1]; points are its peaks.
        grid: (Yp, Xp) or (Zp, Yp, Xp).
    """

    scores_SB: Tensor
    maps_SBP: Tensor
    evidence_SBP: Tensor
    grid: tuple[int, ...]


class GlintModel(nn.Module):
    """GLINT and its baselines, built from a recipe.

    Args:
        cfg: The recipe; `cfg.vision.init` is read, so a start from pretrained weights happens here.
    """

    def __init__(self, cfg: GlintConfig) -> None:
        super().__init__()
        self.vision = tune(build_vision(cfg.vision), cfg.vision)
        self.text = TextEncoder(cfg.text)
        # What the weights said of the encoders belongs to the recipe of the model from now on.
        vision = cfg.vision.model_copy(update={"arch": self.vision.arch.model_dump(mode="json")})
        self.cfg = cfg.model_copy(update={"vision": vision, "text": self.text.cfg})
        num_patches = math.prod(input_grid(self.vision, cfg.data))
        self.align = Aligner(cfg.align, self.text.width, self.vision.width, num_patches)
        # Platt scaling of raw scores, fitted on validation pairs by eval/calibrate.py; sigmoid(scale * s + offset).
        self.calibration: Tensor
        self.register_buffer("calibration", torch.tensor([10.0, -3.0]))
        # What becomes 0.5 in the maps that are handed out (masks.py), from the same pairs.
        self.mask_threshold: Tensor
        self.register_buffer("mask_threshold", torch.tensor(0.5))

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return all parameters by part, those of a frozen sentence encoder included: for counting."""
        text = [*self.text.parameters(), *self.text.frozen_parameters()]
        return {
            "vision": list(self.vision.parameters()),
            "text": text,
            "align": list(self.align.parameters()),
        }

    @torch.inference_mode()
    def predict(self, images: Tensor, valid: Tensor | None, queries: list[str]) -> Prediction:
        """Score and localise queries; every image is encoded once however many queries there are.

        Args:
            images: (B, C, Y, X) or (B, C, Z, Y, X) in [0, 1], of the sides `cfg.data.input_shape`.
            valid: (B, P) False on padding, or None.
            queries: S free-text queries.
        """
        self.eval()
        features = self.vision(images)
        alignment = self.align_features(features.tokens, valid, queries)
        scores = self.calibrated(alignment.scores, queries)
        maps, evidence = alignment.maps, alignment.evidence
        if rounds := self.cfg.align.spread:
            links = self.links(images, valid)
            maps, evidence = (spread_all(each, links, rounds) for each in (maps, evidence))
        return Prediction(scores, maps, evidence, features.grid)

    def links(self, images: Tensor, valid: Tensor | None) -> Links:
        """Return how alike the neighbouring patches of images are; the channel that tells the side is no likeness."""
        volume, patch = self.cfg.data.volume, self.vision.patch
        pixels = images if volume is None else images[:, : len(volume.windows_hu)]
        if valid is None:
            valid = torch.ones(len(images), math.prod(self.vision.grid(images)), dtype=torch.bool)
        return find_links(pixels, valid.to(images.device), patch)

    def calibrated(self, raw: Tensor, queries: list[str]) -> Tensor:
        """Return scores in [0, 1] of raw ones, (S, B) or (S,); denials that rules read: one minus what they deny."""
        scale, offset = self.calibration
        scores = (scale * raw + offset).sigmoid()
        denies = torch.tensor(self.text.read(queries)[1], device=raw.device)
        return torch.where(denies.reshape(-1, *[1] * (raw.ndim - 1)), 1 - scores, scores)

    def align_features(self, tokens: Tensor, valid: Tensor | None, queries: list[str]) -> Alignment:
        """Align encoded images (B, P, C) with queries."""
        return self.align_patches(self.project(tokens, valid), queries)

    def project(self, tokens: Tensor, valid: Tensor | None) -> Patches:
        """Bring encoded images (B, P, C) into the spaces of the alignment; what a scan keeps of its windows."""
        return self.align.project_patches(tokens, valid)

    def align_patches(self, patches: Patches, queries: list[str]) -> Alignment:
        """Align projected images with queries."""
        found = self.align.all_pairs(self._sentences(queries), patches)
        return replace(found, maps=recentred(found.maps, self.mask_threshold))

    def mask_scores(self, found: Alignment, queries: list[str], thresholds: Tensor) -> Tensor:
        """Score images by nothing but masks: (T, S, B).

        Args:
            found: What `align_patches` returned for the queries.
            queries: S texts.
            thresholds: (T,) of maps before they are recentred, as `mask_threshold` is.
        """
        null_S = self.align.null_scores(self._sentences(queries))
        return mask_scores(
            found, null_S, self.cfg.align.eps0, recentred(thresholds, self.mask_threshold.cpu())
        )

    def _sentences(self, queries: list[str]) -> Sentences:
        return self.align.project_text(self.text.encode(queries).to(self.calibration.device))


def pool_valid(valid_px: Tensor, patch: tuple[int, ...]) -> Tensor:
    """Turn validity (B, Y, X) or (B, Z, Y, X) into patch validity (B, P): a patch counts when any part of it does."""
    pool = F.max_pool2d if len(patch) == 2 else F.max_pool3d
    return pool(valid_px[:, None].float(), patch).flatten(1) > 0
