"""CT: a scan is encoded in windows and asked as `glint segment` does it; maps come back to the voxels of the file."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np

from glint.eval.cases import Case
from glint.eval.subject import Mask
from glint.eval.views import Array, Floats, Predictor
from glint.eval.volume_metrics import average_precision, parts_found
from glint.infer.places import peak_voxel, smoothed
from glint.infer.refine import GuidedFilter
from glint.infer.scan import EncodedScan, VolumeModel, encode_scan
from glint.io.volume import read_volume


@dataclass(frozen=True)
class ScanView:
    """See View; and the way to the voxels of the file."""

    scores: Array
    maps: Floats
    evidence: Floats
    valid: Mask
    index: dict[str, int]
    encoded: EncodedScan
    threshold: float

    def rows(self, texts: Sequence[str]) -> list[int]:
        """See View."""
        return [self.index[text] for text in texts]

    def native(self, maps: Floats) -> Floats:
        """See View."""
        return np.stack([self._native(each.reshape(self.encoded.windows.grid)) for each in maps])

    def point(self, row: int) -> tuple[int, ...]:
        """See View: (z, y, x)."""
        grid = self.encoded.volume.chain.native
        evidence = self.evidence[row].reshape(self.encoded.windows.grid)
        return peak_voxel(smoothed(evidence), self.encoded.tokens, grid)

    @property
    def patch_px(self) -> float:
        """Return the longest side of a patch in voxels of the file, where these are shortest."""
        return max(self.encoded.tokens.spacing_mm) / min(self.encoded.volume.chain.native.spacing_mm)

    def guided(self, row: int) -> Floats:
        """See View."""
        return self._native(self._filter.refine(self.maps[row].reshape(self.encoded.windows.grid)))

    def extras(self, row: int, kind: str, mask: Mask, parts: Sequence[Mask]) -> dict[str, float]:
        """See View."""
        values = self.native(self.maps[[row]])[0]
        grid = self.encoded.volume.chain.native
        found = parts_found(values > self.threshold, parts, grid, kind)
        return {"aupr": average_precision(values, mask), **found}

    @cached_property
    def _filter(self) -> GuidedFilter:
        shape, grid = self.encoded.volume.grid.shape, self.encoded.windows.grid
        z, y, x = (n // t for n, t in zip(shape, grid, strict=True))
        return GuidedFilter(self.encoded.volume, (z, y, x))

    def _native(self, cells: Floats) -> Floats:
        return np.clip(self.encoded.volume.chain.to_native(cells), 0, 1)


def look_scan(model: Predictor, case: Case, queries: list[str], threshold: float) -> ScanView:
    """Ask one scan."""
    encoded = encode_scan(cast(VolumeModel, model), read_volume(case.image))
    found = list(encoded.ask(queries))
    scores, maps, evidence = (
        np.concatenate([getattr(part, name) for part in found]) for name in ("scores", "maps", "evidence")
    )
    index = {text: row for row, text in enumerate(queries)}
    return ScanView(
        scores.astype(np.float64),
        maps.reshape(len(queries), -1),
        evidence.reshape(len(queries), -1),
        encoded.valid.ravel(),
        index,
        encoded,
        threshold,
    )
