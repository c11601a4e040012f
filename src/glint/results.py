"""What GLINT answers: plain frozen objects, ready for JSON.

Points are [x, y] pixel indices, boxes [x0, y0, x1, y1] with x1 and y1 exclusive, both on the pixel grid of the file.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from glint.errors import UsageError
from glint.io.files import write_json
from glint.io.picture import Panel, overlay, write_mask, write_picture
from glint.io.radiograph import Radiograph

Task = Literal["classify", "ground", "segment"]


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The answer to one query.

    Attributes:
        query: The text that was asked.
        score: How well the image fits the text, 0 to 1, calibrated on the model's validation data. Not a
            probability of disease.
        point_px: [x, y] of the best place; None after `classify`.
        box_xyxy_px: Box around it; None after `classify`, or when the map is empty.
        mask_area_px: Number of mask pixels; None after `classify`.
        mask: (Y, X) bool, heat > threshold; None after `classify`.
        heat: (Y, X) float32 map in [0, 1].
    """

    query: str
    score: float
    point_px: tuple[int, int] | None = None
    box_xyxy_px: tuple[int, int, int, int] | None = None
    mask_area_px: int | None = None
    mask: NDArray[np.bool_] | None = field(default=None, repr=False)
    heat: NDArray[np.float32] | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON shows: no point, box and mask after `classify`."""
        answer: dict[str, Any] = {"query": self.query, "score": round(self.score, 6)}
        if self.mask is None or self.point_px is None:
            return answer
        box = self.box_xyxy_px
        answer["point_px"] = list(self.point_px)
        answer["box_xyxy_px"] = None if box is None else list(box)
        answer["mask_area_px"] = self.mask_area_px
        return answer

    def panel(self, truth: NDArray[np.bool_] | None = None) -> Panel:
        """Return what an overlay shows of this answer.

        Args:
            truth: (Y, X) bool, the true mask where it is known.
        """
        caption = f"{self.query}\nscore {self.score:.2f}"
        return Panel(caption, self.heat, self.mask, self.box_xyxy_px, self.point_px, truth)

    def save(self, path: str | Path) -> None:
        """Write the mask as an 8-bit grey PNG of 0 and 255 on the pixel grid of the image.

        Raises:
            UsageError: There is no mask (`classify`), or the path cannot be written.
        """
        if self.mask is None:
            raise UsageError("a classification has no mask to save", fix="use segment")
        write_mask(Path(path), self.mask)


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """The answers to all queries on one image, in the order of the queries; behaves like a sequence.

    Attributes:
        task: What was asked for.
        image: Path of the image, as given.
        model: Name or folder of the model, as given.
        threshold: Mask = map > threshold.
        results: One answer a query.
        radiograph: The image.
    """

    task: Task
    image: str
    model: str
    threshold: float
    results: tuple[Answer, ...]
    radiograph: Radiograph = field(repr=False)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: int) -> Answer:
        return self.results[index]

    def __iter__(self) -> Iterator[Answer]:
        return iter(self.results)

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        height, width = self.radiograph.pixels.shape
        spacing = self.radiograph.spacing_mm
        return {
            "image": self.image,
            "model": self.model,
            "task": self.task,
            "threshold": self.threshold,
            "image_size_px": [width, height],
            "pixel_spacing_mm": None if spacing is None else [spacing[1], spacing[0]],
            "notes": list(self.radiograph.notes),
            "results": [answer.to_dict() for answer in self.results],
        }

    def save(self, path: str | Path) -> None:
        """Write the overlay (.png) or the answers (.json).

        Raises:
            UsageError: Another ending, or the path cannot be written.
        """
        panels = (answer.panel() for answer in self.results)
        save_answers(Path(path), self.to_dict, lambda: overlay(self.radiograph.pixels, list(panels)))


def save_answers(path: Path, document: Callable[[], dict[str, Any]], picture: Callable[[], Image]) -> None:
    """Write a document (.json) or a picture; only what is written is made.

    Raises:
        UsageError: Another ending than .json and .png, or the path cannot be written.
    """
    if path.suffix.lower() == ".json":
        write_json(path, document())
    else:
        write_picture(path, picture())
