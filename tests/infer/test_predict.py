"""From a radiograph and queries to answers, with a model whose right answers are known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glint.api import Glint
from glint.errors import DataError, UsageError
from glint.infer.predict import MAX_QUERIES, check_queries, predict
from glint.io.radiograph import Radiograph, radiograph_from_array


def spot(height: int = 300, width: int = 200) -> Radiograph:
    """A bright square of 60 pixels around (x=150, y=80) on a dim ground."""
    pixels = np.full((height, width), 0.05)
    pixels[50:110, 120:180] = 1.0
    return radiograph_from_array(pixels)


def test_predict__points_at_the_spot_in_native_pixels(model: Any) -> None:
    (answer,) = predict(model, spot(), ["a spot"], model_name="m")
    assert answer.point_px is not None
    assert abs(answer.point_px[0] - 150) < 20
    assert abs(answer.point_px[1] - 80) < 20
    assert answer.mask is not None
    assert answer.mask.shape == (300, 200)
    assert answer.mask_area_px == answer.mask.sum()
    assert answer.mask[80, 150]
    assert 0.5 < answer.mask.sum() / 3600 < 1.5
    assert answer.box_xyxy_px is not None
    x0, y0, x1, y1 = answer.box_xyxy_px
    assert 90 < x0 < 150 < x1 <= 200
    assert 20 < y0 < 80 < y1 < 140


def test_predict__encodes_once_and_tells_the_padding(model: Any) -> None:
    predict(model, spot(), [f"query {i}" for i in range(40)])
    ((images, valid, queries),) = model.calls
    assert images.shape == (1, 1, 192, 192)
    assert len(queries) == 40
    assert valid.shape == (1, 144)
    assert valid.reshape(12, 12)[:, 6].all()
    assert not valid.reshape(12, 12)[:, 0].any()


def test_predict__same_pixels_same_answer(model: Any) -> None:
    first, second = (predict(model, spot(), ["a"], model_name="m").to_dict() for _ in range(2))
    assert first == second


def test_predict__threshold_moves_the_mask_only(model: Any) -> None:
    low, high = (predict(model, spot(), ["a"], threshold=t)[0] for t in (0.2, 0.8))
    assert low.mask_area_px > high.mask_area_px  # pyright: ignore[reportOptionalOperand]
    assert low.point_px == high.point_px
    assert low.box_xyxy_px == high.box_xyxy_px


def test_to_dict__has_the_documented_keys(model: Any) -> None:
    answers = predict(model, spot(), ["a", "b"], model_name="m")
    document = json.loads(json.dumps(answers.to_dict()))
    assert {"image", "model", "results"} <= set(document)
    for result in document["results"]:
        assert set(result) == {"query", "score", "point_px", "box_xyxy_px", "mask_area_px"}
        assert 0 <= result["score"] <= 1
        assert [len(result["point_px"]), len(result["box_xyxy_px"])] == [2, 4]
    assert [result["query"] for result in document["results"]] == ["a", "b"]


def test_classify__leaves_out_the_place(model: Any) -> None:
    glint = Glint("m", model)
    (result,) = glint.classify(spot(), ["a"]).to_dict()["results"]
    assert set(result) == {"query", "score"}
    with pytest.raises(UsageError, match="no mask"):
        glint.classify(spot(), ["a"])[0].save("x.png")


def test_api__takes_paths_arrays_and_radiographs(model: Any, tmp_path: Path) -> None:
    glint = Glint("m", model)
    pixels = np.random.default_rng(0).random((64, 64))
    Image.fromarray((pixels * 255).astype(np.uint8)).save(tmp_path / "x.png")
    for image in (pixels, radiograph_from_array(pixels), tmp_path / "x.png", str(tmp_path / "x.png")):
        for verb in (glint.classify, glint.ground, glint.segment):
            assert len(verb(image, ["a"])) == 1
    assert glint.segment(tmp_path / "x.png", ["a"]).image == str(tmp_path / "x.png")
    with pytest.raises(UsageError, match="type"):
        glint.segment([[0.0]], ["a"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="3D volume"):
        glint.segment(np.zeros((8, 64, 64)), ["a"])


def test_save__writes_mask_overlay_and_json(model: Any, tmp_path: Path) -> None:
    answers = Glint("m", model).segment(spot(), ["a"])
    answers[0].save(tmp_path / "mask.png")
    assert (np.asarray(Image.open(tmp_path / "mask.png")) > 0).sum() == answers[0].mask_area_px
    answers.save(tmp_path / "overlay.png")
    assert Image.open(tmp_path / "overlay.png").width > 300
    answers.save(tmp_path / "answers.json")
    assert json.loads((tmp_path / "answers.json").read_text()) == answers.to_dict()
    with pytest.raises(UsageError):
        answers.save(tmp_path / "answers.txt")


def test_check_queries__strips() -> None:
    assert check_queries([" a ", "b"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("queries", "words"),
    [
        ([], "no query"),
        ("one text", "one text"),
        ([""], "empty"),
        (["a", " \t\n"], "empty"),
        (["x" * 501], "501 characters"),
        (["a"] * (MAX_QUERIES + 1), "too many"),
        (["a\x1b[31m"], "control characters"),
        (["two\nlines"], "control characters"),
    ],
)
def test_check_queries__bad_ones_say_what_is_wrong(queries: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_queries(queries)


@pytest.mark.parametrize("threshold", [0, 1, -1, 2, float("nan")])
def test_predict__bad_threshold(model: Any, threshold: float) -> None:
    with pytest.raises(UsageError, match="threshold"):
        predict(model, spot(), ["a"], threshold=threshold)
