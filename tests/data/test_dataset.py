import builtins
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glint.config.schema import DataConfig
from glint.data.dataset import PairBatch, PairDataset, _permutation, batch_at, batches, fixed_batches
from glint.errors import DataError

CFG = DataConfig(size_px=64, sentences_per_image=3)  # pyright: ignore[reportCallIssue]


def same(a: PairBatch, b: PairBatch) -> bool:
    return (
        torch.equal(a.images, b.images)
        and torch.equal(a.owner, b.owner)
        and a.sentences == b.sentences
        and a.flips == b.flips
        and a.states == b.states
    )


@pytest.fixture(scope="module")
def dataset(pairs_manifest: Path) -> PairDataset:
    return PairDataset(pairs_manifest, "train", CFG)


def test_batch_at__shapes_and_meaning(dataset: PairDataset):
    batch = batch_at(dataset, 8, seed=0, step=0)
    assert (batch.images.shape, batch.images.dtype) == ((8, 1, 64, 64), torch.uint8)
    assert (batch.valid_px.shape, batch.valid_px.dtype) == ((8, 64, 64), torch.bool)
    assert len(batch.sentences) == 24 == len(batch.flips) == len(batch.states) == len(batch.normal)
    assert batch.owner.tolist() == [i for i in range(8) for _ in range(3)]
    # 72 x 64 images in a square of 64: padding left and right, none above and below
    assert bool(batch.valid_px[:, :, 32].all())
    assert not bool(batch.valid_px[:, :, [0, 63]].any())
    assert int(batch.images[:, 0][~batch.valid_px].max()) == 0
    states = {
        text.startswith("No "): state for text, state in zip(batch.sentences, batch.states, strict=True)
    }
    assert states == {True: "absent", False: "present"}


def test_batch_at__sentences_belong_to_their_image(dataset: PairDataset):
    batch = batch_at(dataset, 8, seed=3, step=2)
    for text, owner in zip(batch.sentences, batch.owner.tolist(), strict=True):
        if "pneumothorax" in text:  # the square of this finding, see conftest
            square = batch.images[owner, 0, 21:27, 24:28].float().mean()
            assert (square > 160) == text.startswith("There is")


def test_batch_at__is_a_function_of_seed_and_step(dataset: PairDataset, pairs_manifest: Path):
    other = PairDataset(pairs_manifest, "train", CFG)
    batch_at(other, 8, seed=1, step=17)  # an unrelated call in between must not matter
    assert same(batch_at(dataset, 8, seed=1, step=7), batch_at(other, 8, seed=1, step=7))
    stream = batches(dataset, 8, seed=1, step=6)
    next(stream)
    assert same(next(stream), batch_at(other, 8, seed=1, step=7))
    assert not same(batch_at(dataset, 8, seed=2, step=7), batch_at(dataset, 8, seed=1, step=7))


@pytest.mark.parametrize("together", [1, 3, 4, 100])
def test_permutation__all_studies_once_and_those_of_a_patient_together(together: int) -> None:
    patients = tuple(i // 4 for i in range(26))  # six patients with four studies, one with two
    order = _permutation(patients, together, 5, 1)
    assert sorted(order.tolist()) == list(range(26))
    if together >= 4:
        owners = [patients[i] for i in order]
        assert sum(a != b for a, b in pairwise(owners)) == 6  # every patient is one run
    assert order.tolist() != _permutation(patients, together, 5, 2).tolist()


def test_batch_at__every_study_once_an_epoch(dataset: PairDataset):
    for epoch in (0, 3):
        pixels = torch.cat([batch_at(dataset, 8, seed=0, step=5 * epoch + i).images for i in range(5)])
        assert len(torch.unique(pixels.flatten(1), dim=0)) == 40


def test_batch_at__too_few_studies(dataset: PairDataset):
    with pytest.raises(DataError, match="40 usable studies, fewer than the batch size 41"):
        batch_at(dataset, 41, seed=0, step=0)


def test_fixed_batches__whole_split_the_same_twice(pairs_manifest: Path):
    val = PairDataset(pairs_manifest, "val", CFG)
    first, second = list(fixed_batches(val, 4)), list(fixed_batches(val, 4))
    assert [len(batch.images) for batch in first] == [4, 4, 2]
    assert all(same(a, b) for a, b in zip(first, second, strict=True))


def test_pair_dataset__limit_counts_training_studies_only(pairs_manifest: Path):
    cfg = CFG.model_copy(update={"limit": 5})
    assert len(PairDataset(pairs_manifest, "train", cfg)) == 5
    assert len(PairDataset(pairs_manifest, "val", cfg)) == 10


def test_pair_dataset__texts_hold_every_sentence_and_flip(dataset: PairDataset):
    batch = batch_at(dataset, 8, seed=0, step=0)
    texts = set(dataset.texts())
    assert texts >= set(batch.sentences)
    assert texts >= {flip for flip in batch.flips if flip}


def test_pair_dataset__unreadable_study_is_skipped_and_listed(own_manifest: Path):
    (own_manifest.parent / "images" / "train003.png").write_bytes(b"not an image")
    (own_manifest.parent / "reports" / "train005.txt").write_bytes(b"\xff\xfe\x00bad")
    with pytest.warns(UserWarning, match=r"2 of 24 studies .*train003.*train005.*training goes on"):
        data = PairDataset(own_manifest, "train", CFG)
    assert len(data) == 22
    assert set(data.skipped) == {"train003", "train005"}
    assert (data.cache.folder / "skipped.json").is_file()
    assert len(batch_at(data, 22, 0, 0).images) == 22


def test_pair_dataset__stops_when_a_tenth_is_unreadable(own_manifest: Path):
    for i in range(3):
        (own_manifest.parent / "images" / f"train{i:03d}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"3 of 24 studies of 'train' cannot be read"):
        PairDataset(own_manifest, "train", CFG)


def test_pair_dataset__reads_no_file_of_the_evaluation(own_manifest: Path, monkeypatch: pytest.MonkeyPatch):
    truth = own_manifest.parent / "truth.parquet"
    truth.write_text("poison")
    os.chmod(truth, 0)
    opened: list[str] = []
    real_open, real_path_open = builtins.open, Path.open

    def spy(file: Any, *args: Any, **kwargs: Any) -> Any:
        opened.append(str(file))
        return real_open(file, *args, **kwargs)

    def path_spy(self: Path, *args: Any, **kwargs: Any) -> Any:
        opened.append(str(self))
        return real_path_open(self, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", spy)
    monkeypatch.setattr(Path, "open", path_spy)
    batch_at(PairDataset(own_manifest, "train", CFG), 8, 0, 0)
    allowed = {"images", "reports", ".glint-cache"}
    inside = [Path(name).relative_to(own_manifest.parent).parts[0] for name in opened if "/own/" in name]
    assert inside
    assert set(inside) <= allowed | {"manifest.parquet"}


def test_cache__is_reused_and_rebuilt_when_an_image_changes(own_manifest: Path):
    first = PairDataset(own_manifest, "val", CFG)
    stamp = (first.cache.folder / "images.npy").stat().st_mtime_ns
    again = PairDataset(own_manifest, "val", CFG)
    assert (again.cache.folder / "images.npy").stat().st_mtime_ns == stamp
    image = own_manifest.parent / "images" / "val000.png"
    image.write_bytes((own_manifest.parent / "images" / "val001.png").read_bytes())
    changed = PairDataset(own_manifest, "val", CFG)
    assert changed.cache.folder != first.cache.folder
    assert not first.cache.folder.exists()
    assert np.array_equal(changed.cache.pixels[0], changed.cache.pixels[1])


def test_cache__same_pixels_from_several_threads(own_manifest: Path):
    serial = PairDataset(own_manifest, "train", CFG, workers=1)
    pixels = serial.cache.pixels.copy()
    for file in serial.cache.folder.iterdir():
        file.unlink()
    serial.cache.folder.rmdir()
    assert np.array_equal(PairDataset(own_manifest, "train", CFG, workers=2).cache.pixels, pixels)


def test_cache__interrupted_build_leaves_nothing(own_manifest: Path, monkeypatch: pytest.MonkeyPatch):
    import glint.data.cache as module

    def explode(path: Path, size_px: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "decode_image", explode)
    with pytest.raises(KeyboardInterrupt):
        PairDataset(own_manifest, "train", CFG, workers=1)
    assert list((own_manifest.parent / ".glint-cache").iterdir()) == []
