"""The benchmark of the gate: what it counts and makes up is right, and the fused form's memory is flat."""

import json
from pathlib import Path

import pytest
import torch

from glint.bench.gate import HEAD, Row, Size, forms, inputs, open_share, works
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


def peak(form: str, patches: int, work: str) -> tuple[int, int]:
    """Return the peak above the inputs and the bytes of the gradients of patches and keys."""
    x = inputs(
        Size(sentences=512, images=4, patches=patches, width=16, gate_width=16), CPU, torch.float32, 0.1
    )
    found = measure(works(forms(CPU)[form], x)[work], CPU, 1).peak_bytes
    if found is None:
        pytest.skip("this system does not tell peak memory")
    return found, 4 * (x.patches.numel() + x.keys.numel())


@pytest.mark.parametrize("work", ["forward", "forward + backward"])
def test_chunked__memory_does_not_grow_with_patches(work: str) -> None:
    """One matrix (512, 4, 8192) has 67 MB; the chunked form holds blocks and, in backward, the gradients."""
    for patches in (512, 16 * 512):
        held, gradients = peak("chunked", patches, work)
        assert held < 24e6 + (2 * gradients if "backward" in work else 0), patches
    assert peak("eager", 16 * 512, work)[0] > 100e6  # the measure would have seen it


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
