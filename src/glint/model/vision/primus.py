"""Primus (arXiv 2503.01835), the image encoder of COLIPRI (arXiv 2510.15042): a plain 3D ViT of EVA-02 blocks.

Rotary positions on three axes, SwiGLU with a norm inside, a norm on attention outputs, layer scale; own code under
the tensor names of the authors' (`dynamic_network_architectures`). Sizes as width/depth/heads: S 396/12/6,
B 792/12/12, M 864/16/12, L 1056/24/16.

COLIPRI's orientation is not beyond doubt. Its package turned volumes to (S, A, R) in versions 0.1.0 and 0.1.1 and to
(R, A, S) since 0.1.2, with which the example of its model card scores better; its card still prints SAR. We follow
the later one: `axes = "xyz"`. `vision.arch.axes=zyx` is the earlier one.
"""

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from glint.errors import WeightsError
from glint.model.vision.base import EncoderOutput, Grid, even_levels
from glint.model.vision.volume import Spacing, VolumeArch, VolumeEncoder
from glint.model.weights import RawWeights

ROPE_THETA = 10000.0


class PrimusArch(VolumeArch):
    """Settings of a Primus. The defaults are COLIPRI's: Primus-M, 2 mm, HU [-1000, 1000] to [-1, 1], 192 voxels."""

    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    window_hu: tuple[tuple[float, float], ...] = ((-1000.0, 1000.0),)
    spacing_mm: Spacing | None = (2.0, 2.0, 2.0)
    size_vox: tuple[int, int, int] | None = (192, 192, 192)
    axes: Literal["zyx", "zxy", "xyz"] = "xyz"
    patch_vox: int = Field(8, ge=1)
    """Side of the cubic patch."""
    width: int = Field(864, ge=6)
    depth: int = Field(16, ge=1)
    heads: int = Field(12, ge=1)
    mlp_width: int = 0
    """Hidden width of the MLP; 0 means 8/3 * width."""
    projection: int = 0
    """Width of a linear map after the last norm (COLIPRI: 768); tokens are taken after it. 0 leaves it out."""
    levels: tuple[int, ...] = ()
    """Blocks (from 0) whose outputs are the levels of dense feature regularization; () means 1/4, 2/4, 3/4."""

    @model_validator(mode="after")
    def _heads_fit(self) -> "PrimusArch":
        if self.width % (6 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of 6 * heads = {6 * self.heads}")
        if any(not 0 <= block < self.depth for block in self.levels):
            raise ValueError(f"levels {self.levels} must be blocks from 0 to {self.depth - 1}")
        return self


class Primus(VolumeEncoder):
    """Primus: tokens are those of the last block after its norm (and projection); there are no prefix tokens."""

    Arch = PrimusArch
    licence: ClassVar[str] = "MIT (COLIPRI: Microsoft, shared for research, not for clinical use)"
    arch: PrimusArch

    def __init__(self, arch: PrimusArch) -> None:
        super().__init__()
        self.arch, self.width = arch, arch.projection or arch.width
        self.patch = self.multiple = (arch.patch_vox,) * 3
        self.down_projection = nn.ModuleDict(
            {"proj": nn.Conv3d(len(arch.mean), arch.width, arch.patch_vox, arch.patch_vox)}
        )
        blocks = nn.ModuleList(EvaBlock(arch) for _ in range(arch.depth))
        self.eva = nn.ModuleDict({"blocks": blocks, "norm": nn.LayerNorm(arch.width)})
        self.projection = nn.Linear(arch.width, arch.projection) if arch.projection else nn.Identity()
        self.levels = arch.levels or even_levels(arch.depth)[:-1] or (0,)

    def forward(self, images: Tensor) -> EncoderOutput:
        """See ImageEncoder."""
        grid = self.grid(images)
        maps = self.down_projection["proj"](self.turn(self.normalise(images)))
        seen = self.turn_grid(grid)
        rope = rotary(seen, self.arch.width // self.arch.heads, maps.device)
        x, levels = maps.flatten(2).transpose(1, 2), dict[int, Tensor]()
        for number, block in enumerate(self.blocks()):
            x = block(x, rope)
            if number in self.levels:
                levels[number] = x
        x = self.projection(self.eva["norm"](x))
        ordered = [self._row_major(t, seen) for t in (x, *(levels[i] for i in self.levels))]
        return EncoderOutput(ordered[0], grid, tuple(ordered[1:]))

    def _row_major(self, tokens: Tensor, seen: Grid) -> Tensor:
        """Order tokens (B, P, C), which are row-major in the weights' order of axes, by (Z, Y, X)."""
        maps = self.turn(tokens.transpose(1, 2).unflatten(2, seen))
        return maps.flatten(2).transpose(1, 2)

    def blocks(self) -> list[nn.Module]:
        """See ImageEncoder."""
        return list(self.eva["blocks"].children())

    @classmethod
    def adopt(cls, raw: RawWeights) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Read COLIPRI's model.safetensors, or a Primus alone (decoder and mask token are left out).

        COLIPRI's dense embeddings pass three linear maps after the last norm: the projector, then values and output
        of its attention pool. They become our one `projection`.
        """
        tensors = raw.tensors("state_dict", "model", "network_weights")
        marker = "down_projection.proj.weight"
        prefix = next((key.removesuffix(marker) for key in tensors if key.endswith(marker)), None)
        if prefix is None:
            raise WeightsError(
                f"these are no Primus weights: no {marker} among {sorted(tensors)[:4]}",
                where=raw.where,
                expected="microsoft/colipri, or the state dict of a Primus with its patch embedding",
            )
        dropped = ("up_projection.", "mask_token")
        inside = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        found = {
            key: value
            for key, value in inside.items()
            if not key.startswith((*dropped, "projector.", "pooler."))
        }
        around = prefix.removesuffix("backbone.")
        if f"{around}projector.weight" in tensors:
            found |= _dense_projection({k.removeprefix(around): v for k, v in tensors.items()})
        return _arch_of(found, raw), found


class EvaBlock(nn.Module):
    """Pre-norm block with layer scale, (B, P, C) -> (B, P, C) (EVA-02, arXiv 2303.11331)."""

    def __init__(self, arch: PrimusArch) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(arch.width), nn.LayerNorm(arch.width)
        self.attn = Attention(arch.width, arch.heads)
        self.mlp = SwiGLU(arch.width, arch.mlp_width or arch.width * 8 // 3)
        self.gamma_1 = nn.Parameter(torch.full((arch.width,), 0.1))
        self.gamma_2 = nn.Parameter(torch.full((arch.width,), 0.1))

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """Attend, then transform each token."""
        x = x + self.gamma_1 * self.attn(self.norm1(x), rope)
        return x + self.gamma_2 * self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Self-attention with rotary positions, no key bias, and a norm before the output projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.norm, self.proj = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """(B, P, C) -> (B, P, C)."""
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = F.scaled_dot_product_attention(rotate(q, rope), rotate(k, rope), v)
        return self.proj(self.norm(mixed.transpose(1, 2).flatten(2)))


class SwiGLU(nn.Module):
    """Gated MLP with a norm on its hidden features, (B, P, C) -> (B, P, C)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1_g, self.fc1_x = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.norm, self.fc2 = nn.LayerNorm(hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return W2 LN(silu(Wg x) * Wx x)."""
        return self.fc2(self.norm(F.silu(self.fc1_g(x)) * self.fc1_x(x)))


def rotary(grid: Grid, head_width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosine and sine (P, head_width) of positions: a third of the pairs for each axis, by patch index."""
    pairs = head_width // 6
    bands = ROPE_THETA ** -(torch.arange(pairs, device=device) / pairs)
    places = torch.cartesian_prod(*(torch.arange(side, device=device) for side in grid))  # (P, 3), row-major
    angles = (places[:, :, None] * bands).flatten(1).repeat_interleave(2, dim=1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate neighbouring channels of (B, heads, P, head_width) as pairs."""
    cos, sin = rope
    turned = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    return (x * cos + turned * sin).to(x.dtype)


def _dense_projection(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Join COLIPRI's projector with the values and the output of its attention pool, in double precision."""
    width = len(tensors["pooler.attn.out_proj.weight"])
    maps = [
        (tensors["projector.weight"].flatten(1), tensors["projector.bias"]),
        (
            tensors["pooler.attn.in_proj_weight"][2 * width :],
            tensors["pooler.attn.in_proj_bias"][2 * width :],
        ),
        (tensors["pooler.attn.out_proj.weight"], tensors["pooler.attn.out_proj.bias"]),
    ]
    weight, bias = maps[0][0].double(), maps[0][1].double()
    for next_weight, next_bias in maps[1:]:
        weight, bias = next_weight.double() @ weight, next_weight.double() @ bias + next_bias.double()
    return {"projection.weight": weight.float(), "projection.bias": bias.float()}


def _arch_of(tensors: dict[str, Tensor], raw: RawWeights) -> dict[str, Any]:
    """Infer the settings from shapes; heads from the authors' four sizes."""
    patches = tensors["down_projection.proj.weight"]
    width, sides = len(patches), set(patches.shape[2:])
    heads = {396: 6, 792: 12, 864: 12, 1056: 16}.get(width, raw.config.get("num_heads"))
    if patches.dim() != 5 or len(sides) != 1 or not heads:
        raise WeightsError(
            f"this Primus is none of the published sizes: patch embedding {tuple(patches.shape)}",
            where=raw.where,
            expected="S, B, M or L (width 396, 792, 864 or 1056) with cubic patches",
            fix="set num_heads in a config.json beside the weights",
        )
    return {
        "patch_vox": sides.pop(),
        "width": width,
        "depth": 1 + max(int(key.split(".")[2]) for key in tensors if key.startswith("eva.blocks.")),
        "heads": heads,
        "mlp_width": len(tensors["eva.blocks.0.mlp.fc1_g.weight"]),
        "projection": len(tensors.get("projection.weight", ())),
    }
