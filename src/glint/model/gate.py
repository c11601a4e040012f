"""The sparse gate: which patches may a sentence look at? (GLINT, sparsely gated alignment; docs/method.md)

    z[s,b,p] = alpha * <q_s, k_bp> + beta        gate = sigmoid(z)

q and k are L2-normalised in a gate space of their own (width G), so that where a sentence looks is learnt apart
from what it means there. beta starts at -ln P (about one open patch in all), alpha at |beta| + 4, since a cosine
gate with a smaller alpha could never open.
Axes: S sentences, B studies, P patches, C encoder width, E text width, G gate width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glint.config.schema import AlignConfig

ALPHA_MIN, ALPHA_MAX = 1.0, 50.0


class Gate(nn.Module):
    """Project sentences and patches into the gate space; turn their cosine into gate logits.

    Args:
        cfg: Alignment settings.
        text_width: E.
        vision_width: C.
        num_patches: P at the training size; sets beta_0 = -ln P.
    """

    def __init__(self, cfg: AlignConfig, text_width: int, vision_width: int, num_patches: int) -> None:
        super().__init__()
        self.query = nn.Sequential(nn.LayerNorm(text_width), nn.Linear(text_width, cfg.gate_dim, bias=False))
        self.key = nn.Sequential(
            nn.LayerNorm(vision_width), nn.Linear(vision_width, cfg.gate_dim, bias=False)
        )
        beta = -math.log(num_patches) if cfg.gate_bias_init is None else cfg.gate_bias_init
        alpha = abs(beta) + 4.0 if cfg.gate_scale_init is None else cfg.gate_scale_init
        self.log_alpha = nn.Parameter(torch.tensor(math.log(alpha)))
        self.beta = nn.Parameter(torch.tensor(float(beta)))

    @property
    def alpha(self) -> Tensor:
        """Gate scale, clamped to [1, 50]."""
        return self.log_alpha.exp().clamp(ALPHA_MIN, ALPHA_MAX)

    def queries(self, text: Tensor) -> Tensor:
        """(S, E) -> (S, G), unit length."""
        return F.normalize(self.query(text).float(), dim=-1)

    def keys(self, tokens: Tensor) -> Tensor:
        """(B, P, C) -> (B, P, G), unit length; bf16 under autocast."""
        return F.normalize(self.key(tokens), dim=-1)

    def logits(self, cosine: Tensor) -> Tensor:
        """Gate logits z of cosines <q, k> of any shape."""
        return self.alpha * cosine + self.beta
