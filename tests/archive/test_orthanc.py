"""Round trips with a real Orthanc: studies in, results found by QIDO, each study done once whatever is killed."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from glint.archive.client import Archive
from glint.archive.journal import Journal
from glint.archive.studies import Question
from glint.archive.watch import watch

DRIVER = Path(__file__).with_name("watch_driver.py")
ONCE = ["CR", "OT", "PR", "SEG", "SR"]
TASK: dict[str, Any] = {"queries": ["There is a mass."]}


def run(archive: Archive, journal: Path, question: Question, polls: int = 2) -> list[str]:
    """Watch for some polls; return what was told."""
    told: list[str] = []
    opened = Journal(journal, TASK)
    try:
        watch(archive, opened, question, every_s=0.01, polls=polls, tell=told.append)
    finally:
        opened.close()
    return told


def states(journal: Path) -> list[str]:
    return [line["state"] for line in map(json.loads, journal.read_text().splitlines()[1:])]


def test_watch__results_are_found_by_qido_and_lie_on_the_image(
    orthanc: Any, studies: list[pydicom.Dataset], question: Question, tmp_path: Path
) -> None:
    told = run(orthanc.archive, tmp_path / "journal", question)
    assert len([line for line in told if "4 results stored" in line]) == 3
    assert orthanc.results() == {study.StudyInstanceUID: ONCE for study in studies}
    found = {item.modality: item for item in orthanc.archive.instances(studies[0].StudyInstanceUID)}
    orthanc.archive.fetch(found["SEG"], tmp_path / "seg.dcm")
    orthanc.archive.fetch(found["SR"], tmp_path / "sr.dcm")
    seg, sr = pydicom.dcmread(tmp_path / "seg.dcm"), pydicom.dcmread(tmp_path / "sr.dcm")
    reference = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert reference.ReferencedSOPInstanceUID == studies[0].SOPInstanceUID
    assert seg.PatientID == sr.PatientID == studies[0].PatientID
    expected = question.ask(write(studies[0], tmp_path))[0].mask
    assert expected is not None
    assert (np.asarray(seg.pixel_array).astype(bool) == expected).all()
    assert run(orthanc.archive, tmp_path / "journal", question, polls=3) == []
    assert states(tmp_path / "journal") == ["begin", "done"] * 3


def write(data: pydicom.Dataset, folder: Path) -> Path:
    data.save_as(folder / "source.dcm")
    return folder / "source.dcm"


def test_watch__again_with_an_empty_journal_stores_nothing_twice(
    orthanc: Any, studies: list[pydicom.Dataset], question: Question, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        told = run(orthanc.archive, tmp_path / name, question)
        assert len(told) == 3
    assert orthanc.results() == {study.StudyInstanceUID: ONCE for study in studies}


def test_watch__bad_studies_are_noted_and_block_nothing(
    orthanc: Any, studies: list[pydicom.Dataset], question: Question, tmp_path: Path, marked: str,
    make_radiograph: Callable[..., Any],
) -> None:  # fmt: skip
    bad = {
        "constant": make_radiograph(PixelData=bytes(90 * 80 * 2)),
        "cut": make_radiograph(PixelData=bytes(100)),
        "colour": make_radiograph(PhotometricInterpretation="PALETTE COLOR"),
        "bug": make_radiograph(seed=5),
    }
    for data in bad.values():
        orthanc.archive.store([data])

    def ask(path: Path) -> Any:
        if pydicom.dcmread(path).SOPInstanceUID == bad["bug"].SOPInstanceUID:
            raise ZeroDivisionError(marked)
        return question.ask(path)

    told = run(orthanc.archive, tmp_path / "journal", replace(question, ask=ask), polls=4)
    expected = {study.StudyInstanceUID: ONCE for study in studies}
    assert orthanc.results() == expected | {data.StudyInstanceUID: ["CR"] for data in bad.values()}
    assert sorted(states(tmp_path / "journal")) == ["begin"] * 7 + ["done"] * 3 + ["failed"] * 4
    assert sum("GL300" in line for line in told) == 3
    assert sum("GL900: ZeroDivisionError" in line for line in told) == 1
    assert marked not in "".join(told) + (tmp_path / "journal").read_text()


def test_watch__a_study_that_still_grows_is_left_for_later(
    orthanc: Any, studies: list[pydicom.Dataset], question: Question, tmp_path: Path,
    make_radiograph: Callable[..., Any],
) -> None:  # fmt: skip
    assert run(orthanc.archive, tmp_path / "journal", question, polls=1) == []
    growing = iter(range(2))
    archive = orthanc.archive
    listed = archive.studies

    def grow(**words: Any) -> Any:
        if next(growing, None) is not None:
            archive.store([make_radiograph(StudyInstanceUID=studies[0].StudyInstanceUID)])
        return listed(**words)

    archive.studies = grow
    told = run(archive, tmp_path / "journal", question, polls=4)
    assert len(told) == 3
    assert sorted(line.split(": ")[1] for line in told) == [
        "12 results stored",
        "4 results stored",
        "4 results stored",
    ]


@pytest.mark.parametrize(
    "moment",
    [
        "after store",
        pytest.param("before store", marks=pytest.mark.slow),
        pytest.param("after fetch", marks=pytest.mark.slow),
    ],
)
def test_kill__every_study_is_done_once(
    orthanc: Any, studies: list[pydicom.Dataset], tmp_path: Path, moment: str
) -> None:
    """kill -9 of the watch in the second study; then of the server, too; then both go on."""
    words = [sys.executable, str(DRIVER), orthanc.address, str(tmp_path / "journal")]
    killed = subprocess.run([*words, moment], capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    assert states(tmp_path / "journal") == ["begin", "done", "begin"]
    orthanc.kill()
    with (tmp_path / "journal").open("ab") as journal:
        journal.write(b'{"time": "2026-')  # cut off while it was written
    orthanc.start()
    done = subprocess.run([*words, "never"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert orthanc.results() == {study.StudyInstanceUID: ONCE for study in studies}
    assert states(tmp_path / "journal").count("done") == 3


def test_restart__of_the_server_while_the_watch_runs(
    orthanc: Any,
    studies: list[pydicom.Dataset],
    question: Question,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("glint.archive.client.FIRST_WAIT_S", 0.01)
    asked: list[Path] = []

    def ask(path: Path) -> Any:
        asked.append(path)
        if len(asked) == 2:
            orthanc.kill()  # the results of this study meet a closed door
        return question.ask(path)

    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if "tried again later" in line and orthanc.process is None:
            orthanc.start()

    journal = Journal(tmp_path / "journal", TASK)
    watch(orthanc.archive, journal, replace(question, ask=ask), every_s=0.01, polls=4, tell=tell)
    journal.close()
    assert orthanc.results() == {study.StudyInstanceUID: ONCE for study in studies}
    assert sum("tried again later" in line for line in told) >= 1
    assert states(tmp_path / "journal").count("done") == 3


def killed_half_way(words: list[str], journal: Path, rng: random.Random) -> bool:
    """Start a watch and kill it a random time after it has begun a study; say whether there was one to kill."""
    before = journal.stat().st_size if journal.exists() else 0
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        if journal.exists() and journal.stat().st_size > max(before, 200):
            time.sleep(rng.uniform(0, 0.8))
            process.kill()
            process.wait()
            return True
        time.sleep(0.01)
    return False


@pytest.mark.slow
def test_kill__at_20_random_moments(
    orthanc: Any, make_radiograph: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """30 studies; the watch is killed after a random time, the server at every fifth kill, too."""
    stored = [make_radiograph(seed) for seed in range(30)]
    for data in stored:
        orthanc.archive.store([data])
    words = [sys.executable, str(DRIVER), orthanc.address, str(tmp_path / "journal"), "never"]
    rng, kills = random.Random(0), 0
    while kills < 20 and killed_half_way(words, tmp_path / "journal", rng):
        kills += 1
        if kills % 5 == 0:
            orthanc.kill()
            orthanc.start()
    assert subprocess.run(words, check=False).returncode == 0
    assert orthanc.results() == {data.StudyInstanceUID: ONCE for data in stored}
    noted = states(tmp_path / "journal")
    with capsys.disabled():
        print(f"\n{kills} kills, 30 studies, begun {noted.count('begin')} times, results once each")
    assert noted.count("done") == 30
    assert "failed" not in noted
    assert kills >= 10
    assert noted.count("begin") > 30  # some were killed half-way
