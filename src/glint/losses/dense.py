"""Dense feature regularization: intermediate features stay close to a frozen self-supervised teacher.

    L_dfr = mean over levels, images, patches of  1 - cos(LN(h_student), LN(h_teacher))

LN has no parameters; patch tokens only; the teacher sees the same augmented view (docs/method.md, DFR).
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Metric = Literal["cosine", "smooth_l1", "gram"]


def dense_feature_loss(student: tuple[Tensor, ...], teacher: tuple[Tensor, ...], metric: Metric) -> Tensor:
    """Average the distance of matching levels (B, Pl, Cl); the teacher gets no gradient."""
    assert len(student) == len(teacher) > 0
    losses = [_distance(s.float(), t.detach().float(), metric) for s, t in zip(student, teacher, strict=True)]
    return sum(losses[1:], losses[0]) / len(losses)


def _distance(student: Tensor, teacher: Tensor, metric: Metric) -> Tensor:
    s, t = (F.layer_norm(x, x.shape[-1:]) for x in (student, teacher))
    if metric == "cosine":
        return 1 - F.cosine_similarity(s, t, dim=-1).mean()
    if metric == "smooth_l1":
        return F.smooth_l1_loss(s, t)
    return gram_distance(s, t)


def gram_distance(student: Tensor, teacher: Tensor, kept: Tensor | None = None) -> Tensor:
    """Return the mean square difference of the cosines between patches of an image (DINOv3, arXiv 2508.10104).

    Args:
        student: (B, P, C).
        teacher: (B, P, Ct); widths may differ, as cosines do not know them.
        kept: (B, P), which patches count; None means all.
    """
    mine, theirs = (
        F.normalize(x, dim=-1) @ F.normalize(x, dim=-1).transpose(1, 2) for x in (student, teacher)
    )
    if kept is None:
        return F.mse_loss(mine, theirs)
    pairs = kept[:, :, None] & kept[:, None, :]
    return ((mine - theirs).square() * pairs).sum() / pairs.sum().clamp_min(1)
