"""From a CT volume to a radiograph: beam, scatter, noise, detector, display.

Nothing here may know about findings except through attenuation. Scatter, tone and the smooth part that
dynamic-range compression subtracts are therefore measured once on the patient *without* findings
(`calibrate`) and reused for every study of that patient and exposure, so that two renderings with the same
noise differ only where rays cross the finding (and within the detector's blur of a few pixels).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from glint.phantom.display import blur, develop, open_field
from glint.phantom.exposure import REFERENCE_PX, Exposure, sample_exposure
from glint.phantom.physics import densities, transmission
from glint.phantom.projection import Pose, Spacing, bounding_box, path_mm, pixel_mm, project

__all__ = [
    "REFERENCE_PX",
    "Calibration",
    "Exposure",
    "Pose",
    "calibrate",
    "image_spacing_mm",
    "open_field",
    "project_mask",
    "render",
    "sample_exposure",
]

MIN_PATH_MM = 2.5


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
    source = blur(primary * (areal[0] + areal[1]), exposure.scatter_px * unit)
    in_body = areal[0] > 3
    mean_primary, mean_source = _mean(primary, in_body), _mean(source, in_body)
    scatter = source * (exposure.scatter * mean_primary / mean_source)
    log_signal = -torch.log(primary + scatter)
    smooth = blur(log_signal, exposure.compression_px * unit)
    shown = log_signal - exposure.compression * (smooth - _mean(smooth, in_body))
    seen = shown[in_body & open_field(exposure, size_px, normal_hu.device)]
    limits = torch.quantile(
        seen[:: max(1, len(seen) // 50_000)], torch.tensor([0.01, 0.99], device=seen.device)
    )
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
    signal = blur(signal, exposure.blur_px * unit).clamp(min=1e-5)
    log_signal = -torch.log(signal)
    body_level = _mean(known.smooth, known.areal[0] > 3)
    shown = log_signal - exposure.compression * (known.smooth - body_level)
    shown = shown + exposure.edge * (shown - blur(shown, exposure.edge_px * unit))
    return develop(shown, exposure, known.window, size_px)


def project_mask(
    mask: Tensor,
    spacing_mm: Spacing,
    exposure: Exposure,
    size_px: int = REFERENCE_PX,
    min_path_mm: float = MIN_PATH_MM,
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


def _difference(hu: Tensor, normal: Tensor, spacing_mm: Spacing, pose: Pose, size_px: int) -> Tensor:
    """Return the (2, Y, X) line integrals, g/cm^2, of what `hu` has more than `normal`."""
    box = bounding_box(hu != normal)
    if box is None:
        return torch.zeros((2, size_px, size_px), device=hu.device)
    z, y, x = hu.shape
    more = densities(hu[box]) - densities(normal[box])
    return project(more, box, (z, y, x), spacing_mm, pose, size_px) / 10


def _mean(image: Tensor, where: Tensor) -> float:
    """Return the mean over the True pixels."""
    return float((image * where).sum() / where.sum().clamp(min=1))
