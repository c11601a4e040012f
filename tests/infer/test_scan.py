"""A scan as one image: one window is the model itself, several windows agree, and each is encoded once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glint.errors import DataError, UsageError
from glint.infer import memory
from glint.infer.nearby import best_place
from glint.infer.scan import encode_scan, valid_patches
from glint.io.ct import windowed
from glint.io.side import assumed_midline, columns_mm, side_channel
from glint.io.volume import Volume
from glint.io.voxel_grid import VoxelGrid
from glint.model.glint import GlintModel

Make = Callable[..., Any]
QUERIES = [f"There is a finding {i}." for i in range(5)]


def all_found(encoded: Any, queries: list[str]) -> tuple[np.ndarray, ...]:
    parts = list(encoded.ask(queries))
    return tuple(
        np.concatenate([getattr(p, name) for p in parts]) for name in ("scores", "maps", "evidence", "raw")
    )


@pytest.mark.parametrize("align", ["gated", "l2_mean", "null_token", "vlcabs", "global", "softmax", "spread"])
def test_one_window__answers_as_the_model_does(
    ct_model: GlintModel, patient: Make, grid: VoxelGrid, align: str
) -> None:
    cfg = ct_model.cfg
    changes: dict[str, Any] = {
        "l2_mean": {"pool": "l2_mean"},
        "null_token": {"pool": "null_token"},
        "vlcabs": {"type": "vlcabs"},
        "global": {"type": "global"},
        "softmax": {"gate_activation": "softmax"},
        "spread": {"spread": 5},
    }.get(align, {})
    torch.manual_seed(1)
    model = GlintModel(cfg.model_copy(update={"align": cfg.align.model_copy(update=changes)})).eval()
    scan = patient(grid, (60, 0, 0))
    small = model.cfg.data.volume.model_copy(update={"spacing_mm": (24.0, 18.0, 18.0)})  # pyright: ignore[reportOptionalMemberAccess]
    model.cfg = model.cfg.model_copy(update={"data": model.cfg.data.model_copy(update={"volume": small})})
    encoded = encode_scan(model, scan)
    assert len(encoded.windows.starts) == 1
    pixels = torch.from_numpy(windowed(encoded.volume.hu, small.windows_hu))[None]
    valid = torch.from_numpy(valid_patches(encoded.volume.valid, encoded.windows.grid)).reshape(1, -1)
    assert not valid.all()  # smaller than the window: padded
    expected = model.predict(pixels, valid, QUERIES)
    scores, maps, evidence, raw = all_found(encoded, QUERIES)
    np.testing.assert_allclose(maps.reshape(5, -1), expected.maps_SBP[:, 0], atol=1e-6)
    np.testing.assert_allclose(evidence.reshape(5, -1), expected.evidence_SBP[:, 0], atol=1e-6)
    thresholds = torch.tensor([0.01, 0.2, 0.5])
    with torch.inference_mode():
        found = model.align_patches(model.project(model.vision(pixels).tokens, valid), QUERIES)
        by_masks = model.mask_scores(found, QUERIES, thresholds)
    raw_again, masks = encoded.raw_scores(QUERIES, thresholds)
    np.testing.assert_allclose(raw_again, raw)
    np.testing.assert_allclose(masks, by_masks[..., 0], atol=1e-6)
    if found.null is None:
        np.testing.assert_allclose(raw, found.scores[:, 0], atol=1e-6)
        np.testing.assert_allclose(scores, expected.scores_SB[:, 0], atol=1e-6)
    else:
        gate, null = found.gate.reshape(maps.shape).numpy(), found.null.numpy()
        unspread = found.evidence.reshape(maps.shape).numpy()
        best = best_place(gate, unspread, null, model.cfg.align.eps0, encoded.valid)
        np.testing.assert_allclose(raw, best, atol=1e-6)
        np.testing.assert_allclose(
            scores, model.calibrated(torch.from_numpy(raw), QUERIES).numpy(), atol=1e-6
        )


def test_windows__do_not_change_answers_of_a_local_model(
    hu_model: Make, patient: Make, grid: VoxelGrid
) -> None:
    scan = patient(grid, (60, 0, 0))
    many = encode_scan(hu_model(), scan, overlap=0.6)
    whole = encode_scan(hu_model(crop=many.volume.grid.shape), scan)
    assert len(whole.windows.starts) == 1
    assert len(many.windows.starts) > 20
    one, other = all_found(whole, ["a"]), all_found(many, ["a"])
    np.testing.assert_allclose(one[3], other[3], rtol=1e-4)  # windows without the blob have no say
    assert one[1].sum() == pytest.approx(other[1].sum(), rel=1e-4)
    assert one[1].max() == pytest.approx(1)


def test_score__without_a_null_is_that_of_the_place_a_query_points_at(
    hu_model: Make, patient: Make, grid: VoxelGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = hu_model()
    plain = model.align_patches

    def denying(patches: Any, queries: list[str]) -> Any:
        found = plain(patches, queries)
        found.scores = torch.stack(
            [-row if text.startswith("No ") else row for row, text in zip(found.scores, queries, strict=True)]
        )
        return found

    monkeypatch.setattr(model, "align_patches", denying)
    encoded = encode_scan(model, patient(grid, (60, 0, 0)), overlap=0.5)
    raw = all_found(encoded, ["Blob.", "No blob."])[3]
    # Most windows have no blob and a score of 0, the highest that the denial gets anywhere.
    assert raw[1] == pytest.approx(-raw[0])
    assert raw[0] > 0.5


def test_encode__once_for_all_queries_and_a_few_at_a_time(
    hu_model: Make, patient: Make, grid: VoxelGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = hu_model()
    encoded = encode_scan(model, patient(grid, (0, 0, 0)))
    calls = model.vision.calls
    assert calls == len(encoded.windows.starts)
    places = calls * int(np.prod(encoded.windows.size))
    monkeypatch.setattr(memory, "CHUNK_BYTES", 4 * memory.MAPS_PER_QUERY * places * 7)
    scores, *_ = all_found(encoded, [str(i) for i in range(20)])
    assert model.asked == [7, 7, 6]
    assert model.vision.calls == calls
    assert len(scores) == 20


def test_padding__answers_nothing(hu_model: Make, patient: Make, grid: VoxelGrid) -> None:
    scan = patient(grid, (0, 0, 0))
    valid = np.ones(scan.hu.shape, dtype=bool)
    valid[:10] = False
    hu = scan.hu.copy()
    hu[:10] = 1000
    encoded = encode_scan(hu_model(), replace(scan, hu=hu, valid=valid))
    maps = all_found(encoded, ["a"])[1][0]
    assert maps[~encoded.valid].max() == 0
    assert maps.max() == pytest.approx(1)


def test_memory__is_refused_before_anything_is_encoded(
    hu_model: Make, patient: Make, grid: VoxelGrid
) -> None:
    model, scan = hu_model(), patient(grid, (0, 0, 0))
    with pytest.raises(DataError, match=r"needs about .* GiB of memory"):
        encode_scan(model, scan, available=10 << 20)
    assert model.vision.calls == 0
    encode_scan(model, scan, available=4 << 30)


def test_memory__grows_with_overlap_but_not_with_queries(
    hu_model: Make, patient: Make, grid: VoxelGrid
) -> None:
    scan = patient(grid, (0, 0, 0))
    sizes: list[int] = []
    for overlap in (0.0, 0.5, 0.8):
        encoded = encode_scan(hu_model(), scan, overlap=overlap)
        sizes.append(memory.needed_bytes(scan.grid.shape, (50, 60, 86), (16, 24, 24), encoded.windows, 4096))
    assert sizes == sorted(set(sizes))
    assert memory.queries_at_once(1 << 40) == 1


def test_available__minds_a_limit_of_the_address_space(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "statm").write_text("1000 1 1\n")
    monkeypatch.setattr(memory, "STATM", tmp_path / "statm")
    monkeypatch.setattr(memory, "free_bytes", lambda: 1 << 40)
    monkeypatch.setattr(memory.resource, "getrlimit", lambda _: (1 << 30, -1))
    assert memory.available_bytes() == (1 << 30) - 1000 * memory.resource.getpagesize()
    monkeypatch.setattr(memory, "free_bytes", lambda: 1 << 20)
    assert memory.available_bytes() == 1 << 20
    monkeypatch.setattr(memory.resource, "getrlimit", lambda _: (memory.resource.RLIM_INFINITY, -1))
    assert memory.available_bytes() == 1 << 20


def test_encode__wants_a_model_of_volumes(hu_model: Make, scan_of_air: Volume) -> None:
    model = hu_model()
    model.cfg = model.cfg.model_copy(update={"data": model.cfg.data.model_copy(update={"volume": None})})
    with pytest.raises(UsageError, match="radiographs"):
        encode_scan(model, scan_of_air)
    with pytest.raises(DataError, match="nothing but air"):
        encode_scan(hu_model(), scan_of_air)


@pytest.fixture
def scan_of_air(patient: Make, grid: VoxelGrid) -> Volume:
    scan = patient(grid, (0, 0, 0))
    return replace(scan, hu=np.full_like(scan.hu, -1000))


def test_encode__windows_carry_the_side_of_their_voxels(
    hu_model: Make, patient: Make, grid: VoxelGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = hu_model(side=True)
    seen: list[torch.Tensor] = []
    plain = type(model.vision).__call__

    def noted(self: Any, images: torch.Tensor) -> Any:
        seen.append(images)
        return plain(self, images[:, :1])

    monkeypatch.setattr(type(model.vision), "__call__", noted)
    encoded = encode_scan(model, patient(grid, (60, 0, 0)))
    scan, (_, _, width) = encoded.volume, model.cfg.data.volume.crop
    middle = assumed_midline(scan)
    for start, images in zip(encoded.windows.starts, seen, strict=True):
        columns = np.arange(start[2] * 2, start[2] * 2 + width, dtype=float)
        expected = side_channel(columns_mm(scan.grid, columns) - middle)
        np.testing.assert_allclose(images[0, 1], np.broadcast_to(expected, images.shape[2:]), atol=0.02)
