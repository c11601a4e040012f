"""Folders of what was fetched: gone afterwards, also after a kill, and nobody else's is touched."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from glint.archive.scratch import LOCK, PREFIX, scratch, sweep

KILLED = """
import os, signal
from glint.archive.scratch import scratch
with scratch() as folder:
    (folder / "00000.dcm").write_bytes(b"of a patient")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_scratch__is_private_and_gone_afterwards(temporary: Path) -> None:
    with scratch() as folder:
        assert list(folder.iterdir()) == []
        assert (folder.parent.stat().st_mode & 0o777, folder.parent.parent) == (0o700, temporary)
    assert list(temporary.iterdir()) == []


def test_sweep__takes_what_a_killed_process_left_and_nothing_else(temporary: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run([sys.executable, "-c", KILLED], env=environment, check=False)
    assert done.returncode == -9
    (left,) = temporary.iterdir()
    (temporary / f"{PREFIX}without-lock").mkdir()
    (temporary / f"{PREFIX}file").write_text("")
    (temporary / "other").mkdir()
    (temporary / "other" / LOCK).write_text("")
    (temporary / f"{PREFIX}link").symlink_to(temporary / "other")
    with scratch() as folder:
        assert sweep() == 1
        assert folder.is_dir()
    assert not left.exists()
    kept = {f"{PREFIX}without-lock", f"{PREFIX}file", f"{PREFIX}link", "other"}
    assert {path.name for path in temporary.iterdir()} == kept
    assert (temporary / "other" / LOCK).exists()
