"""One exposure: everything about a radiograph that is not the patient."""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from glint.phantom.projection import Pose

REFERENCE_PX = 384  # sizes of blur and marker are given for this image size


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
        shift=(uniform(0.01, 0.06), uniform(-0.04, 0.04)),
        coverage=uniform(0.85, 0.98),
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
        compression=uniform(0.3, 0.75),
        compression_px=uniform(20, 40),
        contrast=uniform(0.85, 1.2),
        brightness=uniform(-0.08, 0.08),
        shoulder=uniform(0.1, 0.9),
        edge=uniform(0.4, 1.8),
        edge_px=uniform(1.2, 2.4),
        margins=(uniform(0.005, 0.04), uniform(0.005, 0.05), uniform(0.005, 0.06), uniform(0.005, 0.06)),
        collimator_deg=uniform(-1.5, 1.5),
        shutter=shutter,
        marker=marker,
        marker_at=(uniform(0.05, 0.13), 1 - column if marker == "L" else column),
        marker_px=uniform(14, 28),
    )
