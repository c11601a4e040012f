"""A small CT data set on disk: repeatable, in the right place in the patient, and its truth is what was scanned."""

import hashlib
from pathlib import Path

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pytest

from glint.cli.main import run
from glint.errors import UsageError
from glint.io.volume import read_volume
from glint.phantom.ct.generate import generate_ct
from glint.phantom.ct.schema import HELD_OUT
from glint.phantom.wording import load_wording

SPACING_MM = 8.0


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom-ct") / "set"
    generate_ct(out, train=2, val=1, test=4, seed=7, spacing_mm=SPACING_MM)
    return out


def _centre_ras(path: Path) -> np.ndarray:
    """Return the centroid of a mask in RAS mm, by nibabel alone."""
    image = nibabel.load(path)
    voxels = np.argwhere(image.get_fdata() > 0)
    return nibabel.affines.apply_affine(image.affine, voxels.mean(axis=0))


def test_generate_ct__same_files_for_two_workers(made: Path, tmp_path: Path) -> None:
    generate_ct(tmp_path / "set", train=1, val=1, test=1, seed=7, spacing_mm=SPACING_MM, workers=2)
    # A smaller set holds the same first studies: nothing depends on how many there are or who made them.
    files, wanted = _hashes(tmp_path / "set"), _hashes(made)
    assert sum(name.startswith("images/") for name in files) == 4
    for name, value in files.items():
        assert name.endswith((".parquet", ".json")) or wanted[name] == value, name
    for table in ("manifest", "truth", "anatomy"):
        rows, others = (pq.read_table(d / f"{table}.parquet").to_pylist() for d in (tmp_path / "set", made))
        assert rows == [row for row in others if row["study_id"] in {r["study_id"] for r in rows}]


def test_generate_ct__close_ups_stand_for_training_scans_only(made: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    options = {"seed": 7, "spacing_mm": SPACING_MM, "close_ups": 3}
    generate_ct(tmp_path / "set", train=2, val=1, test=0, progress=lambda *at: seen.append(at), **options)
    rows = pq.read_table(tmp_path / "set" / "manifest.parquet").to_pylist()
    names = [row["study_id"] for row in rows]
    assert names == [f"train-00000{i}-0{k}" for i in range(2) for k in range(3)] + ["val-000000"]
    assert seen[-1] == (3, 3)
    assert {row["patient_id"] for row in rows[:6]} == {"train-p00000"}
    files, wanted = _hashes(tmp_path / "set"), _hashes(made)
    assert files["images/val-000000.nii.gz"] == wanted["images/val-000000.nii.gz"]


def test_generate_ct__splits_and_masks(made: Path) -> None:
    rows = pq.read_table(made / "manifest.parquet").to_pylist()
    split = {row["study_id"]: row["split"] for row in rows}
    counts = {s: list(split.values()).count(s) for s in set(split.values())}
    assert counts == {"train": 2, "val": 1, "test": 4, "test_combo": 1}
    owners = {(row["patient_id"], row["split"]) for row in rows}
    assert len({patient for patient, _ in owners}) == len(owners)
    for row in pq.read_table(made / "truth.parquet").to_pylist():
        assert bool(row["mask"]) == (split[row["study_id"]] != "train")
        held_out = (row["kind"], row["location"] or row["side"]) in HELD_OUT
        assert not held_out or split[row["study_id"]] == "test_combo"
    assert {split[r["study_id"]] for r in pq.read_table(made / "anatomy.parquet").to_pylist()} == {"test"}


def test_generate_ct__scans_are_readable_ct_and_masks_share_their_grid(made: Path) -> None:
    images = {}
    for row in pq.read_table(made / "manifest.parquet").to_pylist():
        stored = nibabel.load(made / row["image"])
        assert stored.get_data_dtype() == np.int16
        volume = read_volume(made / row["image"])
        assert volume.grid.orientation == "SPL"
        assert volume.grid.tilt_deg == 0
        assert np.array_equal(volume.hu, np.asarray(stored.dataobj).transpose(2, 1, 0))
        assert 0.05 < (np.abs(volume.hu - 20) < 120).mean() < 0.7, "soft tissue"
        assert all(0.7 * SPACING_MM < s < 1.3 * SPACING_MM for s in volume.spacing_mm)
        images[row["study_id"]] = stored
    masks = [r for t in ("truth", "anatomy") for r in pq.read_table(made / f"{t}.parquet").to_pylist()]
    for row in [r for r in masks if r["mask"]]:
        mask, image = nibabel.load(made / row["mask"]), images[row["study_id"]]
        assert mask.get_data_dtype() == np.uint8
        assert mask.shape == image.shape
        assert np.array_equal(mask.affine, image.affine)
        assert set(np.unique(mask.dataobj)) == {0, 1}


def test_generate_ct__organs_lie_where_they_are_in_the_patient(made: Path) -> None:
    places: dict[str, dict[str, np.ndarray]] = {}
    for row in pq.read_table(made / "anatomy.parquet").to_pylist():
        places.setdefault(row["study_id"], {})[row["structure"]] = _centre_ras(made / row["mask"])
    checked = 0
    for at in places.values():
        for name, other, axis, sign in (
            ("left lung", "right lung", 0, -1),
            ("liver", "spine", 0, 1),
            ("liver", "heart", 2, -1),
            ("heart", "spine", 0, -1),
            ("spine", "heart", 1, -1),
            ("trachea", "heart", 2, 1),
            ("left upper lobe", "left lower lobe", 2, 1),
            ("sternum", "spine", 1, 1),
        ):
            if name in at and other in at:
                checked += 1
                assert sign * (at[name] - at[other])[axis] > 0, (name, other)
    assert checked > 10


def test_generate_ct__reports_are_true_of_the_anatomy_that_was_scanned(made: Path) -> None:
    names, seen = load_wording("ct_new")["anatomy"], {}
    for row in pq.read_table(made / "anatomy.parquet").to_pylist():
        seen.setdefault(row["study_id"], set()).add(row["structure"])
    told = 0
    for study, structures in seen.items():
        text = (made / "reports" / f"{study}.txt").read_text()
        for structure, words in names.items():
            for word in words:
                if any(f"{start} the {word}." in text for start in ("see", "depicts", "covers")):
                    missing = f"not see the {word}." in text
                    assert missing != (structure in structures), (study, word)
                    told += 1
                if f"not depict the {word}." in text:
                    assert structure not in structures, (study, word)
    assert told > 2


def test_phantom_ct__command_writes_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    sizes = ["--train", "1", "--val", "0", "--test", "0"]
    assert run(["phantom-ct", "--out", str(out), *sizes, "--spacing", "10"]) == 0
    assert capsys.readouterr().out.strip() == str(out / "manifest.parquet")
    with pytest.raises(UsageError, match="spacing"):
        generate_ct(tmp_path / "other", train=1, val=0, test=0, spacing_mm=0.1)
    with pytest.raises(UsageError, match="close-ups"):
        generate_ct(tmp_path / "other", train=1, val=0, test=0, close_ups=1000)
    with pytest.raises(UsageError, match="sides of close-ups"):
        generate_ct(tmp_path / "other", train=1, val=0, test=0, close_ups=1, close_up_mm=(120.0, 45.0))
    assert not (tmp_path / "other").exists()
