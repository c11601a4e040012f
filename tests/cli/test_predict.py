"""`glint classify | ground | segment`: output as documented, and one clear message for each bad input."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

VERBS = ("classify", "ground", "segment")
Command = Callable[..., Any]


@pytest.mark.parametrize("verb", VERBS)
def test_json__is_one_object_on_stdout(glint: Command, image: Path, model_folder: Path, verb: str) -> None:
    done = glint(
        verb, image, "-q", "There is a nodule.", "-q", "No effusion.", "--model", model_folder, "--json"
    )
    assert done.status == 0
    assert done.err == ""
    document = json.loads(done.out)
    assert document["image"] == str(image)
    assert document["model"] == str(model_folder)
    place = {"point_px", "box_xyxy_px", "mask_area_px"}
    for result, query in zip(document["results"], ["There is a nodule.", "No effusion."], strict=True):
        assert result["query"] == query
        assert 0 <= result["score"] <= 1
        assert set(result) == {"query", "score"} | (place if verb != "classify" else set())
        if verb != "classify":
            x, y = result["point_px"]
            assert 0 <= x < 80
            assert 0 <= y < 90


@pytest.mark.parametrize("verb", VERBS)
def test_table__shows_every_query(glint: Command, image: Path, model_folder: Path, verb: str) -> None:
    done = glint(verb, image, "-q", "[bold]nodule[/bold]", "-q", "effusion", "-m", model_folder)
    assert done.status == 0
    assert "[bold]nodule" in done.out
    assert "effusion" in done.out
    assert ("mask" in done.out) is (verb != "classify")


def test_segment__writes_overlay_and_mask(
    glint: Command, image: Path, model_folder: Path, tmp_path: Path
) -> None:
    words = ("-m", model_folder, "--json", "--threshold", "0.0001")
    done = glint("segment", image, "-q", "a", *words, "--png", tmp_path / "o.png", "-o", tmp_path / "m.png")
    assert done.status == 0, done.err
    mask = np.asarray(Image.open(tmp_path / "m.png"))
    assert mask.shape == (90, 80)
    assert set(np.unique(mask)) <= {0, 255}
    assert (mask > 0).sum() == json.loads(done.out)["results"][0]["mask_area_px"]
    assert Image.open(tmp_path / "o.png").height >= 512
    assert glint("segment", image, "-q", "a", "-q", "b", *words, "-o", tmp_path / "n.png").status == 0
    assert {path.name for path in tmp_path.iterdir()} == {"chest.png", "o.png", "m.png", "n-1.png", "n-2.png"}


def test_command__as_a_program(image: Path, model_folder: Path) -> None:
    base = [sys.executable, "-m", "glint"]
    words = ["ground", str(image), "-q", "nodule", "--json", "--model", str(model_folder)]
    done = subprocess.run([*base, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["results"]
    words[3] = " "
    done = subprocess.run([*base, *words, "--debug"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" in done.stderr


def damaged_models(good: Path, folder: Path) -> dict[str, Path]:
    """Return kind of damage -> model folder."""
    models: dict[str, Path] = {}
    for name in (
        "no weights",
        "no recipe",
        "cut weights",
        "garbage weights",
        "broken recipe",
        "other recipe",
    ):
        models[name] = folder / name
        shutil.copytree(good, models[name])
    (models["no weights"] / "model.safetensors").unlink()
    (models["no recipe"] / "glint.json").unlink()
    weights = (good / "model.safetensors").read_bytes()
    (models["cut weights"] / "model.safetensors").write_bytes(weights[:-1000])
    (models["garbage weights"] / "model.safetensors").write_bytes(b"x" * 1000)
    (models["broken recipe"] / "glint.json").write_text("{")
    recipe = json.loads((good / "glint.json").read_text())
    recipe["align"]["dim"] = 64
    (models["other recipe"] / "glint.json").write_text(json.dumps(recipe))
    return models


def bad_images(good: Path, folder: Path) -> dict[str, Path]:
    """Return kind of badness -> path; none of them is an image to use."""
    (folder / "text.dcm").write_text("hello\n")
    (folder / "directory").mkdir()
    dicom = Path(str(get_testdata_file("examples_overlay.dcm", download=False))).read_bytes()
    (folder / "cut.dcm").write_bytes(dicom[: len(dicom) // 2])
    (folder / "cut.png").write_bytes(good.read_bytes()[:-800])
    photograph = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(photograph).save(folder / "photo.jpg")
    names = ("missing.dcm", "text.dcm", "directory", "cut.dcm", "cut.png", "photo.jpg")
    images = {name: folder / name for name in names}
    images["volume"] = Path(str(get_testdata_file("rtdose.dcm", download=False)))
    images["slice"] = Path(str(get_testdata_file("CT_small.dcm", download=False)))
    return images


def assert_one_message(done: Any, status: int, folder: Path) -> None:
    """One message of ours on stderr, nothing on stdout, no output file."""
    assert done.status == status, done.err
    assert done.out == ""
    assert re.match(r"GL\d00: ", done.err), done.err
    assert len(re.findall(r"\bGL\d\d\d\b", done.err)) == 1
    assert len(done.err.splitlines()) <= 12
    assert "Traceback" not in done.err
    assert not list(folder.iterdir())


def test_bad_input__has_one_message_its_status_and_no_output(
    glint: Command, image: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    files = ("--png", out / "o.png", "-o", out / "m.png", "--json")
    model = ("--model", model_folder)
    for name, path in bad_images(image, tmp_path).items():
        done = glint("segment", path, "-q", "a", *model, *files)
        assert_one_message(done, 3, out)
        assert str(path) in done.err, name
    for name, path in damaged_models(model_folder, tmp_path).items():
        done = glint("segment", image, "-q", "a", "--model", path, *files)
        assert_one_message(done, 4, out)
        assert str(path) in done.err, name
    for words in (
        ("-q", "", *model),
        ("-q", "a", "-q", " ", *model),
        model,
        ("-q", "x" * 501, *model),
        [*(word for i in range(257) for word in ("-q", str(i))), *model],
        ("-q", "a", "--model", "no-such-model"),
        ("-q", "a", "--threshold", "1.5", *model),
        ("-q", "a", "--device", "toaster", *model),
    ):
        assert_one_message(glint("segment", image, *words, *files), 2, out)


def test_bad_output__is_refused_before_anything_is_written(
    glint: Command, image: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    before = image.read_bytes()
    for words in (
        ("--png", out / "o.jpg"),
        ("-o", out / "no" / "m.png"),
        ("-o", out / "m.png", "--png", out / "m.png"),
        ("--png", image),
        ("-o", image),
    ):
        assert_one_message(glint("segment", image, "-q", "a", "-m", model_folder, *words), 2, out)
    assert image.read_bytes() == before
