"""A model that points where the image is bright, and counts how often it is asked."""

from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from glint.config.schema import GlintConfig
from glint.model.glint import Prediction


class Vision:
    """Says how many pixels a token has."""

    patch = (16, 16)


@dataclass
class BrightSpotModel:
    """Maps are the brightness of each token; scores their maximum."""

    cfg: GlintConfig = field(default_factory=GlintConfig)
    vision: Vision = field(default_factory=Vision)
    calls: list[tuple[Tensor, Tensor | None, list[str]]] = field(default_factory=list)

    def predict(self, images: Tensor, valid: Tensor | None, queries: list[str]) -> Prediction:
        """Answer every query alike."""
        self.calls.append((images, valid, queries))
        tokens = F.avg_pool2d(images, 16)
        maps = tokens.flatten(1)[None].expand(len(queries), -1, -1)
        return Prediction(maps.amax(-1), maps, maps, (tokens.shape[2], tokens.shape[3]))


@pytest.fixture
def model() -> BrightSpotModel:
    """A fresh model."""
    torch.manual_seed(0)
    return BrightSpotModel()
