"""Crops of one image for self-distillation: large ones that show most of it, small ones that show a part."""

import torch
import torch.nn.functional as F
from torch import Tensor

CONTRAST = (0.8, 1.25)  # exponent of the grey values, and factor of their distance from the mean


def crop(
    images: Tensor, valid_px: Tensor, area: tuple[float, float], size_px: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Cut a random square out of every image and resize it; contrast and gamma change a little. Never a flip.

    Args:
        images: (B, 1, Y, X) in [0, 1].
        valid_px: (B, Y, X), False on padding.
        area: Least and largest share of the image that a crop shows.
        size_px: Side of the crops.
        generator: CPU generator.

    Returns:
        Crops (B, 1, size_px, size_px) and their validity (B, size_px, size_px).
    """
    count = len(images)
    side = torch.empty(count).uniform_(*area, generator=generator).sqrt()
    centre = (torch.rand(count, 2, generator=generator) * 2 - 1) * (1 - side)[:, None]
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, :, 2] = centre
    grid = F.affine_grid(theta.to(images.device), [count, 1, size_px, size_px], align_corners=False)
    both = torch.cat([images.float(), valid_px[:, None].float()], 1)
    moved = F.grid_sample(both, grid, mode="bilinear", padding_mode="border", align_corners=False)
    views, valid = moved[:, :1], moved[:, 1] > 0.5
    low, high = (torch.tensor(bound).log() for bound in CONTRAST)
    gamma, contrast = (
        torch.empty(count, 1, 1, 1)
        .uniform_(float(low), float(high), generator=generator)
        .exp()
        .to(images.device)
        for _ in range(2)
    )
    views = views.clamp(0, 1) ** gamma
    mean = views.mean((1, 2, 3), keepdim=True)
    return ((views - mean) * contrast + mean).clamp(0, 1) * valid[:, None], valid
