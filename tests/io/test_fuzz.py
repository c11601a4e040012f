"""A small part of what tools/fuzz_files.py does: damaged files are read or refused, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "fuzz_files.py"


@pytest.mark.parametrize("count", [200])
def test_damaged_files__are_read_or_refused(tmp_path: Path, count: int) -> None:
    pytest.importorskip("nibabel")
    pytest.importorskip("nrrd")
    report = tmp_path / "report.json"
    command = [sys.executable, str(TOOL), "--count", str(count), "--seed", "7", "--json", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert len(found) == count
    assert {one["outcome"] for one in found} == {"read", "refused"}
