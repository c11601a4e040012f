"""At which value of its map a model draws the line of a mask: found from image-report pairs, without any mask.

A sigmoid gate says how sure it is that a patch belongs to a sentence, and early in training, or with many patches to
choose from, it is sure of few: the outline of a finding then lies far below 0.5. Where it lies can be asked of
sentences alone: make masks at a threshold, score every image by what is inside and nothing else, and see how well a
sentence finds its own image. With too low a threshold masks hold what the sentence does not speak of, with too high a
one they miss a part of what it does. `recentred` makes the best threshold 0.5.
Axes: S sentences, B images, P patches, T thresholds.
"""

import torch
from torch import Tensor

from glint.model.align import Alignment


def mask_scores(found: Alignment, null_S: Tensor, eps0: float, thresholds: Tensor) -> Tensor:
    """Return (T, S, B): scores of images in which a sentence sees nothing but its mask at a threshold.

        score = (sum over p of [map_p > threshold] c_p + eps0 null) / (eps0 + sum over p of [map_p > threshold])

    Args:
        found: Maps and cosines (S, B, P).
        null_S: What an image without any mask scores.
        eps0: Patches that the null answer weighs.
        thresholds: (T,) in [0, 1].
    """
    scores: list[Tensor] = []
    for threshold in thresholds.tolist():
        inside = (found.maps > threshold).to(found.cosine.dtype)
        total = torch.einsum("sbp,sbp->sb", inside, found.cosine)
        scores.append((total + eps0 * null_S[:, None]) / (eps0 + inside.sum(-1)))
    return torch.stack(scores)


def recentred(maps: Tensor, threshold: Tensor) -> Tensor:
    """Return maps in [0, 1] in the same order, in which 0.5 is where `threshold` was; their logits are shifted."""
    if float(threshold) == 0.5:  # to the bit
        return maps
    odds = maps * (1 - threshold)
    return odds / (odds + threshold * (1 - maps))
