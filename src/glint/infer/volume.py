"""Answer queries on one CT scan: windows encoded once, maps back on the voxels of the file one query at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glint.errors import UsageError
from glint.infer.domain import domain_notes
from glint.infer.places import mask_above, peak_voxel, place
from glint.infer.predict import check_queries, check_threshold
from glint.infer.refine import GuidedFilter
from glint.infer.scan import EncodedScan, VolumeModel, encode_scan
from glint.io.side import midline
from glint.io.volume import Volume
from glint.results import Task
from glint.volume_results import VolumeAnswer, VolumeAnswers

Floats = NDArray[np.float32]
Refine = Literal["none", "guided"]
REFINES = ("none", "guided")


@dataclass(frozen=True, slots=True)
class VolumeOptions:
    """How masks of volumes are made.

    Attributes:
        threshold: Mask = map > threshold.
        min_ml: Connected parts of a mask smaller than this are dropped.
        refine: "guided" gives maps the edges of the CT (glint.infer.refine).
        overlap: Of neighbouring windows, as a share of their side.
    """

    threshold: float = 0.5
    min_ml: float = 0.05
    refine: Refine = "none"
    overlap: float = 0.5

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: Out of range.
        """
        check_threshold(self.threshold)
        if not self.min_ml >= 0:
            raise UsageError(f"the least volume is {self.min_ml}", where="min_ml", expected="0 ml or more")
        if self.refine not in REFINES:
            raise UsageError(
                f"there is no refinement '{self.refine}'", where="refine", expected=" or ".join(REFINES)
            )


DEFAULTS = VolumeOptions()


def predict_volume(
    model: VolumeModel,
    volume: Volume,
    queries: Sequence[str],
    *,
    task: Task = "segment",
    options: VolumeOptions = DEFAULTS,
    model_name: str = "",
    device: str = "cpu",
) -> VolumeAnswers:
    """Answer queries on one scan of any size; every window is encoded once however many queries there are.

    Args:
        model: A model of volumes.
        volume: The scan as read.
        queries: Free texts.
        task: "classify" gives scores; "ground" and "segment" give places and masks, too.
        options: How masks are made.
        model_name: How the answers name the model.
        device: Where the model is.

    Raises:
        UsageError: Bad queries or options, or a model of radiographs.
        DataError: The scan shows nothing but air, or does not fit into memory.
    """
    texts = check_queries(queries)
    options.check()
    encoded = encode_scan(model, volume, overlap=options.overlap, device=device)
    notes = volume.provenance.notes + domain_notes(encoded.volume)
    locate = None if task == "classify" else _Locator(encoded, options)
    results: list[VolumeAnswer] = []
    for found in encoded.ask(texts):
        for score, cells, smooth in zip(found.scores.tolist(), found.maps, found.smooth, strict=True):
            text = texts[len(results)]
            results.append(
                VolumeAnswer(text, score) if locate is None else locate(text, score, cells, smooth)
            )
    return VolumeAnswers(
        task,
        str(volume.provenance.source),
        model_name,
        options.threshold,
        options.refine,
        options.min_ml,
        tuple(results),
        volume,
        encoded.volume,
        notes,
    )


class _Locator:
    """Makes the answer to a query from its maps."""

    def __init__(self, encoded: EncodedScan, options: VolumeOptions) -> None:
        self.encoded, self.options = encoded, options
        self.midline_mm = midline(encoded.volume)
        z, y, x = (n // t for n, t in zip(encoded.volume.grid.shape, encoded.windows.grid, strict=True))
        self.refine = GuidedFilter(encoded.volume, (z, y, x)).refine if options.refine == "guided" else None

    def __call__(self, text: str, score: float, cells: Floats, smooth: Floats) -> VolumeAnswer:
        scan = self.encoded.volume
        native = scan.chain.native
        shown = cells if self.refine is None else self.refine(cells)
        voxel = peak_voxel(smooth, self.encoded.tokens, native)
        mask = mask_above(shown, scan.chain, self.options.threshold, self.options.min_ml, voxel)
        found = place(mask, native, self.midline_mm)
        x, y, z = native.to_lps(np.array([voxel], dtype=np.float64))[0].tolist()
        return VolumeAnswer(
            text,
            score,
            (x, y, z),
            (voxel[2], voxel[1], voxel[0]),
            found.box_lps_mm,
            found.centroid_lps_mm,
            found.volume_ml,
            mask.parts_ml,
            found.laterality,
            cells,
            mask.mask,
            scan,
            self.refine,
        )
