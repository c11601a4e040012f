"""`glint evaluate` from the command line: wrong use ends with one message and a documented exit status."""

from pathlib import Path

import pytest

from glint.cli.main import run


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["cats", "--model", "m"], 2, "no evaluation task 'cats'"),
        (["phantom-cxr", "--model", "m", "--data", "{empty}"], 3, "no manifest"),
        (["phantom-cxr", "--model", "no-such-model", "--data", "{truth}"], 2, "no model 'no-such-model'"),
        (
            ["phantom-cxr", "--model", "no-such-model", "--calibrate", "--data", "{truth}"],
            2,
            "only a model folder",
        ),
    ],
)
def test_evaluate__wrong_use(
    arguments: list[str],
    status: int,
    words: str,
    truth_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = [a.format(empty=tmp_path, truth=truth_folder) for a in arguments]
    out = tmp_path / "out"
    assert run(["evaluate", *filled, "--out", str(out)]) == status
    assert words in " ".join(capsys.readouterr().err.split())
    assert not out.exists()
