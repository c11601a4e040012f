"""Small changes of CT crops that leave a report true: scanners differ in level, noise and sharpness. Never a flip.

Places are varied by the cut of the crop (data/volumes.py); turning and zooming volumes costs more than it teaches here.
Axes: B studies, C channels (windows, then that of the side, where there is one), Z Y X voxels.
"""

from dataclasses import replace

import torch

from glint.data.dataset import PairBatch
from glint.io.side import SIDE_MM

LEVEL = 0.03  # of the window
GAIN = 0.05
NOISE = 0.03  # largest standard deviation
SHIFT = 30.0 / (2 * SIDE_MM)  # of the midline: patients lie beside the isocentre


def augment_volume(batch: PairBatch, generator: torch.Generator, strength: float, windows: int) -> PairBatch:
    """Return the batch with changed volumes in [0, 1]; padding stays as it is, air.

    Args:
        batch: Volumes (B, C, Z, Y, X) uint8 on any device.
        generator: CPU generator; the result does not depend on anything else.
        strength: 0 to 1, a factor of every range: 0 changes nothing but the type.
        windows: Number of windows: the first channels.
    """
    count, device = len(batch.images), batch.images.device

    def drawn(low: float, high: float) -> torch.Tensor:
        values = torch.empty(count, 1, 1, 1, 1).uniform_(low, high, generator=generator)
        return (strength * values).to(device)

    level, gain, sigma = drawn(-LEVEL, LEVEL), 1 + drawn(-GAIN, GAIN), drawn(0, NOISE)
    # One noise for all volumes, at another amplitude each: drawing it for each costs more than the encoder's stem.
    noise = torch.randn(batch.images.shape[2:], generator=generator).to(device)
    plain = batch.images.float() / 255
    grey, side = plain[:, :windows], plain[:, windows:]
    changed = (grey - 0.5).mul_(gain).add_(0.5 + level).add_(sigma * noise).clamp_(0, 1)
    changed = torch.where(batch.valid_px[:, None], changed, grey)
    if side.shape[1]:
        changed = torch.cat([changed, (side + drawn(-SHIFT, SHIFT)).clamp_(0, 1)], dim=1)
    return replace(batch, images=changed)
