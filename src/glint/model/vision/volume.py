"""Volumes: what a 3D encoder asks of a CT (HU windows, spacing, orientation, axes), as data, and how it is met.

Arrays are (Z, Y, X): axis 0 runs along the patient's height, axis 1 from front to back, axis 2 from side to side.
An orientation is three letters, one for each array axis in order: the side of the patient that lies at its high
indices, as in nibabel's `aff2axcodes` and MONAI's `Orientation`. R and L are the patient's right and left, A and P
front and back, S and I head and feet: the axes of DICOM's patient frame, whose LPS coordinates grow to L, P and S.
(ITK once named the side that an axis comes from; such codes have to be inverted, "RAI" there is "LPS" here.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import field_validator, model_validator
from torch import Tensor

from glint.errors import DataError
from glint.model.vision.base import EncoderArch, EncoderOutput, Grid, ImageEncoder, as_tokens

Spacing = tuple[float, float, float]
OPPOSITE = dict(zip("SIAPRL", "ISPALR", strict=True))
# (Z, Y, X) -> the order in which weights see the axes. Each is its own inverse.
AXES = {"zyx": (0, 1, 2), "zxy": (0, 2, 1), "xyz": (2, 1, 0)}
AIR_HU = -1000.0


class VolumeArch(EncoderArch):
    """What a 3D encoder asks of its input. With windows the input is HU, without them it is in [0, 1]."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    window_hu: tuple[tuple[float, float], ...] = ()
    """(low, high) in HU, mapped linearly to [0, 1] and clipped: one window a channel, or one for all."""
    spacing_mm: Spacing | None = None
    """Voxel size (z, y, x) that the weights expect; None: they take any, or `size_vox` decides."""
    size_vox: tuple[int, int, int] | None = None
    """Voxels (z, y, x) that the weights expect. With a spacing: volumes are padded or cropped around their centre;
    without: cropped to what is denser than air, then stretched."""
    orientation: str = "SAR"
    """Side of the patient at the high indices of axes Z, Y, X: S or I, then A or P, then R or L."""
    axes: Literal["zyx", "zxy", "xyz"] = "zyx"
    """Order in which the weights see the axes; the encoder turns its input and its output by itself."""

    @field_validator("orientation")
    @classmethod
    def _is_zyx(cls, codes: str) -> str:
        if len(codes) != 3 or any(c not in pair for c, pair in zip(codes, ("SI", "AP", "RL"), strict=True)):
            raise ValueError(f"'{codes}' must be S or I, then A or P, then R or L, for axes Z, Y, X")
        return codes

    @model_validator(mode="after")
    def _is_possible(self) -> "VolumeArch":
        if len(self.window_hu) not in (0, 1, len(self.mean)):
            raise ValueError(
                f"{len(self.window_hu)} windows for {len(self.mean)} channels: give one, or one each"
            )
        if any(low >= high for low, high in self.window_hu):
            raise ValueError("a window is (low, high) in HU, low < high")
        if min(self.spacing_mm or (1,)) <= 0 or min(self.size_vox or (1,)) <= 0:
            raise ValueError("spacing_mm and size_vox must be positive")
        return self

    @property
    def darkest(self) -> float:
        """Input value of air: what volumes are padded with."""
        return min((low for low, _ in self.window_hu), default=0.0)


class VolumeEncoder(ImageEncoder):
    """Base of encoders of volumes (B, 1, Z, Y, X) in HU (or in [0, 1], see VolumeArch), oriented as `arch` says.

    Grids, patch sizes and tokens are in (Z, Y, X) order whatever order of axes the weights were trained with.
    """

    Arch = VolumeArch
    arch: Any

    def normalise(self, images: Tensor) -> Tensor:
        """Apply the HU windows, then mean and deviation: (B, 1, Z, Y, X) -> (B, channels, Z, Y, X)."""
        if self.arch.window_hu:
            bounds = torch.tensor(self.arch.window_hu, dtype=images.dtype, device=images.device)
            low, high = bounds.T.reshape(2, 1, -1, 1, 1, 1)
            images = ((images - low) / (high - low)).clamp(0, 1)
        return super().normalise(images)

    def pad(self, images: Tensor, value: float | None = None) -> Tensor:
        """Pad volumes at the far ends of their axes to the next size that fits, with air by default."""
        return super().pad(images, self.arch.darkest if value is None else value)

    def turn(self, maps: Tensor) -> Tensor:
        """Turn (B, C, Z, Y, X) into the order of axes of the weights, or back: both are the same exchange."""
        return maps.permute(0, 1, *(2 + axis for axis in AXES[self.arch.axes]))

    def turn_grid(self, sides: Grid) -> Grid:
        """Turn a size in the order of the weights into (Z, Y, X), or back."""
        return tuple(sides[axis] for axis in AXES[self.arch.axes])

    def output(self, maps: Sequence[Tensor], grid: Grid) -> EncoderOutput:
        """Return the last of the maps (in the weights' order of axes) as tokens, the two before it as levels.

        Levels of finer maps would be most of the work and of the memory of dense feature regularization.
        """
        *levels, last = (as_tokens(self.turn(m)) for m in maps[-3:])
        return EncoderOutput(last, grid, tuple(levels))


def axis_order(source: str, target: str) -> tuple[int, int, int]:
    """Return, for each axis of the target orientation, the axis of the source along the same body axis.

    Raises:
        DataError: An orientation is not three letters for three different body axes.
    """
    for codes in (source, target):
        if len(codes) != 3 or {min(c, OPPOSITE.get(c, c)) for c in codes} != set("AIL"):
            raise DataError(
                f"'{codes}' is no orientation of a volume",
                expected="three letters: one of S and I, one of A and P, one of R and L, in the order of the axes",
            )
    a, b, c = (next(i for i, s in enumerate(source) if s in (t, OPPOSITE[t])) for t in target)
    return a, b, c


def reorient(volume: Tensor, source: str, target: str) -> Tensor:
    """Exchange and flip the axes of a volume (three axes) so that its orientation becomes `target`.

    Raises:
        DataError: An orientation is not valid.
    """
    order = axis_order(source, target)
    flips = [axis for axis, i in enumerate(order) if source[i] != target[axis]]
    return volume.permute(order).flip(flips)


@dataclass(frozen=True, slots=True)
class PreparedVolume:
    """A volume as an encoder asks for it, and where it came from.

    Attributes:
        volume: (1, 1, Z, Y, X) in HU.
        spacing_mm: Its voxel size (z, y, x).
        start: Where the centre of voxel 0 lies on axes Z, Y, X, in voxels of the source after reorientation.
        step: Voxels of the reoriented source from one voxel to the next: source index = start + step * index.
    """

    volume: Tensor
    spacing_mm: Spacing
    start: Spacing
    step: Spacing


def prepare_volume(hu: Tensor, orientation: str, spacing_mm: Spacing, arch: VolumeArch) -> PreparedVolume:
    """Bring a CT into the orientation, spacing and size that an encoder asks for; windows are left to the encoder.

    Args:
        hu: Three axes, in HU.
        orientation: Of `hu`, in any order of axes ("RAS" for a NIfTI file stored like that, for example).
        spacing_mm: Voxel size on the axes of `hu`.
        arch: The encoder's settings.

    Raises:
        DataError: The orientation is not valid.
    """
    source_mm = [spacing_mm[axis] for axis in axis_order(orientation, arch.orientation)]
    volume = reorient(hu.float(), orientation, arch.orientation)
    start, step = [0.0] * 3, [1.0] * 3
    if arch.spacing_mm:
        step = [new / old for new, old in zip(arch.spacing_mm, source_mm, strict=True)]
        volume = resample(volume, step)
        if arch.size_vox:
            volume, offset = _centre(volume, arch.size_vox, arch.darkest)
            start = [o * s for o, s in zip(offset, step, strict=True)]
    elif arch.size_vox:
        volume, offset = _crop_air(volume)
        step = [old / new for old, new in zip(volume.shape, arch.size_vox, strict=True)]
        start = [o + (s - 1) / 2 for o, s in zip(offset, step, strict=True)]
        volume = F.interpolate(volume[None, None], arch.size_vox, mode="area")[0, 0]
    spacing = [mm * s for mm, s in zip(source_mm, step, strict=True)]
    return PreparedVolume(volume[None, None], _triple(spacing), _triple(start), _triple(step))


def resample(volume: Tensor, step: Sequence[float]) -> Tensor:
    """Resample (Z, Y, X) trilinearly every `step` voxels, from the first voxel of each axis (MONAI's `Spacing`)."""
    for axis, size in enumerate(step):
        last = volume.shape[axis] - 1
        count = round(last / size) + 1
        place = (torch.arange(count, dtype=torch.float64, device=volume.device) * size).clamp(0, last)
        below = place.floor().long()
        share = (place - below).to(volume.dtype).view([-1 if i == axis else 1 for i in range(3)])
        high = volume.index_select(axis, (below + 1).clamp(max=last))
        volume = torch.lerp(volume.index_select(axis, below), high, share)
    return volume


def _centre(volume: Tensor, size: tuple[int, int, int], value: float) -> tuple[Tensor, list[int]]:
    """Pad and crop to a size around the centre (MONAI's SpatialPad, then CenterSpatialCrop); and the offset."""
    missing = [max(new - old, 0) for old, new in zip(volume.shape, size, strict=True)]
    volume = F.pad(volume, [n for m in reversed(missing) for n in (m // 2, m - m // 2)], value=value)
    starts = [old // 2 - new // 2 for old, new in zip(volume.shape, size, strict=True)]
    for axis, side in enumerate(size):
        volume = volume.narrow(axis, starts[axis], side)
    return volume, [start - m // 2 for start, m in zip(starts, missing, strict=True)]


def _crop_air(volume: Tensor) -> tuple[Tensor, list[int]]:
    """Crop to the box of what is denser than air, if anything is; and the offset."""
    dense, offset = volume > AIR_HU, [0, 0, 0]
    for axis in range(3):
        first, second = (i for i in range(3) if i != axis)
        inside = dense.any(second).any(first).nonzero()
        if len(inside):
            offset[axis] = int(inside[0])
            volume = volume.narrow(axis, offset[axis], int(inside[-1]) + 1 - offset[axis])
    return volume, offset


def _triple(numbers: Sequence[float]) -> Spacing:
    z, y, x = numbers
    return z, y, x
