"""The Python interface: `glint.load(name)` and three verbs, for X-rays and for CT."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from glint.errors import DataError, UsageError
from glint.infer.predict import Model, check_queries, check_threshold, predict
from glint.infer.scan import VolumeModel
from glint.infer.volume import DEFAULTS, Refine, VolumeOptions, predict_volume
from glint.io.kind import kind_of_path
from glint.io.radiograph import Radiograph, radiograph_from_array
from glint.io.untrusted import read_radiograph, read_volume
from glint.io.volume import Volume
from glint.results import Answers, Task
from glint.volume_results import VolumeAnswers

DEFAULT_MODEL, DEFAULT_CT_MODEL = "glint-cxr-phantom", "glint-ct-phantom"
Image = str | PathLike[str] | NDArray[Any] | Radiograph | Volume


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

    @property
    def reads_volumes(self) -> bool:
        """Whether this is a model of CT volumes, not of radiographs."""
        return self.model.cfg.data.volume is not None

    def classify(
        self, image: Image, queries: Sequence[str], *, overlap: float = DEFAULTS.overlap
    ) -> Answers | VolumeAnswers:
        """Score queries on an image.

        Args:
            image: Path of a DICOM, PNG or JPEG file, or of a folder or archive with one; (Y, X) array in [0, 1],
                bright = dense; or a Radiograph. For a model of CT: path of a NIfTI or NRRD file or of a folder or
                archive of DICOM slices, or a Volume (glint.read_volume).
            queries: Free texts.
            overlap: As in `segment`.

        Raises:
            DataError: The image cannot be used.
            UsageError: Bad queries.
        """
        return self._ask("classify", image, queries, VolumeOptions(overlap=overlap))

    def ground(
        self,
        image: Image,
        queries: Sequence[str],
        *,
        threshold: float = DEFAULTS.threshold,
        refine: Refine = DEFAULTS.refine,
        min_ml: float = DEFAULTS.min_ml,
        overlap: float = DEFAULTS.overlap,
    ) -> Answers | VolumeAnswers:
        """Score queries and point at what they speak of; arguments and errors as in `segment`."""
        return self._ask("ground", image, queries, VolumeOptions(threshold, min_ml, refine, overlap))

    def segment(
        self,
        image: Image,
        queries: Sequence[str],
        *,
        threshold: float = DEFAULTS.threshold,
        refine: Refine = DEFAULTS.refine,
        min_ml: float = DEFAULTS.min_ml,
        overlap: float = DEFAULTS.overlap,
    ) -> Answers | VolumeAnswers:
        """Score queries and outline what they speak of, on the pixel or voxel grid of the image.

        Args:
            image: As in `classify`.
            queries: Free texts.
            threshold: Mask = map > threshold.
            refine: CT only. "guided" gives maps the edges of the scan (glint.infer.refine).
            min_ml: CT only. Connected parts of a mask smaller than this are dropped.
            overlap: CT only. Of sliding windows, as a share of their side.

        Returns:
            Answers on an X-ray, or VolumeAnswers on a CT.

        Raises:
            DataError: The image cannot be used, or not with this model.
            UsageError: Bad queries, threshold or other option.
        """
        return self._ask("segment", image, queries, VolumeOptions(threshold, min_ml, refine, overlap))

    def _ask(
        self, task: Task, image: Image, queries: Sequence[str], options: VolumeOptions
    ) -> Answers | VolumeAnswers:
        texts = check_queries(queries)
        options.check()
        where = {"model_name": self.name, "device": self.device}
        check_kind(self.name, self.reads_volumes, image)
        if self.reads_volumes:
            model = cast(VolumeModel, self.model)
            return predict_volume(model, _volume(image), texts, task=task, options=options, **where)
        if options != VolumeOptions(options.threshold):
            raise UsageError("refine, min_ml and overlap are for CT volumes", fix="leave them out for X-rays")
        check_threshold(options.threshold)
        return predict(self.model, _radiograph(image), texts, task=task, threshold=options.threshold, **where)


def check_kind(model: str, reads_volumes: bool, image: Image) -> None:
    """Refuse a CT for a model of X-rays, and the reverse.

    Args:
        model: Its name, for the message.
        reads_volumes: Whether it is a model of CT volumes.
        image: What it is asked about; a path is looked at, not read, unless it seems to be none of the two.

    Raises:
        DataError: They do not fit.
    """
    shown = "" if isinstance(image, np.ndarray) else str(image)
    is_volume = isinstance(image, Volume)
    if isinstance(image, Volume | Radiograph):
        shown = str(image.provenance.source) if isinstance(image, Volume) else str(image.source)
    elif isinstance(image, str | PathLike):
        kind = kind_of_path(Path(image))
        is_volume = kind == "volume"
        if kind == "several" or (reads_volumes and not is_volume and not _is_radiograph(Path(image))):
            return  # the reader says what it is instead
    if is_volume == reads_volumes:
        return
    given, wanted, name = ("a CT volume", "X-rays", DEFAULT_CT_MODEL)
    if not is_volume:
        given, wanted, name = ("an X-ray", "CT volumes", DEFAULT_MODEL)
    raise DataError(
        f"{given} was given, and the model '{model}' reads {wanted}",
        where=shown,
        fix=f"use another model, e.g. {name}",
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


def _is_radiograph(path: Path) -> bool:
    try:
        read_radiograph(path)
    except DataError:
        return False
    return True


def _volume(image: Image) -> Volume:
    if isinstance(image, Volume):
        return image
    if isinstance(image, str | PathLike):
        return read_volume(Path(image))
    raise UsageError(
        f"a volume of type {type(image).__name__} cannot be read",
        expected="a path or a glint.io.volume.Volume",
    )


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
