"""The Python interface: `glint.load(name)` and three verbs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glint.errors import UsageError
from glint.infer.predict import Model, check_queries, check_threshold, predict
from glint.io.radiograph import Radiograph, radiograph_from_array
from glint.io.untrusted import read_radiograph
from glint.results import Answers, Task

DEFAULT_MODEL = "glint-cxr-phantom"
Image = str | PathLike[str] | NDArray[Any] | Radiograph


@dataclass(frozen=True)
class Glint:
    """A loaded model. Research software, not a medical device.

    Attributes:
        name: Name or folder it was loaded by.
        model: The model itself.
        device: Where it computes.
    """

    name: str
    model: Model = field(repr=False)
    device: str = "cpu"

    def classify(self, image: Image, queries: Sequence[str]) -> Answers:
        """Score queries on an image.

        Args:
            image: Path of a DICOM, PNG or JPEG file; (Y, X) array in [0, 1], bright = dense; or a Radiograph.
            queries: Free texts.

        Raises:
            DataError: The image cannot be used.
            UsageError: Bad queries.
        """
        return self._ask("classify", image, queries, 0.5)

    def ground(self, image: Image, queries: Sequence[str], *, threshold: float = 0.5) -> Answers:
        """Score queries and point at what they speak of; arguments and errors as in `segment`."""
        return self._ask("ground", image, queries, threshold)

    def segment(self, image: Image, queries: Sequence[str], *, threshold: float = 0.5) -> Answers:
        """Score queries and outline what they speak of, on the pixel grid of the image.

        Args:
            image: As in `classify`.
            queries: Free texts.
            threshold: Mask = map > threshold.

        Raises:
            DataError: The image cannot be used.
            UsageError: Bad queries or threshold.
        """
        return self._ask("segment", image, queries, threshold)

    def _ask(self, task: Task, image: Image, queries: Sequence[str], threshold: float) -> Answers:
        texts = check_queries(queries)
        check_threshold(threshold)
        return predict(
            self.model,
            _radiograph(image),
            texts,
            task=task,
            threshold=threshold,
            model_name=self.name,
            device=self.device,
        )


def load(name: str | PathLike[str] = DEFAULT_MODEL, *, device: str = "cpu") -> Glint:
    """Load a model.

    Args:
        name: A packaged model (`glint models` lists them) or a folder written by `glint train`.
        device: Torch device, e.g. "cpu" or "cuda".

    Raises:
        UsageError: No such model or device.
        WeightsError: The model folder is incomplete or damaged.
    """
    import torch

    from glint.model.folder import load_model

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"the device '{device}' cannot be used", expected="cpu, or cuda where there is one"
        ) from error
    model = load_model(str(name))
    return Glint(str(name), model.to(device), device)


def _radiograph(image: Image) -> Radiograph:
    if isinstance(image, Radiograph):
        return image
    if isinstance(image, np.ndarray):
        return radiograph_from_array(image)
    if isinstance(image, str | PathLike):
        return read_radiograph(Path(image))
    raise UsageError(
        f"an image of type {type(image).__name__} cannot be read",
        expected="a path, a 2D NumPy array or a Radiograph",
    )
