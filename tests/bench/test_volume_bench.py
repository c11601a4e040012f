"""`glint bench volume`: one thing is varied at a time, and everything is written."""

import json
from pathlib import Path
from typing import Any

import pytest

from glint.bench import volume as bench
from glint.cli.main import run


def test_bench_volume__varies_one_thing_at_a_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small: dict[str, Any] = {"spacing_mm": [12, 12, 12], "crop": [16, 16, 16]}
    tiny = {"patch_px": 8, "tubelet": 8, "width": 12, "depth": 1, "heads": 2}
    monkeypatch.setattr(
        bench, "RANDOM", {"data": {"volume": small}, "vision": {"name": "vjepa", "arch": tiny}}
    )
    words = "bench volume --size 30x32x32 --size 60x32x32 --queries 1 --queries 7 --overlap 0.5 --overlap 0"
    files = ["--out", str(tmp_path / "rows.json"), "--plot", str(tmp_path / "plot.png")]
    assert run([*words.split(), *files]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    found = [(row["varied"], row["shape"], row["queries"], row["overlap"]) for row in rows]
    assert found == [
        ("base", [30, 32, 32], 1, 0.5),
        ("queries", [30, 32, 32], 7, 0.5),
        ("overlap", [30, 32, 32], 1, 0.0),
        ("size", [60, 32, 32], 1, 0.5),
    ]
    assert rows[2]["windows"] < rows[0]["windows"]
    assert all(row["seconds"] > 0 for row in rows)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "7 queries take" in out
    assert out.count("30 x 32 x 32") == 3
