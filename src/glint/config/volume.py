"""How a CT scan is laid out for an encoder: spacing, crop, windows.

Sources of the presets: `hi-xy` has the input shape of V-JEPA 2.1; the window -1150 to 350 HU and about 1.25 mm are
those of HLIP and fVLM.
"""

from typing import Any, Literal, cast

from pydantic import Field, field_validator, model_validator

from glint.config.settings import Settings

Range = tuple[float, float]
CHEST_HU: Range = (-1150, 350)
FULL_HU: Range = (-1000, 1000)
LUNG_HU: Range = (-1400, -200)
MEDIASTINAL_HU: Range = (-150, 350)

CT_PRESETS: dict[str, dict[str, Any]] = {
    "debug": {"spacing_mm": (3.0, 2.0, 2.0), "crop": (64, 160, 160), "windows_hu": (FULL_HU,)},
    "base": {"spacing_mm": (2.5, 1.25, 1.25), "crop": (128, 256, 256), "windows_hu": (CHEST_HU,)},
    "hi-xy": {"spacing_mm": (5.0, 0.9, 0.9), "crop": (64, 384, 384), "windows_hu": (CHEST_HU,)},
}


class VolumeConfig(Settings):
    """How a CT scan is laid out for an encoder; what is not given comes from the preset."""

    preset: Literal["debug", "base", "hi-xy"] = "base"
    """Spacing, crop and windows to start from."""
    spacing_mm: tuple[float, float, float] = (2.5, 1.25, 1.25)
    """(z, y, x) of the voxels that the encoder sees."""
    crop: tuple[int, int, int] = (128, 256, 256)
    """(Z, Y, X) voxels that the encoder sees at once: a training crop, a sliding window."""
    windows_hu: tuple[Range, ...] = Field((CHEST_HU,), min_length=1, max_length=3)
    """Low and high end of each window in Hounsfield units; one channel each."""

    side: bool = False
    """One more channel: how far every voxel lies from the patient's midline (io/side.py), for encoders whose patches
    see too little to know left from right."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        settings = cast("dict[str, Any]", given)
        return CT_PRESETS.get(str(settings.get("preset", "base")), {}) | settings

    @field_validator("spacing_mm")
    @classmethod
    def _spacing(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if min(value) <= 0:
            raise ValueError("spacings must be positive")
        return value

    @field_validator("crop")
    @classmethod
    def _crop(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 1:
            raise ValueError("sides must be positive")
        return value

    @field_validator("windows_hu")
    @classmethod
    def _windows(cls, value: tuple[Range, ...]) -> tuple[Range, ...]:
        if any(low >= high for low, high in value):
            raise ValueError("a window's low end must lie below its high end")
        return value
