"""CT scans as training crops: what is stored, what is served, and that (seed, step) decides everything."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from glint.config.schema import DataConfig
from glint.config.volume import VolumeConfig
from glint.data.augment_volume import augment_volume
from glint.data.dataset import FixedBatches, PairBatch, PairDataset, batch_at
from glint.data.volumes import NOT_VALID, StoredScan, VolumeCache
from glint.errors import DataError
from glint.io.ct import lay_out, windowed
from glint.io.side import SIDE_MM, assumed_midline, columns_mm
from glint.io.volume import read_volume

LAYOUT = {"spacing_mm": (12.0, 12.0, 12.0), "windows_hu": ((-1000.0, 600.0), (-150.0, 250.0))}


def config(crop: tuple[int, int, int]) -> DataConfig:
    return DataConfig.model_validate({"volume": LAYOUT | {"crop": crop}, "sentences_per_image": 2})


@pytest.fixture(scope="module")
def padded(ct_manifest: Path) -> PairDataset:
    """Crops that are larger than every scan."""
    return PairDataset(ct_manifest, "train", config((16, 24, 32)))


@pytest.fixture
def own_ct(ct_manifest: Path, tmp_path: Path) -> Path:
    """A copy of the data set, to be changed by a test."""
    shutil.copytree(ct_manifest.parent, tmp_path / "own", ignore=shutil.ignore_patterns(".glint-cache"))
    return tmp_path / "own" / "manifest.parquet"


def same(a: PairBatch, b: PairBatch) -> bool:
    tensors = ((a.images, b.images), (a.valid_px, b.valid_px), (a.owner, b.owner))
    return all(torch.equal(x, y) for x, y in tensors) and a.sentences == b.sentences


def with_reconstructions(manifest: Path, found: dict[str, list[str]], kind: pa.DataType) -> None:
    table = pq.read_table(manifest)
    column = [found.get(str(name)) for name in table["study_id"]]
    pq.write_table(table.append_column("reconstructions", pa.array(column, kind)), manifest)


def test_serve__a_small_scan_lies_whole_inside_invalid_air(padded: PairDataset, ct_manifest: Path) -> None:
    batch = padded.batch(np.array([4]), np.random.default_rng(0))
    assert (batch.images.shape, batch.images.dtype) == ((1, 2, 16, 24, 32), torch.uint8)
    scan = lay_out(read_volume(ct_manifest.parent / "images" / "train004.nii.gz"), LAYOUT["spacing_mm"])
    expected = np.rint(windowed(np.rint(scan.hu), LAYOUT["windows_hu"]) * 255)
    inside = batch.valid_px[0].nonzero()
    low, high = inside.amin(0), inside.amax(0) + 1
    assert (high - low).tolist() == list(scan.hu.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    assert np.array_equal(batch.images[0][(slice(None), *box)].numpy(), expected)
    assert int(batch.images[0][:, ~batch.valid_px[0]].max()) == 0


def test_serve__a_large_scan_is_cut_at_random_places_and_all_valid(ct_manifest: Path) -> None:
    data = PairDataset(ct_manifest, "train", config((4, 8, 8)))
    crops = [data.batch(np.array([0]), np.random.default_rng(seed)) for seed in range(4)]
    assert all(bool(crop.valid_px.all()) for crop in crops)
    assert len({crop.images.numpy().tobytes() for crop in crops}) == 4


def test_batch_at__is_a_function_of_seed_and_step(padded: PairDataset, ct_manifest: Path) -> None:
    other = PairDataset(ct_manifest, "train", config((16, 24, 32)))
    batch_at(other, 4, seed=1, step=9)  # an unrelated call in between must not matter
    assert same(batch_at(padded, 4, seed=1, step=5), batch_at(other, 4, seed=1, step=5))
    assert not same(batch_at(padded, 4, seed=1, step=5), batch_at(padded, 4, seed=1, step=8))


def test_fixed_batches__come_again_the_same(ct_manifest: Path) -> None:
    batches = FixedBatches(PairDataset(ct_manifest, "val", config((16, 24, 24))), 4)
    first, second = list(batches), list(batches)
    assert [len(batch.images) for batch in first] == [4]  # a fifth alone has nothing to contrast with
    assert all(same(a, b) for a, b in zip(first, second, strict=True))


def test_cache__holds_for_other_windows_and_crops_but_not_for_another_spacing(ct_manifest: Path) -> None:
    folders = [
        PairDataset(ct_manifest, "val", DataConfig.model_validate({"volume": LAYOUT | change})).cache.folder
        for change in ({"crop": (8, 8, 8)}, {"crop": (16, 16, 16), "windows_hu": [[-1400, -200]]})
    ]
    assert folders[0] == folders[1]
    coarse = DataConfig.model_validate({"volume": LAYOUT | {"spacing_mm": (15.0, 15.0, 15.0)}})
    assert PairDataset(ct_manifest, "val", coarse).cache.folder != folders[0]


def test_reconstructions__one_is_drawn_each_time(own_ct: Path) -> None:
    with_reconstructions(own_ct, {"train000": ["images/train001.nii.gz"]}, pa.list_(pa.string()))
    cache = PairDataset(own_ct, "train", config((16, 24, 24))).cache
    assert isinstance(cache, VolumeCache)
    assert [len(choices) for choices in cache.scans[:2]] == [2, 1]
    shown = [cache.serve(np.array([0]), np.random.default_rng(seed))[1].sum() for seed in range(12)]
    assert len({int(count) for count in shown}) == 2  # the two scans differ in size


def test_reconstructions__a_broken_one_is_left_out_and_the_study_stays(own_ct: Path) -> None:
    (own_ct.parent / "images" / "soft.nii.gz").write_bytes(b"broken")
    with_reconstructions(own_ct, {"train000": ["images/soft.nii.gz"]}, pa.list_(pa.string()))
    data = PairDataset(own_ct, "train", config((16, 24, 24)))
    assert len(data) == 12
    assert not data.skipped


def test_reconstructions__must_be_lists_inside_the_folder_and_there(own_ct: Path) -> None:
    table = pq.read_table(own_ct)
    with_reconstructions(own_ct, {"train000": ["../a.nii.gz"]}, pa.list_(pa.string()))
    with pytest.raises(DataError, match="leaves the folder"):
        PairDataset(own_ct, "train", config((16, 24, 24)))
    pq.write_table(table.append_column("reconstructions", pa.array(["a.nii.gz"] * len(table))), own_ct)
    with pytest.raises(DataError, match="does not hold lists"):
        PairDataset(own_ct, "train", config((16, 24, 24)))
    pq.write_table(table, own_ct)
    with_reconstructions(own_ct, {"train000": ["images/none.nii.gz"]}, pa.list_(pa.string()))
    with pytest.raises(DataError, match=r"1 files of the manifest are missing: .*none\.nii\.gz"):
        PairDataset(own_ct, "train", config((16, 24, 24)))


def test_dataset__unreadable_scans_stop_it_or_are_listed(own_ct: Path) -> None:
    (own_ct.parent / "images" / "train003.nii.gz").write_bytes(b"broken")
    with pytest.warns(UserWarning, match=r"1 of 12 studies .*train003"):
        assert len(PairDataset(own_ct, "train", config((16, 24, 24)))) == 11
    (own_ct.parent / "images" / "train004.nii.gz").write_bytes(b"broken")
    with pytest.raises(DataError, match="2 of 12 studies"):
        PairDataset(own_ct, "train", config((16, 24, 24)))


def test_serve__voxels_without_data_are_not_valid(tmp_path: Path) -> None:
    voxels = np.full(8, 100, dtype=np.int16)
    voxels[3] = NOT_VALID
    layout = VolumeConfig.model_validate({"crop": (2, 2, 2), "windows_hu": [[-1000, 1000]]})
    cache = VolumeCache(voxels, [[StoredScan(0, (2, 2, 2), 0.0)]], layout, [0], {}, tmp_path)
    images, valid = cache.serve(np.array([0]), np.random.default_rng(0))
    assert valid.flatten().tolist() == [True] * 3 + [False] + [True] * 4
    assert images.flatten().tolist() == [140] * 3 + [0] + [140] * 4


def test_augment_volume__is_repeatable_small_and_leaves_padding(padded: PairDataset) -> None:
    batch = batch_at(padded, 4, seed=0, step=0)
    one, again = (augment_volume(batch, torch.Generator().manual_seed(3), 1.0, 2).images for _ in range(2))
    assert torch.equal(one, again)
    plain = batch.normalised().images
    valid = batch.valid_px[:, None].expand_as(plain)
    assert torch.equal(one[~valid], plain[~valid])
    assert 0.001 < float((one - plain)[valid].abs().mean()) < 0.08
    still = augment_volume(batch, torch.Generator().manual_seed(3), 0.0, 2).images
    torch.testing.assert_close(still, plain)


def test_serve__the_side_channel_tells_where_a_voxel_lies(ct_manifest: Path) -> None:
    layout = VolumeConfig.model_validate(LAYOUT | {"crop": (4, 8, 10), "side": True})
    cfg = DataConfig.model_validate({"volume": layout})
    assert cfg.channels == 3
    cache = PairDataset(ct_manifest, "train", cfg).cache
    assert isinstance(cache, VolumeCache)
    scan = lay_out(read_volume(ct_manifest.parent / "images" / "train000.nii.gz"), layout.spacing_mm)
    seen: set[float] = set()
    for seed in range(8):
        images, _ = cache.serve(np.array([0]), np.random.default_rng(seed))
        side = images[0, 2].numpy() / 255 * 2 * SIDE_MM - SIDE_MM
        assert (side == side[:1, :1]).all()
        np.testing.assert_allclose(np.diff(side[0, 0]), 12, atol=1.7)  # steps of a byte
        seen.add(float(side[0, 0, 0]))
    assert len(seen) > 1, "the crop is cut at random places"
    first_mm = columns_mm(scan.grid, np.zeros(1))[0] - assumed_midline(scan)
    assert min(seen) > first_mm - 2
    assert cache.scans[0][0].right_mm == pytest.approx(first_mm)


def test_augment_volume__moves_the_midline_and_nothing_else_of_the_side(ct_manifest: Path) -> None:
    layout = LAYOUT | {"crop": (16, 24, 32), "side": True}
    data = PairDataset(ct_manifest, "train", DataConfig.model_validate({"volume": layout}))
    batch = batch_at(data, 4, seed=0, step=0)
    changed = augment_volume(batch, torch.Generator().manual_seed(3), 1.0, 2).images[:, 2]
    moved = (changed - batch.normalised().images[:, 2]).flatten(1)
    inside = ((changed > 0) & (changed < 1)).flatten(1)
    for shift, free in zip(moved, inside, strict=True):
        assert float(shift[free].max() - shift[free].min()) < 1e-6
    assert 0 < float(moved.abs().max()) <= 30 / (2 * SIDE_MM) + 1e-6
