"""What of an image encoder learns: all of it, nothing, or something small that is added to it.

Whatever is added starts as the identity, so that tokens and levels are those of the encoder, to the bit, until the
first step. Axes as in base.py.
"""

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glint.config.schema import VisionConfig
from glint.errors import ConfigError
from glint.model.lora import add_lora, query_value
from glint.model.vision.base import EncoderOutput, Grid, ImageEncoder


def tune(encoder: ImageEncoder, cfg: VisionConfig) -> ImageEncoder:
    """Return the encoder as `cfg.tuning` wants it trained; it is changed in place.

    Raises:
        ConfigError: The encoder has no attention for lora or adapters, or peft is missing.
    """
    if cfg.tuning == "full":
        return encoder
    encoder.requires_grad_(False)
    if cfg.tuning == "lora":
        add_lora(encoder, encoder.blocks(), cfg.tuning_rank, "vision.tuning = lora")
    if cfg.tuning == "adapters":
        for block in encoder.blocks():
            add_adapters(block, cfg.tuning_width)
    return TunedEncoder(encoder, cfg.tuning_blocks if cfg.tuning == "blocks" else 0)


def levels_learn(cfg: VisionConfig) -> bool:
    """Say whether training moves the levels: if not, there is nothing for dense feature regularization to hold."""
    return cfg.tuning not in ("frozen", "blocks")


class TunedEncoder(ImageEncoder):
    """A frozen encoder with what was added to it. Frozen parts stay in evaluation (batch statistics!).

    Args:
        encoder: Frozen but for what was added inside it.
        blocks: How many new transformer blocks follow on its tokens (dino.txt arXiv 2412.16334, RadZero). The levels
            are those of the encoder.
    """

    def __init__(self, encoder: ImageEncoder, blocks: int) -> None:
        super().__init__()
        self.arch, self.width = encoder.arch, encoder.width
        self.patch, self.multiple = encoder.patch, encoder.multiple
        self.encoder = encoder
        self.extra = nn.ModuleList(TokenBlock(encoder.width) for _ in range(blocks))
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Switch the new blocks; what is added inside the encoder has no dropout and no statistics."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> EncoderOutput:
        """See ImageEncoder."""
        output = self.encoder(images)
        tokens = output.tokens
        for block in self.extra:
            tokens = block(tokens)
        return EncoderOutput(tokens, output.grid, output.levels)

    def intermediate(self, images: Tensor) -> tuple[Tensor, ...]:
        """See ImageEncoder."""
        return self.encoder.intermediate(images)

    def blocks(self) -> list[nn.Module]:
        """See ImageEncoder."""
        return self.encoder.blocks()

    def patch_mm(self, spacing_mm: tuple[float, ...]) -> tuple[float, ...]:
        """See ImageEncoder."""
        return self.encoder.patch_mm(spacing_mm)

    def normalise(self, images: Tensor) -> Tensor:
        """See ImageEncoder."""
        return self.encoder.normalise(images)

    def grid(self, images: Tensor) -> Grid:
        """See ImageEncoder."""
        return self.encoder.grid(images)

    def pad(self, images: Tensor, value: float = 0.0) -> Tensor:
        """See ImageEncoder."""
        return self.encoder.pad(images, value)


class TokenBlock(nn.Module):
    """Pre-norm transformer block with layer scales and without positions, (B, P, C) -> the same; starts as identity.

    Upstream starts its layer scales at 1e-5 instead of its last projections at 0: close to the identity, but not it.
    """

    def __init__(self, width: int, head_width: int = 64) -> None:
        super().__init__()
        self.heads = max(h for h in range(1, max(1, width // head_width) + 1) if width % h == 0)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), zeroed(nn.Linear(width, width))
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), zeroed(nn.Linear(4 * width, width))
        self.scale1, self.scale2 = (nn.Parameter(torch.ones(width)) for _ in range(2))

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend, then transform each token."""
        qkv = self.qkv(self.norm1(tokens)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*qkv.unbind(0)).transpose(1, 2).flatten(2)
        tokens = tokens + self.scale1 * self.proj(attended)
        return tokens + self.scale2 * self.fc2(F.gelu(self.fc1(self.norm2(tokens))))


class Adapted(nn.Module):
    """A part of a block with a bottleneck: f(x) + scale * up(gelu(down(z))), where up starts at zero.

    Args:
        part: f; its output, or the first item of it, is (B, N, C).
        width: C.
        hidden: Width of the bottleneck.
        parallel: z is x, the input of the part; else z is f(x).
    """

    def __init__(self, part: nn.Module, width: int, hidden: int, *, parallel: bool) -> None:
        super().__init__()
        self.part, self.parallel = part, parallel
        self.down, self.up = nn.Linear(width, hidden), zeroed(nn.Linear(hidden, width))
        self.scale = 0.5 if parallel else 1.0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the part as the block does; whatever it returns beside the tokens goes on as it is."""
        output = self.part(*args, **kwargs)
        tokens = output[0] if isinstance(output, tuple) else output
        source = (*args, *kwargs.values())[0] if self.parallel else tokens
        tokens = tokens + self.scale * self.up(F.gelu(self.down(source)))
        return (tokens, *output[1:]) if isinstance(output, tuple) else tokens


def add_adapters(block: nn.Module, hidden: int) -> None:
    """Put the adapters of ALTA (arXiv 2506.08990) into a block, in place.

    One behind attention, one beside the MLP at half weight; hidden width C/4, which makes 8 % more parameters of a ViT.

    Raises:
        ConfigError: The block has no attention or no `mlp`.
    """
    attention = next((name for name, child in block.named_children() if query_value(child)), None)
    if attention is None or not hasattr(block, "mlp"):
        raise ConfigError(
            f"{type(block).__name__} has no attention and MLP that adapters could be put at",
            where="vision.tuning = adapters",
            expected="an encoder whose blocks are those of a transformer",
            fix="use another tuning (full, frozen or blocks), or another encoder",
        )
    width = query_value(block)[0].in_features
    for name, parallel in ((attention, False), ("mlp", True)):
        part = Adapted(getattr(block, name), width, hidden or width // 4, parallel=parallel)
        setattr(block, name, part)


def zeroed(linear: nn.Linear) -> nn.Linear:
    """Set weight and bias to zero."""
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
