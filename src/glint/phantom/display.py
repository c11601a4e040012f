"""From log signal to stored values: tone curve, shutter, side marker, and the blur used on the way."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from glint.phantom.exposure import REFERENCE_PX, Exposure

MAX_VALUE = 4095
_LETTERS = {
    "L": ("1....", "1....", "1....", "1....", "1....", "1....", "11111"),
    "R": ("1111.", "1...1", "1...1", "1111.", "1.1..", "1..1.", "1...1"),
}


def open_field(exposure: Exposure, size_px: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the (Y, X) bool pixels that are not under the collimator's shutter."""
    if exposure.shutter == "none":
        return torch.ones((size_px, size_px), dtype=torch.bool, device=device)
    at = (torch.arange(size_px, device=device) + 0.5) / size_px - 0.5
    cos, sin = (
        math.cos(math.radians(exposure.collimator_deg)),
        math.sin(math.radians(exposure.collimator_deg)),
    )
    row = cos * at[:, None] - sin * at[None] + 0.5
    column = sin * at[:, None] + cos * at[None] + 0.5
    top, bottom, left, right = exposure.margins
    return (row > top) & (row < 1 - bottom) & (column > left) & (column < 1 - right)


def develop(log_signal: Tensor, exposure: Exposure, window: tuple[float, float], size_px: int) -> Tensor:
    """Map log signal to 12-bit values, then put shutter and marker on."""
    low, high = window
    middle = (log_signal - low) / (high - low) - 0.5
    tone = middle * exposure.contrast * 0.92 + exposure.brightness
    steep = 1 + 3 * exposure.shoulder
    # A sigmoid with unit slope in the middle; the more shoulder, the sooner it flattens.
    tone = torch.tanh(tone * steep * 0.5) / math.tanh(steep * 0.5 * 0.55) * 0.47 + 0.5
    field = open_field(exposure, size_px, log_signal.device)
    tone = torch.where(field, tone, 1.0 if exposure.shutter == "white" else 0.0)
    tone = torch.maximum(tone, 0.97 * _marker(exposure, size_px).to(tone.device))
    return (tone * MAX_VALUE).round().clamp(0, MAX_VALUE).to(torch.int32)


def _marker(exposure: Exposure, size_px: int) -> Tensor:
    """Return a (Y, X) image of the lead letter, 0..1."""
    canvas = torch.zeros((size_px, size_px))
    if not exposure.marker:
        return canvas
    dots = torch.tensor([[float(dot == "1") for dot in line] for line in _LETTERS[exposure.marker]])
    scale = size_px / REFERENCE_PX
    height = max(7, round(exposure.marker_px * scale))
    letter = F.interpolate(dots[None, None], size=(height, max(5, height * 5 // 7)), mode="nearest")[0, 0]
    row, column = (round(at * size_px) for at in exposure.marker_at)
    top = min(max(row - height // 2, 0), size_px - height)
    left = min(max(column - letter.shape[1] // 2, 0), size_px - letter.shape[1])
    canvas[top : top + height, left : left + letter.shape[1]] = letter
    return canvas


def blur(image: Tensor, sigma_px: float) -> Tensor:
    """Blur a (Y, X) image with a Gaussian; the border is continued. Wide blurs work on a coarser copy."""
    shrink = max(1, int(sigma_px / 3))
    small = image[None, None]
    if shrink > 1:
        small = F.avg_pool2d(small, shrink, ceil_mode=True, count_include_pad=False)
    sigma = sigma_px / shrink
    reach = max(1, math.ceil(3 * sigma))
    at = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = kernel / kernel.sum()
    small = F.pad(small, (reach, reach, reach, reach), mode="replicate")
    small = F.conv2d(F.conv2d(small, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    if shrink > 1:
        small = F.interpolate(small, size=[s * shrink for s in small.shape[2:]], mode="bilinear")
        small = small[..., : image.shape[0], : image.shape[1]]
    return small[0, 0]
