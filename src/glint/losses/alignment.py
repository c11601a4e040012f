"""Contrastive losses over sentence-image pairs (docs/method.md). Pure functions; axes S sentences, B studies.

A sentence may belong to several images (identical sentences are positives of every image that has them), and an
image has several sentences; every positive pair is contrasted with negatives only, never with other positives.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def multi_positive_nce(
    scores_SB: Tensor, positive_SB: Tensor, tau: Tensor, unknown_SB: Tensor | None = None
) -> Tensor:
    """Symmetric multi-positive InfoNCE (MP-NCE of RadZero, generalised to several positives in both directions).

        L_t2i = mean over positive (s, b) of  -l_sb + log(e^l_sb + sum over b' not positive of s: e^l_sb')
        L_i2t the same along the sentences;  l = score / tau;  L = (L_t2i + L_i2t) / 2

    Args:
        scores_SB: Pair scores.
        positive_SB: True where the sentence is in the report of the image. At least one True.
        tau: Temperature, > 0.
        unknown_SB: True where a pair is neither positive nor to be taken for a negative; None means nowhere.
    """
    logits = (scores_SB / tau).float()
    excluded_SB = positive_SB if unknown_SB is None else positive_SB | unknown_SB
    rows, columns = (
        _positive_nce(logits, positive_SB, excluded_SB),
        _positive_nce(logits.T, positive_SB.T, excluded_SB.T),
    )
    return (rows + columns) / 2


def _positive_nce(logits: Tensor, positive: Tensor, excluded: Tensor) -> Tensor:
    """Mean over positives of -l + log(e^l + sum of e^negatives in the same row)."""
    negatives = logits.masked_fill(excluded, -torch.inf).logsumexp(1, keepdim=True)
    losses = torch.logaddexp(logits, negatives.expand_as(logits)) - logits
    return losses[positive].mean()


def polarity_contrast(margin_with_K: Tensor, margin_without_K: Tensor, tau: Tensor) -> Tensor:
    """The affirmed form must win where the finding is, the denied form where it is not.

        m = score(affirmed) - score(denied);   L = mean( softplus(-m_with / tau) + softplus(m_without / tau) ) / 2

    The same two sentences meet both images, so nothing can be gained from the style of a sentence alone.
    """
    return (F.softplus(-margin_with_K / tau) + F.softplus(margin_without_K / tau)).mean() / 2
