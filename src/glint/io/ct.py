"""Windows and presets of chest CT: how Hounsfield units on any grid become what an encoder sees.

Sources of the presets: `hi-xy` has the input shape of V-JEPA 2.1; the window -1150 to 350 HU and about 1.25 mm are
those of HLIP and fVLM; the three windows follow the multi-window inputs of FORA.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from glint.errors import UsageError
from glint.io.volume import Volume
from glint.io.volume_steps import crop_to_body, resample, straighten, to_canonical
from glint.io.voxel_grid import Lengths, Triple

STRAIGHTEN_DEG = 10.0
"""Obliquer scans are resampled to the patient's axes; patients lie at smaller angles, and those are left alone."""


@dataclass(frozen=True, slots=True)
class Window:
    """A range of Hounsfield units that becomes 0 to 1."""

    low: float
    high: float


CHEST = Window(-1150, 350)
FULL = Window(-1000, 1000)
LUNG = Window(-1400, -200)
MEDIASTINAL = Window(-150, 350)
THREE_WINDOWS = (LUNG, MEDIASTINAL, FULL)
"""One channel each, for encoders with three."""


@dataclass(frozen=True, slots=True)
class Preset:
    """How a scan is laid out for an encoder.

    Attributes:
        spacing_mm: (z, y, x) of the voxels.
        crop: (Z, Y, X) voxels that training sees at once.
        windows: One channel each.
    """

    spacing_mm: Lengths
    crop: Triple
    windows: tuple[Window, ...] = (CHEST,)


PRESETS = MappingProxyType(
    {
        "debug": Preset((3.0, 2.0, 2.0), (64, 160, 160), (FULL,)),
        "base": Preset((2.5, 1.25, 1.25), (128, 256, 256)),
        "hi-xy": Preset((5.0, 0.9, 0.9), (64, 384, 384)),
    }
)


def preset(name: str) -> Preset:
    """Return a preset by its name.

    Raises:
        UsageError: No such preset.
    """
    if name not in PRESETS:
        raise UsageError(f"there is no CT preset '{name}'", expected="one of " + ", ".join(PRESETS))
    return PRESETS[name]


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


def windowed(hu: NDArray[np.float32], windows: Sequence[Window]) -> NDArray[np.float32]:
    """Return (C, ...) float32 in [0, 1], one channel a window, for (...) Hounsfield units."""
    channels = np.empty((len(windows), *hu.shape), dtype=np.float32)
    for n, window in enumerate(windows):
        channels[n] = np.clip((hu - np.float32(window.low)) / np.float32(window.high - window.low), 0, 1)
    return channels
