"""The whole task on a stand-in data set: a seeing model, a half-blind one and a blind one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glint.errors import DataError, UsageError
from glint.eval.phantom import evaluate, labels
from glint.eval.run import run
from glint.eval.tracks import Options

Load = Callable[[str], Any]


@pytest.fixture(scope="module")
def written(truth_folder: Path, seer: Load, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results")
    run(["seer", "blind"], Options(truth_folder, bootstrap=100), out, load=seer)
    return out


@pytest.fixture(scope="module")
def results(written: Path) -> dict[str, Any]:
    return json.loads((written / "results.json").read_text())


def value(results: dict[str, Any], model: int, track: str, metric: str, average: str = "macro") -> float:
    return results["models"][model]["tracks"][track][metric][average]["value"]


@pytest.mark.parametrize("track", ["standard", "new wording", "new combinations", "new combinations only"])
def test_evaluate__seeing_model_is_right_and_blind_one_is_not(results: dict[str, Any], track: str) -> None:
    for metric, least in {
        "auroc": 0.999,
        "pointing": 0.999,
        "dice_val": 0.75,
        "contradiction": 0.999,
    }.items():
        assert value(results, 0, track, metric) >= least
    assert 0.2 <= value(results, 1, track, "auroc") <= 0.8
    for metric, most in {"pointing": 0.35, "dice_val": 0.3, "dice_fixed": 0.3}.items():
        assert value(results, 1, track, metric) <= most


def test_evaluate__thresholds_are_ordered(results: dict[str, Any]) -> None:
    for model in (0, 1):
        metrics = ("dice_oracle", "dice_val", "dice_fixed", "pointing", "pointing_near")
        found = {metric: value(results, model, "standard", metric) for metric in metrics}
        assert found["dice_oracle"] >= max(found["dice_val"], found["dice_fixed"]) - 1e-9
        assert found["pointing_near"] >= found["pointing"]


def test_evaluate__absent_findings_have_no_mask_for_the_seer(results: dict[str, Any]) -> None:
    assert value(results, 0, "standard", "area_absent") == 0
    assert value(results, 0, "standard", "false_mask_rate") == 0
    assert value(results, 0, "standard", "open_absent") < value(results, 0, "standard", "open_present")
    assert value(results, 1, "standard", "area_absent") > 0.2
    assert value(results, 1, "standard", "map_overlap") > value(results, 0, "standard", "map_overlap")


def test_evaluate__sentences_are_grounded(results: dict[str, Any]) -> None:
    for track in ("sentences", "sentences, new wording"):
        assert value(results, 0, track, "pointing") == 1
        assert value(results, 0, track, "dice_val") > 0.75
        assert value(results, 0, track, "contradiction") == 1


def test_evaluate__comparison_is_significant_both_ways(results: dict[str, Any]) -> None:
    rows = [r for r in results["comparisons"] if r["track"] == "standard" and r["metric"] == "pointing"]
    assert [r["average"] for r in rows] == ["macro", "macro_without_nodule"]
    assert all(r["model"] == "seer" and r["against"] == "blind" for r in rows)
    assert all(r["low"] > 0.3 and r["p"] < 0.05 for r in rows)


def test_evaluate__intervals_hold_their_value(results: dict[str, Any]) -> None:
    track = results["models"][1]["tracks"]["standard"]
    for metric in ("auroc", "dice_fixed"):
        for entry in (track[metric]["macro"], *track[metric]["per_finding"].values()):
            assert entry["low"] <= entry["value"] <= entry["high"]
        assert track[metric]["macro"]["low"] < track[metric]["macro"]["high"]


def test_run__files_say_how_they_were_made(results: dict[str, Any], written: Path) -> None:
    assert results["provenance"]["versions"]["torch"]
    assert len(results["data"]["sha256"]["test"]) == 64
    page = (written / "results.md").read_text()
    for words in ("## seer", "## Comparison", "ORACLE", "new combinations only", "contradict"):
        assert words in page
    assert "nan" not in page
    for name in ("per_finding.png", "reliability.png", "examples_0.png", "examples_1.png"):
        assert np.asarray(Image.open(written / name)).std() > 5
    assert not list(written.glob("*.part*"))


def test_evaluate__is_repeatable(truth_folder: Path, seer: Load) -> None:
    options = Options(truth_folder, limit=12, bootstrap=20)
    one, two = (evaluate(["half"], options, load=seer)[0]["models"][0] for _ in range(2))
    assert one["tracks"] == two["tracks"]
    assert one["thresholds_from_val"] == two["thresholds_from_val"]


def test_evaluate__wrong_use_is_a_clear_error(truth_folder: Path, seer: Load, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="once"):
        evaluate(["seer", "seer"], Options(truth_folder), load=seer)
    with pytest.raises(UsageError, match="negative"):
        evaluate(["seer"], Options(truth_folder, limit=-1), load=seer)
    with pytest.raises(DataError, match="manifest"):
        evaluate(["seer"], Options(tmp_path), load=seer)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file"):
        run(["seer"], Options(truth_folder), tmp_path / "file", load=seer)


def test_labels__are_short_and_distinct() -> None:
    assert labels(["runs/glint-s0/model", "glint-cxr-phantom"]) == ["glint-s0", "glint-cxr-phantom"]
    assert labels(["a/x", "b/x"]) == ["a/x", "b/x"]
