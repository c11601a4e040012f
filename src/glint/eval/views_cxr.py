"""X-rays: a batch is encoded and asked at once; maps come back to native pixels by the letterbox."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glint.eval.cases import Case
from glint.eval.subject import Mask
from glint.eval.views import Array, Floats, Predictor
from glint.infer.maps import native_map, peak_point, smoothing_of
from glint.io.letterbox import Letterbox, letterbox
from glint.io.radiograph import read_radiograph


@dataclass(frozen=True, slots=True)
class RadiographView:
    """See View; and the way to native pixels."""

    scores: Array
    maps: Floats
    evidence: Floats
    valid: Mask
    index: dict[str, int]
    grid: tuple[int, int]
    fit: Letterbox
    smoothing: float

    def rows(self, texts: Sequence[str]) -> list[int]:
        """See View."""
        return [self.index[text] for text in texts]

    def native(self, maps: Floats) -> Floats:
        """See View."""
        return to_native(maps, self.grid, self.fit)

    def point(self, row: int) -> tuple[int, ...]:
        """See View: (row, column)."""
        x, y = peak_point(self.evidence[row].reshape(self.grid), self.fit, self.smoothing)
        return y, x

    @property
    def patch_px(self) -> float:
        """Return the side of a patch in native pixels."""
        return max(self.fit.native) / max(self.grid)

    def guided(self, row: int) -> Floats:
        """X-rays have no refinement."""
        raise NotImplementedError

    def extras(self, row: int, kind: str, mask: Mask, parts: Sequence[Mask]) -> dict[str, float]:
        """X-rays have nothing beyond."""
        raise NotImplementedError


def load_images(cases: Sequence[Case], size_px: int) -> tuple[Tensor, list[Letterbox]]:
    """Return (B, 1, Y, X) network inputs in [0, 1] and the letterbox of each."""
    return load_pixels([case.image for case in cases], size_px)


def load_pixels(paths: Sequence[Path], size_px: int) -> tuple[Tensor, list[Letterbox]]:
    """Return the same for image files."""
    pairs = [letterbox(read_radiograph(path).pixels, size_px) for path in paths]
    return torch.from_numpy(np.stack([pixels for pixels, _ in pairs]))[:, None], [fit for _, fit in pairs]


def to_native(maps: NDArray[np.float32], grid: tuple[int, int], fit: Letterbox) -> NDArray[np.float32]:
    """Bring maps (Q, P) to the native pixel grid, (Q, Y, X), as inference does."""
    return np.stack([native_map(each.reshape(grid), fit) for each in maps])


def look_radiographs(model: Predictor, batch: Sequence[Case], queries: list[str]) -> list[RadiographView]:
    """Ask a batch of X-rays."""
    index = {text: row for row, text in enumerate(queries)}
    images, fits = load_images(batch, int(model.cfg.data.size_px))
    valid = np.stack([np.asarray(fit.valid_patches(model.vision.patch[-1])).reshape(-1) for fit in fits])
    answer = model.predict(images, torch.from_numpy(valid), queries)
    scores = answer.scores_SB.double().cpu().numpy()
    maps, evidence = (part.float().cpu().numpy() for part in (answer.maps_SBP, answer.evidence_SBP))
    smoothing = smoothing_of(model.cfg.align.spread)
    return [
        RadiographView(scores[:, b], maps[:, b], evidence[:, b], valid[b], index, answer.grid, fit, smoothing)
        for b, fit in enumerate(fits)
    ]
