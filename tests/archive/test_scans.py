"""CT from an archive: fetched, asked about, and its masks back on the same voxels; each study once, or not at all."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid
from tests.archive.test_orthanc import DRIVER, ONCE, run, states
from tests.cli.conftest import save_ct_model

from glint.archive.studies import Question
from glint.cli.main import run as command

Make = Callable[..., Any]
SCAN = ["CT"] * 12


@pytest.fixture(scope="session")
def ct_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_ct_model(tmp_path_factory.mktemp("ct-model"))


def check_mask(orthanc: Any, slices: list[pydicom.Dataset], folder: Path) -> None:
    """Every frame of the segmentation is the bone of the slice that it names, and no bone is missing."""
    study, series = slices[0].StudyInstanceUID, slices[0].SeriesInstanceUID
    by_uid = {data.SOPInstanceUID: np.asarray(data.pixel_array) for data in slices}
    found: dict[str, Any] = {}
    for item in orthanc.archive.instances(study):
        if item.modality == "SEG":
            orthanc.archive.fetch(item, folder / "seg.dcm")
            seg = pydicom.dcmread(folder / "seg.dcm")
            if seg.ReferencedSeriesSequence[0].SeriesInstanceUID == series:
                for groups, frame in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
                    source = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
                    assert source not in found
                    found[source] = frame > 0
    dense = {uid: stored > 1324 for uid, stored in by_uid.items() if (stored > 1324).any()}
    assert len(dense) == 6
    assert set(found) == set(dense)
    for uid, mask in dense.items():
        np.testing.assert_array_equal(found[uid], mask)


def test_watch__scans_radiographs_and_what_is_neither(
    orthanc: Any, both: Question, make_ct: Make, make_radiograph: Make, tmp_path: Path, marked: str
) -> None:
    first, second, few, pictures = make_ct(1), make_ct(2), make_ct(3, 12), make_ct(4, 9)
    study = {"StudyInstanceUID": first[0].StudyInstanceUID}
    for data in few[:7]:
        data.StudyInstanceUID = study["StudyInstanceUID"]
    for data in pictures:
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        data.StudyInstanceUID = study["StudyInstanceUID"]
    for stored in ([*first, *few[:7], *pictures], [make_radiograph(**study)], second):
        orthanc.archive.store(stored)
    scouts = make_ct(5, 9, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    orthanc.archive.store(scouts)
    told = run(orthanc.archive, tmp_path / "journal", both)
    assert orthanc.results() == {
        first[0].StudyInstanceUID: sorted([*ONCE, "SEG", "SR", *["CT"] * (12 + 7 + 9)]),
        second[0].StudyInstanceUID: sorted([*SCAN, "SEG", "SR"]),
        scouts[0].StudyInstanceUID: ["CT"] * 9,
    }
    check_mask(orthanc, first, tmp_path)
    check_mask(orthanc, second, tmp_path)
    assert sorted(line.split(": ", 1)[1][:60] for line in told) == [
        "2 results stored",
        "6 results stored, left out: a CT series has fewer than 8 sli",
        "GL300: the study holds nothing to ask about: a CT series has",
    ]
    assert marked not in "".join(told) + (tmp_path / "journal").read_text()


def test_watch__a_kind_without_a_model_is_noted_and_left(
    orthanc: Any, question: Question, make_ct: Make, make_radiograph: Make, tmp_path: Path
) -> None:
    scan, plain = make_ct(), make_radiograph()
    with_both = make_radiograph(StudyInstanceUID=generate_uid())
    more = make_ct(StudyInstanceUID=with_both.StudyInstanceUID)
    for stored in (scan, [plain], [with_both], more):
        orthanc.archive.store(stored)
    run(orthanc.archive, tmp_path / "journal", question)
    assert orthanc.results() == {
        scan[0].StudyInstanceUID: SCAN,
        plain.StudyInstanceUID: ONCE,
        with_both.StudyInstanceUID: sorted([*SCAN, *ONCE]),
    }
    ends = [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()[1:]]
    failed = [line["why"] for line in ends if line["state"] == "failed"]
    assert failed == ["the study holds nothing to ask about: CT: there is no model for it"]
    left = [line["left"] for line in ends if "left" in line]
    assert left == [["CT: there is no model for it"]]


def test_watch__a_scan_with_a_gap_takes_the_radiograph_of_its_study_along(
    orthanc: Any, both: Question, make_ct: Make, make_radiograph: Make, tmp_path: Path
) -> None:
    """All or none: what is stored of a study would look like all there is."""
    plain = make_radiograph()
    slices = make_ct(StudyInstanceUID=plain.StudyInstanceUID)
    gap = [data for data in slices if data.ImagePositionPatient[2] != -40]
    orthanc.archive.store([plain, *gap])
    (line,) = run(orthanc.archive, tmp_path / "journal", both)
    assert "1 slices of the series are missing" in line
    assert orthanc.results() == {plain.StudyInstanceUID: ["CR", *["CT"] * 11]}


@pytest.mark.parametrize(
    "moment", ["after fetch", pytest.param("after store", marks=pytest.mark.slow)]
)  # fmt: skip
def test_kill__in_a_scan_every_study_is_done_once(
    orthanc: Any, make_ct: Make, make_radiograph: Make, tmp_path: Path, moment: str
) -> None:
    """kill -9 of the watch half-way through the slices of a study that has a radiograph, too; then it goes on."""
    first, second = make_ct(1), make_ct(2)
    plain = make_radiograph(StudyInstanceUID=first[0].StudyInstanceUID)
    for stored in ([*first, plain], second):
        orthanc.archive.store(stored)
    words = [sys.executable, str(DRIVER), orthanc.address, str(tmp_path / "journal")]
    killed = subprocess.run([*words, moment], capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    assert states(tmp_path / "journal")[-1] == "begin"
    done = subprocess.run([*words, "never"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert orthanc.results() == {
        first[0].StudyInstanceUID: sorted([*SCAN, *ONCE, "SEG", "SR"]),
        second[0].StudyInstanceUID: sorted([*SCAN, "SEG", "SR"]),
    }
    assert states(tmp_path / "journal").count("done") == 2


def test_commands__with_a_model_of_ct(
    orthanc: Any, make_ct: Make, ct_model: Path, tmp_path: Path, marked: str, capsys: Any
) -> None:
    slices = make_ct()
    orthanc.archive.store(slices)
    study = f"{orthanc.address}/studies/{slices[0].StudyInstanceUID}"
    ask = ("-q", "There is a nodule.", "--threshold", "0.4", "--min-ml", "1", "-m", str(ct_model))
    capsys.readouterr()
    out = ("--store", "--json", "--dicom-out", str(tmp_path / "out"))
    assert command(["segment", f"{study}/series/{slices[0].SeriesInstanceUID}", *ask, *out]) == 0
    told = capsys.readouterr()
    (answers,) = json.loads(told.out)
    assert answers["image_size_vox"] == [24, 20, 12]
    assert answers["min_ml"] == 1
    assert marked not in told.out + told.err
    assert orthanc.results() == {slices[0].StudyInstanceUID: sorted([*SCAN, "SEG", "SR"])}
    seg = next(d for d in map(pydicom.dcmread, (tmp_path / "out").iterdir()) if d.Modality == "SEG")
    volume_ml = np.count_nonzero(seg.pixel_array) * 0.96
    assert volume_ml == pytest.approx(answers["results"][0]["volume_ml"], abs=1e-2)
    watch = ("watch", orthanc.address, "-q", "There is a mass.", "--every", "0.01", "--polls", "2")
    journal = ("--out", str(tmp_path / "journal"))
    assert command([*watch, *journal, "--ct-model", str(ct_model)]) == 0
    assert " results stored" in capsys.readouterr().err
    kinds = orthanc.results()[slices[0].StudyInstanceUID]
    assert kinds.count("SR") == 2
    for words, part in (
        ([*watch, "--out", str(tmp_path / "j"), "-m", str(ct_model)], "--ct-model"),
        (["segment", study, *ask, "--series", "1"], "address"),
        (["segment", study, *ask, "--fill-gaps"], "slices that are missing"),
        (["segment", study, "-q", "a", "-m", "glint-cxr-phantom", "--refine", "guided"], "options of CT"),
    ):
        assert command(words) == 2, words
        assert part in capsys.readouterr().err
