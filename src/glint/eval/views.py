"""What a model says about an image, ready to be compared with masks on the grid of the file."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from glint.eval.cases import Case
from glint.eval.subject import Mask

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
BATCHES = {False: 32, True: 1}
"""Cases that are asked at once: X-rays, volumes."""


class Predictor(Protocol):
    """What evaluation asks of a model of X-rays: cfg.data.size_px, vision.patch and answers to queries.

    Of a model of volumes it asks what glint.infer.scan.VolumeModel has.
    """

    cfg: Any
    vision: Any

    def predict(self, images: Tensor, valid: Tensor | None, queries: list[str]) -> Any:
        """Return scores_SB, maps_SBP, evidence_SBP and grid for (B, 1, Y, X) images and S queries."""
        ...


class View(Protocol):
    """Answers about one image: scores (S,), maps and evidence (S, P), validity (P,)."""

    @property
    def scores(self) -> Array: ...  # noqa: D102
    @property
    def maps(self) -> Floats: ...  # noqa: D102
    @property
    def evidence(self) -> Floats: ...  # noqa: D102
    @property
    def valid(self) -> Mask: ...  # noqa: D102
    @property
    def index(self) -> dict[str, int]: ...  # noqa: D102
    @property
    def patch_px(self) -> float: ...  # noqa: D102

    def rows(self, texts: Sequence[str]) -> list[int]:
        """Return where the answers to queries are."""
        ...

    def native(self, maps: Floats) -> Floats:
        """Bring maps (Q, P) to the grid of the file, as inference does."""
        ...

    def point(self, row: int) -> tuple[int, ...]:
        """Return the index in the file of the point that inference answers with."""
        ...

    def guided(self, row: int) -> Floats:
        """Return a map on the grid of the file after refinement with the CT (volumes only)."""
        ...

    def extras(self, row: int, kind: str, mask: Mask, parts: Sequence[Mask]) -> dict[str, float]:
        """Return the metrics that only volumes have, of a map against a mask that is the union of parts."""
        ...


def look(model: Predictor, batch: Sequence[Case], queries: list[str], threshold: float) -> Sequence[View]:
    """Ask all cases of a batch all queries; `threshold` makes the masks whose parts are counted."""
    if batch[0].subject.volumes:
        from glint.eval.views_ct import look_scan

        return [look_scan(model, case, queries, threshold) for case in batch]
    from glint.eval.views_cxr import look_radiographs

    return look_radiographs(model, batch, queries)
