"""A CT scan of any size as one image: encoded once in sliding windows, then asked any number of queries.

Every window is an image to the model, of the size it was trained with. Patches of windows that overlap are averaged
with weights w (windows.py), which is legitimate for maps of a sigmoid gate: they do not depend on what else is in a
window. The score of a scan is that of its best place (nearby.py): pooling all patches of a scan, or of a window, would
let what is open elsewhere drown a small finding.

Methods whose weights have no absolute scale (vlcabs, global, a softmax gate) have a score in every window instead, that
of the model itself. It is averaged with the same weights, so that every patch of the scan has one, and taken where the
query points at: score = sum_w w_wp score_w, p = argmax of the smoothed evidence (docs/decisions.md).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glint.config.schema import GlintConfig
from glint.config.volume import VolumeConfig
from glint.errors import UsageError
from glint.infer.memory import available_bytes, check_memory, kept_numbers, needed_bytes, queries_at_once
from glint.infer.nearby import best_place
from glint.infer.places import smoothed
from glint.infer.windows import Windows, plan_windows
from glint.io.body import without_surroundings
from glint.io.ct import STRAIGHTEN_DEG, lay_out, windowed
from glint.io.side import assumed_midline, columns_mm, with_side
from glint.io.volume import Volume
from glint.io.volume_steps import pad_to_multiple
from glint.io.voxel_grid import CANONICAL, Triple, VoxelGrid
from glint.model.align import join
from glint.ops.spread import Links, find_links, spread_all

Maps = NDArray[np.float32]


class VolumeModel(Protocol):
    """What inference on volumes needs of a model; glint.model.glint.GlintModel is one."""

    @property
    def cfg(self) -> GlintConfig: ...  # noqa: D102
    @property
    def vision(self) -> Any: ...  # noqa: D102

    def project(self, tokens: Tensor, valid: Tensor | None) -> Any:
        """Return glint.model.align.Patches of tokens (B, P, C); `valid` (B, P) is False on padding."""
        ...

    def align_patches(self, patches: Any, queries: list[str]) -> Any:
        """Return glint.model.align.Alignment: scores (S, B), gate, cosine, maps and evidence (S, B, P), null (S,)."""
        ...

    def calibrated(self, raw: Tensor, queries: list[str]) -> Tensor:
        """Return scores in [0, 1] of raw ones (S,)."""
        ...

    def mask_scores(self, found: Any, queries: list[str], thresholds: Tensor) -> Tensor:
        """Return scores (T, S, B) from masks at thresholds; `found` is what `align_patches` returned."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What a scan answers to some queries.

    Attributes:
        raw: (S,) similarity at the best place.
        scores: (S,) calibrated, 0 to 1.
        maps: (S, Zp, Yp, Xp) localisation maps in [0, 1] on the token grid, spread.
        evidence: (S, Zp, Yp, Xp) what each place adds to the score, spread.
        smooth: The same, smoothed: queries point at its peak.
    """

    raw: Maps
    scores: Maps
    maps: Maps
    evidence: Maps
    smooth: Maps


@dataclass(frozen=True, slots=True, eq=False)
class EncodedScan:
    """A scan whose windows have been encoded.

    Attributes:
        volume: The scan as it was laid out and padded; its chain brings token maps back.
        windows: Where the windows lie.
        valid: (Zp, Yp, Xp) False for patches of padding or of what surrounds the patient alone.
    """

    volume: Volume
    windows: Windows
    valid: NDArray[np.bool_]
    _model: VolumeModel
    _patches: Any
    _places: Tensor
    _weights: Tensor
    _links: Links | None

    @property
    def tokens(self) -> VoxelGrid:
        """Where the patches are."""
        return self.volume.grid.divided(self.windows.grid)

    def ask(self, queries: Sequence[str]) -> Iterator[Found]:
        """Answer queries, a few at a time, in order: memory does not grow with their number."""
        size = queries_at_once(len(self._places))
        for start in range(0, len(queries), size):
            yield self._ask(list(queries[start : start + size]))

    @torch.inference_mode()
    def raw_scores(self, queries: Sequence[str], thresholds: Tensor) -> tuple[Maps, Maps]:
        """Return what calibration needs: scores before it (S,), and from nothing but masks at thresholds (T, S).

        Those from masks are of the windows where the query points: a threshold is fitted to what is in a window.
        """
        size = queries_at_once(len(self._places))
        raw, masks = list[Maps](), list[Maps]()
        for start in range(0, len(queries), size):
            texts = list(queries[start : start + size])
            found = self._model.align_patches(self._patches, texts)
            by_masks = self._model.mask_scores(found, texts, thresholds)
            evidence = self._maps(found.evidence)
            raw.append(self._raw(found, evidence))
            masks.append((by_masks.float() * self._weights_at(smoothed(evidence))).sum(-1).cpu().numpy())
        return np.concatenate(raw), np.concatenate(masks, axis=1)

    @torch.inference_mode()
    def _ask(self, queries: list[str]) -> Found:
        found = self._model.align_patches(self._patches, queries)
        evidence = self._maps(found.evidence)
        raw = self._raw(found, evidence)
        scores = self._model.calibrated(torch.from_numpy(raw).to(self._weights.device), queries)
        maps, evidence = self._spread(self._maps(found.maps)), self._spread(evidence)
        return Found(raw, scores.cpu().numpy(), maps, evidence, smoothed(evidence))

    def _raw(self, found: Any, evidence: Maps) -> Maps:
        """Return scores before calibration (S,) from evidence that has not spread: an even one ranks worse."""
        if found.null is None:
            return (found.scores.float() * self._weights_at(smoothed(evidence))).sum(-1).cpu().numpy()
        null = found.null.float().cpu().numpy()
        eps0: float = self._model.cfg.align.eps0
        return best_place(self._maps(found.gate), evidence, null, eps0, self.valid)

    def _maps(self, each: Tensor) -> Maps:
        return self._merged(each).reshape(-1, *self.windows.grid).clip(0, 1)

    def _spread(self, maps: Maps) -> Maps:
        """Let maps spread over patches that look alike, where the model has that."""
        if self._links is None:
            return maps
        flat = torch.from_numpy(maps.reshape(len(maps), 1, -1))
        return spread_all(flat, self._links, self._model.cfg.align.spread).numpy().reshape(maps.shape)

    def _weights_at(self, smooth: Maps) -> Tensor:
        """Return (S, W): how much each window weighs in the valid patch where smoothed evidence is highest."""
        peaks = np.where(self.valid, smooth, -1).reshape(len(smooth), -1).argmax(1)
        flat = self._places.reshape(self._weights.shape)
        rows = [torch.where(flat == int(peak), self._weights, 0.0).sum(-1) for peak in peaks]
        return torch.stack(rows)

    def _merged(self, each: Tensor) -> Maps:
        """Average the windows (S, W, P) in each place: (S, Zp * Yp * Xp), 0 where nothing is valid."""
        total = torch.zeros(len(each), self.valid.size, device=each.device)
        total.index_add_(1, self._places, (each.float() * self._weights).flatten(1))
        return total.cpu().numpy()


def encode_scan(
    model: VolumeModel,
    volume: Volume,
    *,
    overlap: float = 0.5,
    device: str = "cpu",
    available: int | None = None,
) -> EncodedScan:
    """Lay a scan out, cover it with windows and encode each of them once.

    Args:
        model: A model of volumes.
        volume: The scan as read.
        overlap: Of neighbouring windows, as a share of their side.
        device: Where the model is.
        available: Bytes of memory that may be used; None asks the system.

    Raises:
        UsageError: The model is none of volumes, or the overlap is out of range.
        DataError: The scan shows nothing but air, or does not fit into memory.
    """
    setting = volume_settings(model)
    patch = _triple(model.vision.patch)
    _check_fits(model, volume, setting, patch, overlap, available)
    laid_out = lay_out(volume, setting.spacing_mm)
    middle_mm = assumed_midline(laid_out) if setting.side else None
    laid_out = without_surroundings(laid_out)
    scan = pad_to_windows(laid_out, setting.crop, patch)
    windows = plan_windows(scan.grid.shape, setting.crop, patch, overlap)
    valid = valid_patches(scan.valid, windows.grid)
    weights = torch.from_numpy(windows.weights(valid)).to(device).reshape(len(windows.starts), -1)
    parts: list[Any] = []
    with torch.inference_mode():
        for number, start in enumerate(windows.starts):
            pixels = _window(scan, start, patch, setting, middle_mm)
            tokens = model.vision(torch.from_numpy(pixels)[None].to(device)).tokens
            parts.append(model.project(tokens, weights[[number]] > 0))
    places = torch.from_numpy(windows.places()).to(device)
    links = None
    if model.cfg.align.spread:
        pixels = torch.from_numpy(windowed(scan.hu, setting.windows_hu))[None]
        links = find_links(pixels, torch.from_numpy(valid).reshape(1, -1), patch)
    return EncodedScan(scan, windows, valid, model, join(parts), places, weights, links)


def volume_settings(model: VolumeModel) -> VolumeConfig:
    """Return how a model wants scans laid out.

    Raises:
        UsageError: It is a model of radiographs.
    """
    setting = model.cfg.data.volume
    if setting is None:
        raise UsageError("this model reads radiographs, not CT volumes", fix="load a CT model")
    return setting


def pad_to_windows(volume: Volume, crop: Triple, patch: Triple) -> Volume:
    """Put air around a laid-out scan: whole patches, and along each axis at least one window."""
    z, y, x = (c if side < c else p for side, c, p in zip(volume.grid.shape, crop, patch, strict=True))
    return pad_to_multiple(volume, (z, y, x))


def valid_patches(valid: NDArray[np.bool_] | None, grid: Triple) -> NDArray[np.bool_]:
    """Return (Zp, Yp, Xp): a patch is valid when any of its voxels is."""
    if valid is None:
        return np.ones(grid, dtype=bool)
    (z, y, x), (a, b, c) = valid.shape, grid
    whole: NDArray[np.bool_] = valid.reshape(a, z // a, b, y // b, c, x // c).max((1, 3, 5))
    return whole


def _window(
    scan: Volume, start: Triple, patch: Triple, setting: VolumeConfig, middle_mm: float | None
) -> Maps:
    """Return (C, Z, Y, X) in [0, 1], the input of the encoder."""
    first = [s * p for s, p in zip(start, patch, strict=True)]
    z, y, x = (slice(a, a + side) for a, side in zip(first, setting.crop, strict=True))
    pixels = windowed(scan.hu[z, y, x], setting.windows_hu)
    if middle_mm is None:
        return pixels
    apart = columns_mm(scan.grid, np.arange(x.start, x.stop, dtype=np.float64)) - middle_mm
    return with_side(pixels, apart)


def _check_fits(
    model: VolumeModel,
    volume: Volume,
    setting: VolumeConfig,
    patch: Triple,
    overlap: float,
    available: int | None,
) -> None:
    """Estimate from the grid alone, before the scan is laid out; its crop to the body comes on top."""
    grid = volume.grid
    if grid.tilt_deg > STRAIGHTEN_DEG:
        laid_out = grid.straightened(setting.spacing_mm)
    else:
        laid_out = grid.turned(CANONICAL)[0].spaced(setting.spacing_mm)
    z, y, x = (
        max(c, -(-side // p) * p) for side, c, p in zip(laid_out.shape, setting.crop, patch, strict=True)
    )
    windows = plan_windows((z, y, x), setting.crop, patch, overlap)
    needed = needed_bytes(grid.shape, (z, y, x), setting.crop, windows, kept_numbers(model.cfg))
    check_memory(needed, str(volume.provenance.source), available_bytes() if available is None else available)


def _triple(numbers: Sequence[int]) -> Triple:
    z, y, x = numbers
    return z, y, x
