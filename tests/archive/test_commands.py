"""`glint segment dicomweb://...` and `glint watch` with the packaged model: no patient in words or requests."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests

from glint.cli.main import run

MODEL = ("-q", "There is a pleural effusion.", "--threshold", "0.01")


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[requests.PreparedRequest]:
    """All requests that are sent."""
    sent: list[requests.PreparedRequest] = []
    send = requests.Session.send

    def record(self: Any, request: requests.PreparedRequest, **words: Any) -> Any:
        sent.append(request)
        return send(self, request, **words)

    monkeypatch.setattr(requests.Session, "send", record)
    return sent


def check_requests(sent: Sequence[requests.PreparedRequest], marked: str) -> None:
    """Values of the patient stand in results that are stored, and there in elements of the allow-list only."""
    stored = [request for request in sent if request.method == "POST"]
    for request in sent:
        assert marked not in f"{request.url} {request.headers}"
        if request not in stored:
            assert not request.body
    for request in stored:
        body = request.body
        assert isinstance(body, bytes)
        assert f"{marked}1".encode() in body
        assert f"{marked}9".encode() not in body  # institution, operator, comments, descriptions


def test_watch__stores_results_and_says_nothing_of_patients(
    orthanc: Any, studies: list[pydicom.Dataset], requested: list[Any], tmp_path: Path, marked: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = [
        "watch",
        orthanc.address,
        *MODEL,
        "--out",
        str(tmp_path / "journal"),
        "--every",
        "0.01",
        "--polls",
        "2",
    ]
    capsys.readouterr()
    assert run(words, debug=False) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count(" results stored") == 3
    kinds = orthanc.results()
    assert set(kinds) == {study.StudyInstanceUID for study in studies}
    assert all({"SR", "OT", "CR"} <= set(found) for found in kinds.values())
    for text in (out, err, (tmp_path / "journal").read_text()):
        assert marked not in text
        assert not any(study.StudyInstanceUID in text for study in studies)
    check_requests(requested, marked)
    assert run([*words, "--threshold", "0.02"], debug=False) == 2  # the journal is of another task


def test_segment__of_a_study_writes_and_stores(
    orthanc: Any, studies: list[pydicom.Dataset], requested: list[Any], tmp_path: Path, marked: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    study = f"{orthanc.address}/studies/{studies[0].StudyInstanceUID}"
    capsys.readouterr()
    assert (
        run(
            ["segment", study, *MODEL, "--store", "--json", "--dicom-out", str(tmp_path / "out")], debug=False
        )
        == 0
    )
    out, err = capsys.readouterr()
    (answers,) = json.loads(out)
    assert answers["image"].startswith("study-")
    assert marked not in out + err
    files = {pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "out").iterdir()}
    assert f"stored {len(files)} results" in err
    found = {item.uid for item in orthanc.archive.instances(studies[0].StudyInstanceUID)}
    assert found == files | {studies[0].SOPInstanceUID}
    check_requests(requested, marked)
    words = ["segment", study, *MODEL, "--deidentify", "--dicom-out", str(tmp_path / "anonymous")]
    assert run(words, debug=False) == 0
    out, err = capsys.readouterr()
    assert marked not in out + err
    for path in (tmp_path / "anonymous").iterdir():
        assert marked.encode() not in path.read_bytes()


def test_bad_words__are_refused(orthanc: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = f"{orthanc.address}/studies/1.2.3"
    journal = ("--out", str(tmp_path / "j"))
    for words, status in (
        (["segment", study, *MODEL], 3),  # no such study: nothing in it
        (["segment", orthanc.address, *MODEL], 2),
        (["segment", study, *MODEL, "--store", "--deidentify"], 2),
        (["segment", study, *MODEL, "-o", "mask.png"], 2),
        (["segment", "dicomweb://127.0.0.1:9/x/studies/1.2", "-q", ""], 2),
        (["watch", study, *MODEL, *journal], 2),
        (["watch", orthanc.address, *MODEL, *journal, "--every", "0"], 2),
        (["watch", orthanc.address, *MODEL, *journal, "--since", "yesterday"], 2),
        (["watch", orthanc.address, "-q", "", *journal], 2),
    ):
        capsys.readouterr()
        done = run(words, debug=False)
        assert (done, capsys.readouterr().out) == (status, ""), words
    assert not (tmp_path / "j").exists()
