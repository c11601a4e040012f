import json
from pathlib import Path

import pytest

from glint.train.log import RunLog, counter


def lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_run_log__one_json_object_a_line_and_plain_text_when_piped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "log.jsonl"
    with RunLog(path, start=0, steps=20, label="demo") as log:
        log.advance(10)
        log.write(10, {"loss": 0.5, "alpha": 3.0}, samples_per_step=8)
        log.write(10, {"val_loss": 0.75})
    first, second = lines(path)
    assert (first["step"], first["loss"], second["val_loss"]) == (10, 0.5, 0.75)
    assert first["samples_per_s"] > 0
    assert "samples_per_s" not in second
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "demo  10/20  loss 0.5" in shown.err
    assert "ETA" in shown.err


def test_run_log__resume_drops_what_comes_later(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    with RunLog(path, start=2, steps=4, label="x") as log:
        log.write(3, {"loss": 1.0})
    assert [line["step"] for line in lines(path)] == [1, 2, 3]


def test_counter__is_quiet_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    count = counter("studies")
    for done in range(5):
        count(done + 1, 5)
    assert capsys.readouterr().err == "5 studies\n"
