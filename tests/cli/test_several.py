"""Folders and archives in `glint classify | ground | segment`: what is in them decides, and `--series` chooses."""

import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid
from tests.io.conftest import build

Command = Callable[..., Any]
ASK = ("-q", "There is a nodule.")


def radiograph(path: Path, **tags: Any) -> Path:
    """Write a CR image of a study."""
    rows, columns = np.mgrid[:90, :80]
    stored = (1800 + 1200 * np.sin(rows / 17) * np.cos(columns / 13)).astype(np.uint16)
    uids = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    path.parent.mkdir(exist_ok=True)
    build(stored, **uids, **tags).save_as(path, enforce_file_format=True)
    return path


def packed(folder: Path) -> list[Path]:
    """Return a ZIP archive of a folder, and a gzipped tar in a ZIP archive."""
    paths = [folder.with_suffix(".zip"), folder.with_suffix(".nested")]
    with zipfile.ZipFile(paths[0], "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"DOE^JOHN/{path.name}")
    with tarfile.open(folder.with_suffix(".tgz"), "w:gz") as archive:
        archive.add(folder, "DOE^JOHN")
    with zipfile.ZipFile(paths[1], "w") as archive:
        archive.write(folder.with_suffix(".tgz"), "DOE^JOHN.tgz")
    return paths


def test_radiograph__in_a_folder_or_archive_is_answered_as_the_file(
    glint: Command, model_folder: Path, tmp_path: Path
) -> None:
    file = radiograph(tmp_path / "study" / "DOE^JOHN.dcm")
    (file.parent / "notes.txt").write_text("text")
    words = ("-m", model_folder, "--json", "--threshold", "0.0001", "--dicom-out")
    alone = json.loads(glint("segment", file, *ASK, *words, tmp_path / "out").out)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert len(names) == 4
    for n, path in enumerate([file.parent, *packed(file.parent)]):
        done = glint("segment", path, *ASK, *words, tmp_path / f"out{n}")
        assert done.status == 0, done.err
        assert json.loads(done.out) == alone | {"image": str(path), "notes": ["1 files are no images"]}
        assert {path.name for path in (tmp_path / f"out{n}").iterdir()} == names  # the same UIDs
        assert "DOE" not in done.out + done.err


def test_several__radiographs_are_listed_and_chosen(
    glint: Command, model_folder: Path, tmp_path: Path
) -> None:
    for n in range(2):
        radiograph(tmp_path / "study" / f"{n}.dcm", PixelSpacing=[0.1 + n, 0.1])
    done = glint("classify", tmp_path / "study", *ASK, "-m", model_folder)
    assert (done.status, done.out) == (3, "")
    assert "2 radiographs" in done.err
    assert "--series 1" in done.err
    spacings = [
        json.loads(
            glint("ground", tmp_path / "study", *ASK, "-m", model_folder, "--series", n, "--json").out
        )["pixel_spacing_mm"]
        for n in (1, 2)
    ]
    assert sorted(spacing[1] for spacing in spacings) == [0.1, 1.1]
    done = glint("classify", tmp_path / "study", *ASK, "-m", model_folder, "--series", 3)
    assert (done.status, done.out) == (3, "")
    assert "no such series" in done.err


def test_mixed__is_told_and_a_model_or_a_number_chooses(
    glint: Command, model_folder: Path, ct_folder: Path, ct: Path, image: Path, tmp_path: Path
) -> None:
    (tmp_path / "study").mkdir()
    for path in (ct, image):
        path.rename(tmp_path / "study" / path.name)
    done = glint("classify", tmp_path / "study", *ASK)
    assert (done.status, done.out) == (3, "")
    for part in ("there are radiographs and CT", "NIfTI", "PNG", "--series"):
        assert part in done.err
    for model, key in ((model_folder, "image_size_px"), (ct_folder, "image_size_vox")):
        done = glint("classify", tmp_path / "study", *ASK, "-m", model, "--json")
        assert done.status == 0, done.err
        assert key in json.loads(done.out)
    done = glint("segment", tmp_path / "study", *ASK, "-m", model_folder, "--dicom-out", tmp_path / "out")
    assert done.status == 2
    assert "DICOM images only" in done.err


def test_captures__that_come_along_are_passed_over(
    glint: Command, model_folder: Path, tmp_path: Path
) -> None:
    radiograph(tmp_path / "study" / "a.dcm")
    sheet = radiograph(tmp_path / "study" / "b.dcm", Modality="OT")
    data = pydicom.dcmread(sheet)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    data.save_as(sheet)
    for n, words in enumerate(((), ("--series", "2"))):
        done = glint("classify", tmp_path / "study", *ASK, "-m", model_folder, *words, "--json")
        assert done.status == 0, done.err
        notes = json.loads(done.out)["notes"]
        assert any("secondary capture" in note for note in notes) is (n == 1)


@pytest.mark.parametrize("name", ["chest.png", "missing.png"])
def test_series__of_a_single_picture_is_refused(
    glint: Command, image: Path, model_folder: Path, name: str
) -> None:
    done = glint("classify", image.parent / name, *ASK, "-m", model_folder, "--series", "1")
    assert (done.status, done.out) == (2, "")
    assert "folders and archives" in done.err
