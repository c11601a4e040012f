"""The transformer of V-JEPA: a plain pre-norm ViT over patches of a volume, with rotary positions on three axes.

Parameter names are those of the official files, so that loading needs no table. No CLS, no registers, no dropout.
Axes: B studies, C channels or width, P patches in row-major order of the grid (Zp, Yp, Xp), D channels of a head.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from glint.model.vision.base import Grid, as_tokens

EPS = 1e-6  # of every layer norm


@dataclass(frozen=True)
class Rope:
    """How the place of a patch turns queries and keys (V-JEPA 2, arXiv 2506.09985; 2.1, arXiv 2603.14482).

    Depth, height and width get 2 * (D // 6) channels each, in this order; what is left of D is not turned.

    Attributes:
        head_dim: D.
        tiled: 2.0 turns the two channels of a pair by different angles. That is a slip, but its weights have
            learnt with it; 2.1 turns both by the same one.
        trained_grid: Rows and columns are mapped onto 0 ... trained_grid - 1 whatever their number (2.1);
            0 leaves the indices as they are (2.0).
        trained_depth: Likewise for tubelets, but only when there are more than that: shorter inputs were seen in
            training as they are. 0 never maps.
    """

    head_dim: int
    tiled: bool
    trained_grid: int
    trained_depth: int

    def positions(self, grid: Grid) -> list[Tensor]:
        """Return the fp32 position of every index, one vector for each of the three axes."""
        depth, *sides = (torch.arange(n, dtype=torch.float32, device="cpu") for n in grid)
        if 0 < self.trained_depth < len(depth):
            depth = _spread(depth, self.trained_depth)
        return [depth, *(_spread(s, self.trained_grid) if self.trained_grid else s for s in sides)]


def _spread(indices: Tensor, trained: int) -> Tensor:
    # An axis of a single patch has no extent to spread; upstream divides by zero there.
    return indices * (trained - 1) / max(1, len(indices) - 1)


@lru_cache(maxsize=8)  # student and teacher share a table; one for ViT-B at 192 x 320 x 320 takes 20 MB
@torch.inference_mode(False)  # made during inference, it must still serve training
def rope_tables(rope: Rope, grid: Grid, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return (sin, cos), each (P, D) in fp32; sin carries the signs of `rotate`. Angles in bf16 are off by 0.1 rad."""
    channels = 2 * (rope.head_dim // 6)
    half = channels // 2
    omega = 1.0 / 10000 ** (torch.arange(half, dtype=torch.float32, device="cpu") / half)
    angles: list[Tensor] = []
    for axis, where in enumerate(rope.positions(grid)):
        angle = where[:, None] * omega
        angle = angle.repeat(1, 2) if rope.tiled else angle.repeat_interleave(2, dim=1)
        shape = [len(where) if i == axis else 1 for i in range(3)]
        angles.append(angle.view(*shape, channels).expand(*grid, channels).reshape(-1, channels))
    # Angle 0 leaves the remaining channels as they are.
    table = F.pad(torch.cat(angles, dim=1), (0, rope.head_dim - 3 * channels))
    signs = torch.tensor([-1.0, 1.0], device="cpu").repeat(rope.head_dim // 2)
    return (table.sin() * signs).to(device), table.cos().to(device)


def rotate(x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """Turn each pair of channels of x (B, heads, P, D): (a, b) -> (a cos - b sin, b cos + a sin)."""
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return x * cos + swapped * sin


class PatchEmbed(nn.Module):
    """Volumes (B, C, Z, Y, X) to tokens (B, P, width) by a convolution without overlap."""

    def __init__(self, channels: int, width: int, patch: tuple[int, int, int]) -> None:
        super().__init__()
        self.proj = nn.Conv3d(channels, width, patch, patch)

    def forward(self, pixels: Tensor, gray: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Embed normalised pixels; with `gray` = (mean, std), (C,) each, plain pixels of one channel instead.

        The convolution of a repeated and normalised grey value is one of the value itself: w' = sum w_c / std_c,
        b' = b - sum mean_c w_c / std_c. It reads a third of the input.
        """
        if gray is None:
            return as_tokens(self.proj(pixels))
        mean, std = (numbers.view(-1, 1, 1, 1) for numbers in gray)
        weight = self.proj.weight / std
        assert self.proj.bias is not None
        bias = self.proj.bias - (weight * mean).sum((1, 2, 3, 4))
        return as_tokens(F.conv3d(pixels, weight.sum(1, keepdim=True), bias, self.proj.stride))


class Attention(nn.Module):
    """Self-attention over all patches; the kernel is PyTorch's choice (flash on CUDA)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
        """Map (B, P, C) to the same."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(rotate(q, sin, cos), rotate(k, sin, cos), v)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two layers with GELU, (B, P, C) -> the same."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return fc2(gelu(fc1(x)))."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, mlp_width: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, EPS), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, EPS), Mlp(width, mlp_width)

    def forward(self, x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
        """Map (B, P, C) to the same."""
        x = x + self.attn(self.norm1(x), sin, cos)
        return x + self.mlp(self.norm2(x))


class VideoViT(nn.Module):
    """The encoder network of V-JEPA 2.0 and 2.1.

    Args:
        channels: C of the input.
        patch: (tubelet, patch, patch) in voxels.
        width: C of the tokens.
        depth: Number of blocks.
        heads: Attention heads.
        mlp_width: Hidden width of the MLPs.
        norms: How many levels have a norm of their own in 2.1, which also embeds single slices and tells them from
            volumes; 0 makes a 2.0, with one norm and no slices.
        rope: Rotary positions.
        checkpointing: Compute the inside of blocks again in the backward pass instead of keeping it.
    """

    def __init__(
        self,
        *,
        channels: int,
        patch: tuple[int, int, int],
        width: int,
        depth: int,
        heads: int,
        mlp_width: int,
        norms: int,
        rope: Rope,
        checkpointing: bool,
    ) -> None:
        super().__init__()
        self.rope, self.checkpointing, self.takes_slices = rope, checkpointing, norms > 0
        self.patch_embed = PatchEmbed(channels, width, patch)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_width) for _ in range(depth))
        if norms:
            self.patch_embed_img = PatchEmbed(channels, width, (1, patch[1], patch[2]))
            self.img_mod_embed = nn.Parameter(torch.zeros(1, 1, width))
            self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, width))
            self.norms_block = nn.ModuleList(nn.LayerNorm(width, EPS) for _ in range(norms))
        else:
            self.norm = nn.LayerNorm(width, EPS)
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Small random weights; what block i adds to the residual stream starts 1 / sqrt(2 i) times as large."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv3d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType]
        for i, block in enumerate(self.blocks, start=1):
            assert isinstance(block, Block)
            block.attn.proj.weight /= math.sqrt(2 * i)
            block.mlp.fc2.weight /= math.sqrt(2 * i)

    def forward(
        self, pixels: Tensor, grid: Grid, levels: tuple[int, ...], gray: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Encode volumes, or single slices (Z = 1).

        Args:
            pixels: (B, C, Z, Y, X) normalised, or (B, 1, Z, Y, X) in [0, 1] with `gray` (PatchEmbed).
            grid: (Zp, Yp, Xp).
            levels: Blocks whose outputs are wanted.
            gray: Means and deviations of the channels, or None.

        Returns:
            Normed tokens (B, P, C) of the last block; outputs (B, P, C) of the wanted blocks without norm.
        """
        is_slice = self.takes_slices and pixels.shape[2] == 1
        x = self.patch_embed_img(pixels, gray) if is_slice else self.patch_embed(pixels, gray)
        # Under autocast the convolution tells the precision of queries and keys.
        sin, cos = (table.to(x.dtype) for table in rope_tables(self.rope, grid, x.device))
        if self.takes_slices:
            x = x + (self.img_mod_embed if is_slice else self.video_mod_embed)
        kept: dict[int, Tensor] = {}
        for i, block in enumerate(self.blocks):
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, sin, cos, use_reentrant=False)
            else:
                x = block(x, sin, cos)
            if i in levels:
                kept[i] = x
        norm = self.norms_block[-1] if self.takes_slices else self.norm
        return norm(x), tuple(kept[i] for i in levels)
