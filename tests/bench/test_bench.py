"""Benchmarks: what they count is right; how fast it is, is not tested."""

import json
from pathlib import Path

import pytest
import torch

from glint.bench import encoders
from glint.bench.encoders import HEAD, Row, flops, run
from glint.bench.machine import matmul_peak, measure
from glint.cli.main import run as glint

CPU = torch.device("cpu")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"tiny": ("dinov3-vit", {"width": 64, "depth": 2, "heads": 1})}
    monkeypatch.setattr(encoders, "SIZES", sizes)


def test_run__counts_tokens_and_operations(tiny: None) -> None:
    forward, step = run("tiny", (64, 32), CPU, torch.float32, batch=3, repeats=1)
    assert (forward.tokens, forward.work, step.work) == (3 * 8, "forward", "training step")
    n, d = 8 + 5, 64  # patches and prefix tokens
    linear = 2 * (n * d * (4 * d + 2 * 4 * d)) * 2  # four projections and the MLP, two blocks
    attention = 2 * (2 * n * n * d) * 2
    embedding = 2 * 8 * d * 3 * 256
    assert forward.flops == 3 * (linear + attention + embedding)
    assert 3.5 * forward.flops < step.flops < 4.2 * forward.flops  # student 3 x, teacher 1 x


def test_flops__does_not_compute() -> None:
    big = flops(
        "dinov3-vit", {"width": 4096, "depth": 4, "heads": 32}, torch.Size((1, 1, 512, 512)), "forward"
    )
    assert big > 1e12


def test_cells__share_is_rate_over_peak() -> None:
    row = Row("x", (512, 512), "forward", 1000, 0.5, 10**12, 2 * 10**9)
    cells = dict(zip(HEAD, row.cells(peak=4e12), strict=True))
    assert (cells["tokens/s"], cells["TFLOP/s"], cells["share of peak"]) == ("2,000", "2.000", "50%")
    assert cells["peak GB"] == "2.00"


def test_measure__sees_memory_that_is_held_only_for_a_while() -> None:
    cost = measure(lambda: torch.ones(50_000_000).sum(), CPU, repeats=2)
    assert cost.seconds > 0
    assert cost.peak_bytes is None or 150e6 < cost.peak_bytes < 450e6
    assert matmul_peak(CPU, torch.float32, size=64, repeats=2) > 0


def test_bench_command__prints_a_table_and_writes_rows(
    tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glint.bench.machine.matmul_peak", lambda *_: 1e12)
    out = tmp_path / "rows.json"
    words = [
        "bench",
        "encoders",
        "tiny",
        "--size",
        "32x32",
        "--repeats",
        "1",
        "--device",
        "cpu",
        "--out",
        str(out),
    ]
    assert glint(words) == 0
    assert "| tiny | 32x32 | training step |" in capsys.readouterr().out
    content = json.loads(out.read_text())
    assert content["peak_flops"] == 1e12
    assert [row["work"] for row in content["rows"]] == ["forward", "training step"]
    assert glint(["bench", "encoders", "nothing"]) == 2
    assert glint(["bench", "encoders", "tiny", "--size", "big"]) == 2
