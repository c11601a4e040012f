"""The benchmark of the gate: what it counts and makes up is right, and the fused form's memory is flat."""

import json
from pathlib import Path

import pytest
import torch

from glint.bench.gate import HEAD, LEAVES, Row, Size, forms, inputs, open_share, works
from glint.bench.machine import measure
from glint.cli.main import run as glint

CPU = torch.device("cpu")


def test_inputs__have_the_share_of_open_tiles_that_was_asked_for() -> None:
    size = Size(sentences=200, images=4, patches=1000, width=8, gate_width=32)
    assert open_share(inputs(size, CPU, torch.float32, 0.05)) == pytest.approx(0.05, abs=0.02)
    assert open_share(inputs(size, CPU, torch.float32, 1.0)) == 1.0


def test_row__counts_what_a_dense_result_needs() -> None:
    flops = Size(2, 3, 5, 7, 11).flops
    assert flops == 2 * 2 * 3 * 5 * 18
    cells = dict(zip(HEAD, Row("x", "forward", 0.5, 10**12, 2 * 10**6).cells(peak=4e12), strict=True))
    assert (cells["ms"], cells["TFLOP/s"], cells["share of peak"], cells["peak MB"]) == (
        "500.0",
        "2.000",
        "50%",
        "2",
    )


def test_chunked__memory_does_not_grow_with_patches() -> None:
    """16 times the patches: above inputs and gradients, only blocks of the cache's size are held."""
    for patches in (512, 16 * 512):
        size = Size(sentences=512, images=4, patches=patches, width=16, gate_width=16)
        x = inputs(size, CPU, torch.float32, 0.1)
        matrix = 4 * size.sentences * size.images * patches
        gradients = sum(getattr(x, name).numel() * 4 for name in LEAVES)
        for work, call in works(forms(CPU)["chunked"], x).items():
            peak = measure(call, CPU, 1).peak_bytes
            if peak is None:
                pytest.skip("this system does not tell peak memory")
            allowed = 16e6 + (2 * gradients if work != "forward" else 0)
            assert peak < allowed, (work, patches)
    assert allowed < matrix  # type: ignore[possibly-undefined]


def test_bench_gate_command__prints_a_table_and_writes_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glint.bench.machine.matmul_peak", lambda *_: 1e12)
    out = tmp_path / "rows.json"
    small = ["--sentences=3", "--images=2", "--patches=70", "--width=8", "--repeats=1", "--device=cpu"]
    assert glint(["bench", "gate", *small, "--gate-width=20", "--out", str(out)]) == 0
    assert "| sparse | forward + backward |" in capsys.readouterr().out
    content = json.loads(out.read_text())
    assert [row["form"] for row in content["rows"]] == ["eager"] * 2 + ["chunked"] * 2 + ["sparse"] * 2
    assert glint(["bench", "gate", "nothing"]) == 2
    assert glint(["bench", "gate", *small, "--gate-width=19"]) == 2
    assert glint(["bench", "gate", *small, "--dtype=int8"]) == 2
