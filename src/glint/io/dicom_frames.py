"""Where an image plane lies: from the elements of a slice, or from the functional groups of an enhanced multi-frame."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from glint.io.limits import MAX_VOLUME_SIDE

Plane = tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, tuple[float, float] | None]
"""(3,) LPS mm of the first pixel; (2, 3) unit vectors of growing column and row index; mm between (rows, columns)."""
NOTHING = Dataset()


def has_frame_geometry(header: Dataset) -> bool:
    """Say whether this is an enhanced image, whose frames say where they are."""
    return bool(header.get("PerFrameFunctionalGroupsSequence"))


def planes_of_frames(header: Dataset) -> Iterator[Plane]:
    """Yield the plane of every frame of an enhanced image.

    Raises:
        ValueError: Not as many functional groups as frames, or more than any scan has.
    """
    frames = header.PerFrameFunctionalGroupsSequence
    if len(frames) != int(header.get("NumberOfFrames") or 1) or len(frames) > MAX_VOLUME_SIDE:
        raise ValueError("number of frames")
    for frame in range(len(frames)):
        yield plane_of(
            group(header, frame, "PlanePositionSequence"),
            group(header, frame, "PlaneOrientationSequence"),
            group(header, frame, "PixelMeasuresSequence"),
        )


def group(header: Dataset, frame: int, name: str) -> Dataset:
    """Return a functional group of a frame: its own, else the one that all frames share, else an empty one."""
    own = header.PerFrameFunctionalGroupsSequence[frame].get(name)
    shared = header.get("SharedFunctionalGroupsSequence") or [NOTHING]
    items = own or shared[0].get(name)
    return items[0] if items else NOTHING


def plane_of(position: Dataset, orientation: Dataset, measures: Dataset) -> Plane:
    """Return the plane that three data sets tell of: of a plain slice, they are all the same one."""
    axes = _numbers(orientation, "ImageOrientationPatient", 6)
    if axes is not None:
        axes = axes.reshape(2, 3)
        lengths = np.linalg.norm(axes, axis=1)
        good = np.abs(lengths - 1).max() < 0.01 and abs(float(axes[0] @ axes[1])) < 0.01
        axes = axes / lengths[:, None] if good else None
    spacing = _numbers(measures, "PixelSpacing", 2)
    pair = None if spacing is None or spacing.min() <= 0 else (float(spacing[0]), float(spacing[1]))
    return _numbers(position, "ImagePositionPatient", 3), axes, pair


def _numbers(header: Dataset, name: str, count: int) -> NDArray[np.float64] | None:
    """Return finite numbers of an element, or None."""
    try:
        values = np.array([float(value) for value in header.get(name) or ()])
    except (TypeError, ValueError):  # text, or a single number
        return None
    return values if values.shape == (count,) and np.isfinite(values).all() else None
