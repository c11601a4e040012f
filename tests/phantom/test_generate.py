"""A small data set on disk: the same for any number of workers, whole or without a manifest, valid files."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
from PIL import Image

from glint.errors import DataError, UsageError
from glint.phantom import generate as module
from glint.phantom.dataset import patients
from glint.phantom.generate import generate
from glint.phantom.schema import HELD_OUT_COMBINATIONS

SIZE_PX = 96


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "set"
    generate(out, train=5, val=1, test=4, seed=3, workers=1, size_px=SIZE_PX)
    return out


def test_generate__same_files_for_two_workers(made: Path, tmp_path: Path) -> None:
    generate(tmp_path / "set", train=5, val=1, test=4, seed=3, workers=2, size_px=SIZE_PX)
    assert _hashes(tmp_path / "set") == _hashes(made)


def test_generate__splits_sizes_and_patients(made: Path) -> None:
    rows = pq.read_table(made / "manifest.parquet").to_pylist()
    splits = [row["split"] for row in rows]
    assert {s: splits.count(s) for s in set(splits)} == {"train": 5, "val": 1, "test": 4, "test_combo": 1}
    assert len({row["study_id"] for row in rows}) == len(rows)
    owners: dict[str, set[str]] = {}
    for row in rows:
        owners.setdefault(row["patient_id"], set()).add(row["split"])
        assert (made / row["report"]).read_text().startswith("FINDINGS: ")
    assert all(len(s) == 1 for s in owners.values())
    assert len(owners) == 4


def test_generate__training_studies_share_set_ups_of_four(made: Path) -> None:
    rows = pq.read_table(made / "manifest.parquet").to_pylist()
    headers = {r["study_id"]: pydicom.dcmread(made / r["image"], stop_before_pixels=True) for r in rows}
    scale = [headers[f"train-{i:06d}"].PixelSpacing[0] for i in range(5)]
    assert len(set(scale[:4])) == 1
    assert scale[4] != scale[0]
    assert len({headers[f"test-{i:06d}"].PixelSpacing[0] for i in range(4)}) == 4


def test_generate__new_combinations_only_in_their_split(made: Path) -> None:
    split = {r["study_id"]: r["split"] for r in pq.read_table(made / "manifest.parquet").to_pylist()}
    for row in pq.read_table(made / "truth.parquet").to_pylist():
        held_out = (row["kind"], row["location"] or row["side"]) in HELD_OUT_COMBINATIONS
        assert not held_out or split[row["study_id"]] == "test_combo"


def test_generate__masks_for_evaluation_only(made: Path) -> None:
    split = {r["study_id"]: r["split"] for r in pq.read_table(made / "manifest.parquet").to_pylist()}
    rows = pq.read_table(made / "truth.parquet").to_pylist()
    assert rows
    for row in rows:
        assert bool(row["mask"]) == (split[row["study_id"]] != "train")
    structures = pq.read_table(made / "anatomy.parquet").to_pylist()
    assert {split[row["study_id"]] for row in structures} == {"test"}
    for row in [r for r in rows if r["mask"]] + structures:
        mask = np.asarray(Image.open(made / row["mask"]))
        assert mask.shape == (SIZE_PX, SIZE_PX)
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 255}


def test_generate__lungs_are_on_their_sides(made: Path) -> None:
    for row in pq.read_table(made / "anatomy.parquet").to_pylist():
        if row["structure"].endswith(" lung"):
            columns = np.nonzero(np.asarray(Image.open(made / row["mask"])))[1]
            assert (columns.mean() > SIZE_PX / 2) == (row["structure"] == "left lung")


def test_generate__dicom_is_a_radiograph(made: Path) -> None:
    for row in pq.read_table(made / "manifest.parquet").to_pylist():
        image = pydicom.dcmread(made / row["image"])
        assert image.SOPClassUID == "1.2.840.10008.5.1.4.1.1.1"
        assert (image.Modality, image.BodyPartExamined, image.BitsStored) == ("CR", "CHEST", 12)
        assert image.ViewPosition == row["view"]
        assert image.PatientID == row["patient_id"]
        assert "ynthetic" in image.ImageComments
        assert float(image.PixelSpacing[0]) > 0
        pixels = image.pixel_array
        assert pixels.shape == (SIZE_PX, SIZE_PX)
        assert pixels.max() < 4096
        assert pixels.std() > 100


def test_generate__inverted_files_show_the_same_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = []
    for name, share in (("plain", 0.0), ("inverted", 1.0)):
        monkeypatch.setattr(module, "INVERTED_SHARE", share)
        generate(tmp_path / name, train=1, val=0, test=0, seed=1, size_px=SIZE_PX)
        pictures.append(pydicom.dcmread(tmp_path / name / "images" / "train-000000.dcm"))
    plain, inverted = pictures
    assert (plain.PhotometricInterpretation, inverted.PhotometricInterpretation) == (
        "MONOCHROME2",
        "MONOCHROME1",
    )
    assert np.array_equal(plain.pixel_array, 4095 - inverted.pixel_array)


def test_generate__other_seed_other_files(made: Path, tmp_path: Path) -> None:
    generate(tmp_path / "set", train=1, val=0, test=0, seed=4, size_px=SIZE_PX)
    name = "images/train-000000.dcm"
    assert (tmp_path / "set" / name).read_bytes() != (made / name).read_bytes()
    described = [json.loads((d / "dataset.json").read_text()) for d in (made, tmp_path / "set")]
    assert described[0]["sha256"] != described[1]["sha256"]


def test_generate__refuses_a_folder_with_files(made: Path, tmp_path: Path) -> None:
    before = _hashes(made)
    with pytest.raises(DataError, match="not empty"):
        generate(made, train=1, val=0, test=0, size_px=SIZE_PX)
    assert _hashes(made) == before
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="not a phantom data set"):
        generate(tmp_path, train=1, val=0, test=0, size_px=SIZE_PX, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_generate__interrupted_run_has_no_manifest_and_can_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "set"
    with pytest.raises(KeyboardInterrupt):
        generate(out, train=2, val=0, test=0, size_px=SIZE_PX, progress=stop)
    assert not (out / "manifest.parquet").exists()
    assert not list(out.rglob("*.part*"))
    generate(out, train=1, val=0, test=0, size_px=SIZE_PX, overwrite=True)
    assert [p.name for p in (out / "images").iterdir()] == ["train-000000.dcm"]


@pytest.mark.parametrize(
    "sizes",
    [{"train": 0, "val": 0, "test": 0}, {"train": -1, "val": 1, "test": 1}, {"workers": 0}, {"size_px": 8}],
)
def test_generate__refuses_nonsense(tmp_path: Path, sizes: dict[str, int]) -> None:
    arguments = {"train": 1, "val": 1, "test": 1, **sizes}
    with pytest.raises(UsageError):
        generate(tmp_path / "set", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "set").exists()


def test_generate__overwrites_what_a_killed_run_left(tmp_path: Path) -> None:
    out = tmp_path / "set"
    out.mkdir()
    (out / ".truth.0123abcd.part.parquet").write_text("torn")
    generate(out, train=1, val=0, test=0, size_px=SIZE_PX, overwrite=True)
    assert not list(out.glob(".*"))
    (out / "holiday.jpg").write_text("mine")
    with pytest.raises(DataError, match="not a phantom data set"):
        generate(out, train=1, val=0, test=0, size_px=SIZE_PX, overwrite=True)


def test_patients__cover_every_study_once() -> None:
    sizes = {"train": 9, "val": 1, "test": 0, "test_combo": 4}
    work = list(patients(sizes))
    for split, count in sizes.items():
        assert [i for p in work if p.split == split for i in p.studies] == list(range(count))
    assert max(len(p.studies) for p in work if p.split == "train") == 8
    assert max(len(p.studies) for p in work if p.split != "train") == 4
