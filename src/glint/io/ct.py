"""How a chest CT on any grid becomes what an encoder sees; the settings are `data.volume` (glint.config.volume)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glint.config.volume import Range
from glint.io.volume import Volume
from glint.io.volume_steps import crop_to_body, resample, straighten, to_canonical
from glint.io.voxel_grid import Lengths

STRAIGHTEN_DEG = 10.0
"""Obliquer scans are resampled to the patient's axes; patients lie at smaller angles, and those are left alone."""


def lay_out(volume: Volume, spacing_mm: Lengths) -> Volume:
    """Turn, crop to the body and resample a scan; its chain brings maps back.

    Args:
        volume: As read.
        spacing_mm: (z, y, x) of the result, in canonical order.

    Returns:
        A canonical volume. Axes that are more than STRAIGHTEN_DEG oblique, or sheared as much by gantry tilt, are
        made straight; smaller angles stay in the affine.
    """
    volume = crop_to_body(to_canonical(volume))
    if volume.grid.tilt_deg > STRAIGHTEN_DEG:
        return straighten(volume, spacing_mm)
    return resample(volume, spacing_mm)


def windowed(hu: NDArray[np.float32], windows_hu: Sequence[Range]) -> NDArray[np.float32]:
    """Return (C, ...) float32 in [0, 1], one channel a window (low, high), for (...) Hounsfield units."""
    channels = np.empty((len(windows_hu), *hu.shape), dtype=np.float32)
    for n, (low, high) in enumerate(windows_hu):
        channels[n] = np.clip((hu - np.float32(low)) / np.float32(high - low), 0, 1)
    return channels
