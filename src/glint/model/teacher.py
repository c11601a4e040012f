"""The frozen teacher: a copy of an encoder that no optimiser, `train()` or `eval()` can change."""

import copy
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from glint.model.vision.base import EncoderOutput, ImageEncoder


class Teacher(nn.Module):
    """Copy of an encoder for targets: no gradient, no dropout, no augmentation of its own.

    Batch normalisation uses the statistics of the batch at hand, as it does in the student that trains. With stored
    statistics a teacher would differ from its own copy before the first step: by 0.5 of the DFR loss for a moving
    average whose weights lag behind the student that the statistics came from. Normalisation that is frozen in the
    student uses stored statistics there (TunedEncoder), and so it does here.

    Args:
        encoder: What to copy.
        moving: Follow a student (`follow`) and keep normalisation statistics of its own, for use after training.
    """

    def __init__(self, encoder: ImageEncoder, *, moving: bool = False) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self._norms = [m for m in self.encoder.modules() if isinstance(m, _BatchNorm) and _learns(m)]
        self.encoder.requires_grad_(False)
        self.moving = moving
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Stay as it is, whatever the student does."""
        super().train(False)
        for module in self._norms:
            module.train()
            module.track_running_stats = self.moving
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> EncoderOutput:
        """Encode images as the encoder would."""
        return self.encoder(images)

    @torch.no_grad()
    def intermediate(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the levels alone."""
        return self.encoder.intermediate(images)

    @torch.no_grad()
    def follow(self, student: nn.Module, keep: float) -> None:
        """Move the weights a little towards the student's: keep * mine + (1 - keep) * theirs."""
        for mine, theirs in zip(self.encoder.parameters(), student.parameters(), strict=True):
            mine.lerp_(theirs, 1 - keep)


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())
