"""The journal: what was written is known after any crash, and it belongs to one process and one task."""

from pathlib import Path

import pytest

from glint.archive.journal import Journal
from glint.errors import DataError, UsageError

TASK = {"queries": ["a"], "threshold": 0.5}


def test_cut__at_every_byte_keeps_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, TASK)
    for n in range(3):
        journal.note(f"1.2.{n}", "begin")
        journal.note(f"1.2.{n}", "done", results=4)
    journal.close()
    content = path.read_bytes()
    for length in range(0, len(content) + 1, 7):
        path.write_bytes(content[:length])
        again = Journal(path, TASK)
        lines = content[:length].count(b"\n")
        ended = [again.ended(f"1.2.{n}") for n in range(3)]
        assert ended == [lines >= 3 + 2 * n for n in range(3)], length
        again.note("9", "begin")
        again.close()
        assert path.read_bytes().endswith(b"}\n")
        assert Journal(path, TASK).begun("9") == 1


def test_journal__names_no_study(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", TASK)
    journal.note("1.2.826.0.1", "failed", code="GL300", why="no image")
    assert "1.2.826.0.1" not in (tmp_path / "j").read_text()


def test_second__process_or_task_or_file_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", TASK)
    with pytest.raises(UsageError, match="another process"):
        Journal(tmp_path / "j", TASK)
    journal.close()
    with pytest.raises(UsageError, match="threshold"):
        Journal(tmp_path / "j", TASK | {"threshold": 0.4})
    Journal(tmp_path / "j", TASK).close()
    for content in ("hello\n", "[]\n", '{"a": 1}\n', '{"glint_watch": 2, "task": {}}\n{"x": 1}\n'):
        (tmp_path / "other").write_text(content)
        with pytest.raises(DataError, match="not the journal"):
            Journal(tmp_path / "other", TASK)
        assert (tmp_path / "other").read_text() == content
    with pytest.raises(UsageError, match="cannot be opened"):
        Journal(tmp_path, TASK)


def test_journal__of_an_older_version_is_refused_and_kept(tmp_path: Path) -> None:
    """Its studies stand there by hashes that have no key."""
    old = '{"glint_watch": 1, "task": {}}\n{"study": "0123", "state": "done"}\n'
    (tmp_path / "j").write_text(old)
    with pytest.raises(UsageError, match="older version"):
        Journal(tmp_path / "j", {})
    assert (tmp_path / "j").read_text() == old


def test_journal__of_another_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its studies could not be told, and all of them would be answered again."""
    monkeypatch.setattr("glint.io.phi._given", [b"1" * 32])
    Journal(tmp_path / "j", TASK).close()
    monkeypatch.setattr("glint.io.phi._given", [b"2" * 32])
    with pytest.raises(UsageError, match="another key"):
        Journal(tmp_path / "j", TASK)
    monkeypatch.setattr("glint.io.phi._given", [b"1" * 32])
    Journal(tmp_path / "j", TASK).close()
