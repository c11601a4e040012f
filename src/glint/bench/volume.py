"""What answering on a CT costs: time and memory against the size of the scan, the number of queries and the overlap.

One thing is varied at a time, the others stay at their base. The scan is made up (a body with lungs, arms cut off); how
much of it a mask covers is the model's doing, and random weights open no gate at all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glint.bench.machine import measure
from glint.config.schema import GlintConfig
from glint.infer.scan import encode_scan
from glint.infer.volume import VolumeOptions, predict_volume
from glint.io.grid_chain import GridChain
from glint.io.volume import Provenance, Volume
from glint.io.voxel_grid import Triple, VoxelGrid
from glint.model.glint import GlintModel

HEAD = ("varied", "scan", "windows", "overlap", "queries", "seconds", "peak MB")
EXTENT_MM = (330.0, 360.0, 360.0)
RANDOM: dict[str, Any] = {
    "data": {"volume": {"preset": "debug"}},
    "vision": {
        "name": "vjepa",
        "arch": {"patch_px": 16, "tubelet": 4, "width": 192, "depth": 6, "fold_gray": True},
    },
}
"""Without a model: a small V-JEPA with random weights."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is varied; the first of each is the base.

    Attributes:
        shapes: (Z, Y, X) voxels of scans.
        queries: Numbers of queries.
        overlaps: Of windows.
    """

    shapes: Sequence[Triple]
    queries: Sequence[int]
    overlaps: Sequence[float]


@dataclass(frozen=True, slots=True)
class Row:
    """One measured cell: what was varied, the scan, its windows, median seconds, memory above the scan or None."""

    varied: str
    shape: Triple
    windows: int
    overlap: float
    queries: int
    seconds: float
    peak_bytes: int | None

    def cells(self) -> list[str]:
        """Return the cells under HEAD."""
        memory = "-" if self.peak_bytes is None else f"{self.peak_bytes / 1e6:,.0f}"
        size = " x ".join(map(str, self.shape))
        return [
            self.varied,
            size,
            str(self.windows),
            f"{self.overlap:g}",
            str(self.queries),
            f"{self.seconds:,.1f}",
            memory,
        ]


def random_model() -> GlintModel:
    """Return a small model of CT with random weights."""
    torch.manual_seed(0)
    return GlintModel(GlintConfig.model_validate(RANDOM)).eval()


def made_scan(shape: Triple) -> Volume:
    """Return a body with two lungs of 330 x 360 x 360 mm on so many voxels."""
    z, y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape)
    y, x, z = y[None, :, None], x[None, None], z[:, None, None]
    hu = np.broadcast_to(
        np.where(x**2 / 0.9 + y**2 / 0.5 < 1, np.float32(40), np.float32(-1000)), shape
    ).copy()
    for side in (-0.42, 0.42):
        hu[np.broadcast_to((x - side) ** 2 / 0.09 + y**2 / 0.3 + z**2 < 1, shape)] = -820
    affine = np.zeros((4, 4))
    steps = [mm / side for mm, side in zip(EXTENT_MM, shape, strict=True)]
    affine[[2, 1, 0, 3], range(4)] = (*steps, 1)
    return Volume(hu, None, Provenance(Path("made"), "made"), GridChain.begin(VoxelGrid(shape, affine)))


def run(model: GlintModel, sweep: Sweep, device: torch.device, repeats: int) -> Iterator[Row]:
    """Yield the base, then the rows of each thing that is varied."""
    shape, queries, overlap = sweep.shapes[0], sweep.queries[0], sweep.overlaps[0]
    scan = made_scan(shape)
    yield _row("base", model, scan, queries, overlap, device, repeats)
    for number in sweep.queries[1:]:
        yield _row("queries", model, scan, number, overlap, device, repeats)
    for share in sweep.overlaps[1:]:
        yield _row("overlap", model, scan, queries, share, device, repeats)
    for size in sweep.shapes[1:]:
        scan = made_scan(size)
        yield _row("size", model, scan, queries, overlap, device, repeats)


def _row(
    varied: str,
    model: GlintModel,
    scan: Volume,
    queries: int,
    overlap: float,
    device: torch.device,
    repeats: int,
) -> Row:
    texts = [f"There is a finding of kind {number}." for number in range(queries)]
    options = VolumeOptions(overlap=overlap)
    windows = len(encode_scan(model, scan, overlap=overlap, device=str(device)).windows.starts)

    def answer() -> None:
        predict_volume(model, scan, texts, options=options, device=str(device))

    cost = measure(answer, device, repeats)
    return Row(varied, scan.grid.shape, windows, overlap, queries, cost.seconds, cost.peak_bytes)


def query_ratio(rows: Sequence[Row]) -> tuple[int, float] | None:
    """Return the largest number of queries and its time over that of the base; None when they were not varied."""
    varied = [row for row in rows if row.varied == "queries"]
    if not varied:
        return None
    most = max(varied, key=lambda row: row.queries)
    return most.queries, most.seconds / rows[0].seconds


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw time and memory against what was varied (needs matplotlib, the `eval` extra)."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    from glint.atomic import write_whole

    panels = (
        ("size", "million voxels", lambda row: float(np.prod(row.shape)) / 1e6),
        ("queries", "queries", lambda row: float(row.queries)),
        ("overlap", "overlap of windows", lambda row: row.overlap),
    )
    figure, axes = plt.subplots(1, len(panels), figsize=(12, 3.6))
    for axis, (varied, label, value) in zip(axes, panels, strict=True):
        shown = sorted((row for row in rows if row.varied in ("base", varied)), key=value)
        axis.plot([value(row) for row in shown], [row.seconds for row in shown], "o-", label="seconds")
        memory = axis.twinx()
        peaks = [float("nan") if row.peak_bytes is None else row.peak_bytes / 1e9 for row in shown]
        memory.plot([value(row) for row in shown], peaks, "s--", color="tab:orange", label="GB")
        axis.set(xlabel=label, ylabel="seconds", ylim=(0, None))
        memory.set(ylabel="peak GB above the scan", ylim=(0, None))
    figure.tight_layout()
    write_whole(path, lambda part: figure.savefig(part, dpi=110, format="png"))
    plt.close(figure)
