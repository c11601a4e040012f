"""Self-distillation with a moving-average teacher, in the way of DINOv3: the way to adapt a published encoder.

    L = L_dino + L_ibot + w_koleo L_koleo + w_gram L_gram

    dino   the mean token of one crop predicts the teacher's prototype assignment of another crop of the image
    ibot   a token under a mask predicts the teacher's assignment of the same patch, which the teacher sees
    koleo  mean tokens of a batch spread evenly (log distance to the nearest neighbour)
    gram   cosines between the visible patches of an image stay those of the encoder that training started from

Assignments of the teacher are made even over prototypes by Sinkhorn-Knopp. DINOv3 distils its CLS token; here the mean
of the patch tokens takes its place, because prefix tokens never leave an encoder and GLINT does not use them.
Axes: B studies, P patches, C encoder width, K prototypes.
Sources: DINO arXiv 2104.14294, iBOT 2111.07832, DINOv2 2304.07193 (KoLeo, Sinkhorn), DINOv3 2508.10104 (Gram).
"""

import copy
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glint.config.schema import PretrainConfig
from glint.errors import ConfigError
from glint.losses.dense import gram_distance
from glint.losses.masked import block_mask, hide, token_spread, whole_cells
from glint.losses.views import crop
from glint.model.teacher import Teacher
from glint.model.vision.base import ImageEncoder

if TYPE_CHECKING:
    from glint.data.dataset import PairBatch

STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.07
GLOBAL_AREA, LOCAL_AREA = (0.5, 1.0), (0.1, 0.4)


class SelfDistillation(nn.Module):
    """Objective of `glint pretrain` with `pretrain.method=dino`.

    Args:
        cfg: Masks, moving average, prototypes and weights.
        vision: The student; any 2D encoder. The Gram term is anchored to it as it is given.
    """

    def __init__(self, cfg: PretrainConfig, vision: ImageEncoder) -> None:
        super().__init__()
        if len(vision.patch) != 2:
            raise ConfigError(
                "pretrain.method=dino cuts its crops out of 2D images",
                where=f"vision.name, {type(vision).__name__}",
                fix="set pretrain.method=masked or jepa for volumes",
            )
        self.cfg, self.vision = cfg, vision
        self.teacher = Teacher(vision, moving=True)
        self.anchor = Teacher(vision) if cfg.gram > 0 else None
        self.heads = nn.ModuleDict({name: Head(vision.width, cfg.prototypes) for name in ("image", "patch")})
        self.teacher_heads = copy.deepcopy(self.heads).requires_grad_(False)

    def forward(self, batch: "PairBatch", generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and its parts; `generator` (CPU) cuts crops and places masks. Reports are not looked at."""
        size, patch = int(batch.images.shape[-1]), self.vision.patch
        views = [crop(batch.images, batch.valid_px, GLOBAL_AREA, size, generator) for _ in range(2)]
        images, valid_px = (torch.cat(parts) for parts in zip(*views, strict=True))
        mask_px = block_mask(
            len(images), images.shape[-2:], self.cfg.mask_block_px, self.cfg.mask_ratio, generator
        )
        mask_px = mask_px.to(images.device)
        student = self.vision(hide(images, mask_px, generator)).tokens
        teacher = self.teacher(images).tokens
        small = [self._local(batch, generator) for _ in range(self.cfg.local_crops)]
        valid, hidden = whole_cells(valid_px, patch), whole_cells(mask_px, patch)
        with torch.autocast(images.device.type, enabled=False):
            parts = {
                "dino": self._image_loss(student, teacher, valid, small),
                "ibot": self._patch_loss(student, teacher, valid & hidden),
                "koleo": koleo(mean_token(student.float(), valid)[: len(batch.images)]),
            }
            if self.anchor is not None:
                # Visible and valid patches only: what lies under a mask is a guess.
                parts["gram"] = gram_distance(
                    student.float(), self.anchor(images).tokens.float(), valid & ~hidden
                )
        weights = {"dino": 1.0, "ibot": 1.0, "koleo": self.cfg.koleo, "gram": self.cfg.gram}
        total = torch.stack([weights[name] * value for name, value in parts.items()]).sum()
        spread = token_spread(teacher)
        return total, {f"loss_{k}": float(v.detach()) for k, v in parts.items()} | {
            "teacher_spread": float(spread)
        }

    def _local(self, batch: "PairBatch", generator: torch.Generator) -> Tensor:
        """Return mean tokens (B, C) of a small crop of every image."""
        multiple = self.vision.multiple[-1]
        side = max(multiple, round(batch.images.shape[-1] * 0.4 / multiple) * multiple)
        images, valid_px = crop(batch.images, batch.valid_px, LOCAL_AREA, side, generator)
        return mean_token(self.vision(images).tokens.float(), whole_cells(valid_px, self.vision.patch))

    def _image_loss(self, student: Tensor, teacher: Tensor, valid: Tensor, small: list[Tensor]) -> Tensor:
        """Each crop of the student predicts the assignment of each large crop but itself."""
        with torch.no_grad():
            logits = self.teacher_heads["image"](mean_token(teacher.float(), valid))
            first, second = sinkhorn(logits / TEACHER_TEMPERATURE).chunk(2)
        mine = self.heads["image"](mean_token(student.float(), valid)) / STUDENT_TEMPERATURE
        one, other = mine.chunk(2)
        losses = [cross_entropy(one, second), cross_entropy(other, first)]
        for tokens in small:
            guess = self.heads["image"](tokens) / STUDENT_TEMPERATURE
            losses += [cross_entropy(guess, first), cross_entropy(guess, second)]
        return torch.stack(losses).mean()

    def _patch_loss(self, student: Tensor, teacher: Tensor, scored: Tensor) -> Tensor:
        """Tokens under the mask predict the assignment of the patch that the teacher sees."""
        if not bool(scored.any()):
            return student.sum() * 0.0
        with torch.no_grad():
            target = sinkhorn(self.teacher_heads["patch"](teacher.float()[scored]) / TEACHER_TEMPERATURE)
        return cross_entropy(self.heads["patch"](student.float()[scored]) / STUDENT_TEMPERATURE, target)

    @torch.no_grad()
    def update_teacher(self) -> None:
        """Move the teacher and its heads a little towards the student."""
        self.teacher.follow(self.vision, self.cfg.ema)
        for mine, theirs in zip(self.teacher_heads.parameters(), self.heads.parameters(), strict=True):
            mine.lerp_(theirs, 1 - self.cfg.ema)


class Head(nn.Module):
    """Tokens (..., C) to logits of K prototypes: MLP, unit length, cosine with unit prototypes."""

    def __init__(self, width: int, prototypes: int, bottleneck: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, bottleneck)
        )
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return cosines with the prototypes, in [-1, 1]."""
        return F.normalize(self.layers(tokens), dim=-1) @ F.normalize(self.prototypes, dim=-1).T


def mean_token(tokens: Tensor, valid: Tensor) -> Tensor:
    """Return the mean (B, C) of valid tokens (B, P, C)."""
    weights = valid.float()[..., None]
    return (tokens * weights).sum(1) / weights.sum(1).clamp_min(1)


@torch.no_grad()
def sinkhorn(logits: Tensor, iterations: int = 3) -> Tensor:
    """Return assignments (N, K): rows sum to 1, columns are as even as `iterations` of scaling make them."""
    q = (logits.float() - logits.max()).exp()
    for _ in range(iterations):
        q = q / q.sum(0, keepdim=True).clamp_min(1e-12) / q.shape[1]
        q = q / q.sum(1, keepdim=True).clamp_min(1e-12) / q.shape[0]
    return q * q.shape[0]


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits (N, K) against assignments (N, K)."""
    return -(target * logits.log_softmax(-1)).sum(-1).mean()


def koleo(vectors: Tensor) -> Tensor:
    """Return -mean log distance of unit vectors (N, C) to their nearest neighbour (Kozachenko-Leonenko)."""
    unit = F.normalize(vectors, dim=-1)
    with torch.no_grad():
        cosines = unit @ unit.T
        cosines.fill_diagonal_(-2)
        nearest = cosines.argmax(1)
    return -((unit - unit[nearest]).norm(dim=-1) + 1e-8).log().mean()
