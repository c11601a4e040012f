"""From a CT volume to a radiograph: beam, scatter, noise, detector, display.

Nothing here may know about findings except through attenuation. Scatter, tone and the smooth part that
dynamic-range compression subtracts are therefore measured once on the patient *without* findings
(`calibrate`) and reused for every study of that patient and exposure, so that two renderings with the same
noise differ only where rays cross the finding (and within the detector's blur of a few pixels).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from glint.phantom.physics import densities, transmission
from glint.phantom.projection import Pose, Spacing, bounding_box, path_mm, pixel_mm, project

MAX_VALUE = 4095
REFERENCE_PX = 384  # sizes of blur and marker are given for this image size
MIN_PATH_MM = 2.5
_LETTERS = {
    "L": ("1....", "1....", "1....", "1....", "1....", "1....", "11111"),
    "R": ("1111.", "1...1", "1...1", "1111.", "1.1..", "1..1.", "1...1"),
}


@dataclass(frozen=True)
class Exposure:
    """Everything about one exposure that is not the patient. Lengths in px hold for a 384 px image.

    Attributes:
        pose: Geometry.
        kvp: Tube voltage.
        photons: Detected per pixel without a patient; sets quantum noise.
        scatter: Scatter-to-primary ratio, mean over the body.
        scatter_px: Standard deviation of the scatter's spread.
        blur_px: Standard deviation of the detector's point spread.
        compression: Share of the smooth part of the image that is removed (dynamic-range compression).
        compression_px: Scale of that smooth part.
        contrast: Slope of the tone curve relative to the patient's own range.
        brightness: Shift of the tone curve, fraction of the range.
        shoulder: 0 linear tone curve .. 1 strongly sigmoid.
        edge: Gain of unsharp masking.
        edge_px: Its scale.
        margins: Collimated fraction of the image at (top, bottom, left, right).
        collimator_deg: Rotation of the collimator.
        shutter: What the collimated border shows.
        marker: Side letter, or "".
        marker_at: (row, column) of its centre as fractions of the image.
        marker_px: Its height.
    """

    pose: Pose
    kvp: int = 110
    photons: float = 3e5
    scatter: float = 0.25
    scatter_px: float = 45.0
    blur_px: float = 0.5
    compression: float = 0.4
    compression_px: float = 28.0
    contrast: float = 1.0
    brightness: float = 0.0
    shoulder: float = 0.5
    edge: float = 0.4
    edge_px: float = 1.5
    margins: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    collimator_deg: float = 0.0
    shutter: Literal["none", "black", "white"] = "none"
    marker: Literal["", "L", "R"] = ""
    marker_at: tuple[float, float] = (0.08, 0.9)
    marker_px: float = 22.0

    @property
    def view(self) -> Literal["PA", "AP"]:
        """Return the projection's name."""
        return self.pose.view


@dataclass(frozen=True)
class Calibration:
    """What the rendering of a study takes from the same patient without findings.

    Attributes:
        hu: (Z, Y, X) volume it was measured on (a reference, not a copy).
        areal: (2, Y, X) its line integrals of water and bone, g/cm^2.
        scatter: (Y, X) scatter signal, fraction of the open beam.
        smooth: (Y, X) smooth part of its log signal.
        window: Log signal shown as black, and as white.
    """

    hu: Tensor
    areal: Tensor
    scatter: Tensor
    smooth: Tensor
    window: tuple[float, float]


def sample_exposure(generator: torch.Generator, view: Literal["PA", "AP"] | None = None) -> Exposure:
    """Draw one exposure: 65 % PA of a standing, 35 % AP of a lying patient unless `view` is given."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    draw_pa = uniform(0, 1) < 0.65
    pa = draw_pa if view is None else view == "PA"
    pose = Pose(
        view="PA" if pa else "AP",
        sid_mm=uniform(1650, 2000) if pa else uniform(1000, 1300),
        gap_mm=uniform(15, 40),
        turn=uniform(-0.07, 0.07) if pa else uniform(-0.13, 0.13),
        tilt=uniform(-0.04, 0.06) if pa else uniform(-0.12, 0.14),
        rotation_deg=uniform(-2, 2) if pa else uniform(-5, 5),
        shift=(uniform(-0.01, 0.05), uniform(-0.04, 0.04)),
        coverage=uniform(0.88, 1.02),
    )
    collimated = uniform(0, 1)
    shutter: Literal["none", "black", "white"] = (
        "none" if collimated < 0.45 else "black" if collimated < 0.85 else "white"
    )
    letter = uniform(0, 1)
    marker: Literal["", "L", "R"] = "" if letter < 0.35 else "L" if letter < 0.7 else "R"
    column = uniform(0.05, 0.14)
    return Exposure(
        pose=pose,
        kvp=round(uniform(95, 130) if pa else uniform(70, 110)),
        photons=math.exp(uniform(math.log(6e4), math.log(1.2e6))),
        scatter=uniform(0.08, 0.4) if pa else uniform(0.2, 0.7),
        scatter_px=uniform(30, 60),
        blur_px=uniform(0.3, 0.7),
        compression=uniform(0.2, 0.6),
        compression_px=uniform(20, 40),
        contrast=uniform(0.85, 1.2),
        brightness=uniform(-0.08, 0.08),
        shoulder=uniform(0.1, 0.9),
        edge=uniform(0, 0.9),
        edge_px=uniform(1.0, 2.2),
        margins=(uniform(0.005, 0.04), uniform(0.005, 0.05), uniform(0.005, 0.06), uniform(0.005, 0.06)),
        collimator_deg=uniform(-1.5, 1.5),
        shutter=shutter,
        marker=marker,
        marker_at=(uniform(0.05, 0.13), 1 - column if marker == "L" else column),
        marker_px=uniform(14, 28),
    )


def image_spacing_mm(
    shape: tuple[int, ...], spacing_mm: Spacing, exposure: Exposure, size_px: int = REFERENCE_PX
) -> float:
    """Return the pixel spacing at the detector, mm (DICOM ImagerPixelSpacing)."""
    return pixel_mm(shape, spacing_mm, exposure.pose, size_px)


def calibrate(
    normal_hu: Tensor, spacing_mm: Spacing, exposure: Exposure, size_px: int = REFERENCE_PX
) -> Calibration:
    """Measure scatter, smooth part and tone on the patient without findings.

    Args:
        normal_hu: (Z, Y, X) float32, Hounsfield units.
        spacing_mm: (z, y, x).
        exposure: The exposure that studies will be rendered with.
        size_px: Side of the image.
    """
    z, y, x = normal_hu.shape
    whole = (slice(0, z), slice(0, y), slice(0, x))
    per_mm = densities(normal_hu)
    areal = project(per_mm, whole, (z, y, x), spacing_mm, exposure.pose, size_px) / 10
    primary = transmission(areal, exposure.kvp)
    unit = size_px / REFERENCE_PX
    # Scatter is born where much tissue meets much beam.
    source = _blur(primary * (areal[0] + areal[1]), exposure.scatter_px * unit)
    in_body = areal[0] > 3
    mean_primary, mean_source = _mean(primary, in_body), _mean(source, in_body)
    scatter = source * (exposure.scatter * mean_primary / mean_source)
    log_signal = -torch.log(primary + scatter)
    smooth = _blur(log_signal, exposure.compression_px * unit)
    shown = log_signal - exposure.compression * (smooth - _mean(smooth, in_body))
    seen = shown[in_body & open_field(exposure, size_px, normal_hu.device)]
    limits = torch.quantile(seen[:: max(1, len(seen) // 50_000)], torch.tensor([0.01, 0.99], device=seen.device))
    return Calibration(normal_hu, areal, scatter, smooth, (float(limits[0]), float(limits[1])))


def render(
    hu: Tensor,
    spacing_mm: Spacing,
    exposure: Exposure,
    size_px: int = REFERENCE_PX,
    generator: torch.Generator | None = None,
    calibration: Calibration | None = None,
) -> Tensor:
    """Take the radiograph.

    Args:
        hu: (Z, Y, X) float32, Hounsfield units, with or without findings.
        spacing_mm: (z, y, x).
        exposure: From sample_exposure.
        size_px: Side of the square image.
        generator: Source of the noise, on the CPU; None gives a noise-free image.
        calibration: From `calibrate` on the same patient without findings, same exposure and size. Only the
            part of `hu` that differs from it is projected. Without it, `hu` calibrates itself: right for a
            normal chest, and a shortcut for a model when there are findings.

    Returns:
        (Y, X) int32, 0..4095, MONOCHROME2 (bright = dense); row 0 superior, column 0 patient's right.
    """
    known = calibration or calibrate(hu, spacing_mm, exposure, size_px)
    areal = known.areal
    if hu is not known.hu:
        areal = areal + _difference(hu, known.hu, spacing_mm, exposure.pose, size_px)
    unit = size_px / REFERENCE_PX
    signal = transmission(areal.clamp(min=0), exposure.kvp) + known.scatter
    if generator is not None:
        noise = torch.randn((size_px, size_px), generator=generator).to(hu.device)
        # Fewer photons hit a smaller pixel, so noise per pixel follows the pixel's area.
        signal = signal + noise * torch.sqrt(signal * (unit**2 / exposure.photons))
    signal = _blur(signal, exposure.blur_px * unit).clamp(min=1e-5)
    log_signal = -torch.log(signal)
    body_level = _mean(known.smooth, known.areal[0] > 3)
    shown = log_signal - exposure.compression * (known.smooth - body_level)
    shown = shown + exposure.edge * (shown - _blur(shown, exposure.edge_px * unit))
    return _develop(shown, exposure, known.window, size_px)


def project_mask(
    mask: Tensor, spacing_mm: Spacing, exposure: Exposure, size_px: int = REFERENCE_PX, min_path_mm: float = MIN_PATH_MM
) -> Tensor:
    """Project a (Z, Y, X) bool mask to the (Y, X) bool pixels whose ray crosses it visibly.

    Args:
        mask: The structure, on the rendered volume's grid.
        spacing_mm: (z, y, x).
        exposure: The exposure of the image.
        size_px: Side of the image.
        min_path_mm: Rays with a shorter path inside the mask do not count. Pixels under the shutter never do.
    """
    path = path_mm(mask, spacing_mm, exposure.pose, size_px)
    return (path > min_path_mm) & open_field(exposure, size_px, mask.device)


def open_field(exposure: Exposure, size_px: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the (Y, X) bool pixels that are not under the collimator's shutter."""
    if exposure.shutter == "none":
        return torch.ones((size_px, size_px), dtype=torch.bool, device=device)
    at = (torch.arange(size_px, device=device) + 0.5) / size_px - 0.5
    cos, sin = math.cos(math.radians(exposure.collimator_deg)), math.sin(math.radians(exposure.collimator_deg))
    row = cos * at[:, None] - sin * at[None] + 0.5
    column = sin * at[:, None] + cos * at[None] + 0.5
    top, bottom, left, right = exposure.margins
    return (row > top) & (row < 1 - bottom) & (column > left) & (column < 1 - right)


def _difference(hu: Tensor, normal: Tensor, spacing_mm: Spacing, pose: Pose, size_px: int) -> Tensor:
    """Return the (2, Y, X) line integrals, g/cm^2, of what `hu` has more than `normal`."""
    box = bounding_box(hu != normal)
    if box is None:
        return torch.zeros((2, size_px, size_px), device=hu.device)
    z, y, x = hu.shape
    more = densities(hu[box]) - densities(normal[box])
    return project(more, box, (z, y, x), spacing_mm, pose, size_px) / 10


def _develop(log_signal: Tensor, exposure: Exposure, window: tuple[float, float], size_px: int) -> Tensor:
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


def _mean(image: Tensor, where: Tensor) -> float:
    """Return the mean over the True pixels."""
    return float((image * where).sum() / where.sum().clamp(min=1))


def _blur(image: Tensor, sigma_px: float) -> Tensor:
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
