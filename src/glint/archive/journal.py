"""Which studies a watch has dealt with: a file of JSON lines that only grows, on disk before anything goes on.

A study stands in it by its alias (glint.io.phi), longer than in messages, so that the file tells nobody which studies
there were. A line cut off by a
crash is dropped at the next start: what it said is done again, which the archive does not notice, because results have
the same UIDs each time.
"""

import fcntl
import json
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from glint.atomic import sync
from glint.errors import DataError, UsageError
from glint.io.phi import alias

State = Literal["begin", "later", "done", "failed"]
VERSION, KEY_DIGITS = 2, 32


class Journal:
    """An open journal; one process at a time has it.

    Args:
        path: The file; made if need be.
        task: What is asked of every study. A journal is for one task.

    Raises:
        DataError: The file is no journal.
        UsageError: Another process uses it, it belongs to another task, or cannot be written.
    """

    def __init__(self, path: Path, task: dict[str, Any]) -> None:
        self.path = path
        self._ended: set[str] = set()
        self._begun: Counter[str] = Counter()
        self._put_off: Counter[str] = Counter()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab+")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                "another process uses this journal", where=str(path), fix="end it first"
            ) from error
        except OSError as error:
            raise UsageError(f"the journal cannot be opened: {error.strerror}", where=str(path)) from error
        lines = self._whole_lines()
        if lines:
            self._read(lines, task)
        else:
            self._append({"glint_watch": VERSION, "key": _fingerprint(), "task": task})
            sync(path.parent)

    def close(self) -> None:
        """Give the journal back."""
        self._file.close()

    def ended(self, study: str) -> bool:
        """Say whether a study is done or given up."""
        return _key_of(study) in self._ended

    def begun(self, study: str) -> int:
        """Return how often a study was begun."""
        return self._begun[_key_of(study)]

    def crashes(self, study: str) -> int:
        """Return how often the process ended while it was at an open study, for whatever reason."""
        key = _key_of(study)
        return self._begun[key] - self._put_off[key]

    def note(self, study: str, state: State, **facts: Any) -> None:
        """Add a line and wait until it is on disk.

        Args:
            study: StudyInstanceUID.
            state: "begin" before the work; "done", "failed", or "later" when it has to be tried again, after it.
            facts: What else to say; no values of a patient.
        """
        key = _key_of(study)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._append({"time": now, "study": key, "state": state, **facts})
        self._count(key, state)

    def _count(self, key: str, state: str) -> None:
        if state == "begin":
            self._begun[key] += 1
        elif state == "later":
            self._put_off[key] += 1
        else:
            self._ended.add(key)

    def _append(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _whole_lines(self) -> list[bytes]:
        """Return the lines of the file; a last one without its end is cut off."""
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)
        return content[:whole].splitlines()

    def _read(self, lines: list[bytes], task: dict[str, Any]) -> None:
        try:
            head, *rows = (json.loads(line) for line in lines)
            version, key, known = head["glint_watch"], head.get("key"), head["task"]
            for row in rows:
                self._count(row["study"], row["state"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError("this is not the journal of a watch", where=str(self.path)) from error
        if version != VERSION:
            # Its studies go by hashes without a key: nothing of today's says which they are.
            raise UsageError(
                "the journal is of an older version of GLINT",
                where=str(self.path),
                fix="name another journal, studies are then processed anew (--since leaves old ones out); remove this "
                "one: who can list the archive can find out which studies it is about",
            )
        if key != _fingerprint():
            raise UsageError(
                "the journal was written with another key of aliases: its studies cannot be told",
                where=str(self.path),
                fix="bring $GLINT_HOME/alias.key back, or name another journal; studies are then processed anew",
            )
        if known != json.loads(json.dumps(task)):
            changed = sorted(name for name in {*known, *task} if known.get(name) != task.get(name))
            raise UsageError(
                f"the journal belongs to another task: {', '.join(changed)} differ",
                where=str(self.path),
                fix="name another journal; studies are then processed anew",
            )


def _key_of(study: str) -> str:
    """Return what stands for a study."""
    return alias(study, digits=KEY_DIGITS)


def _fingerprint() -> str:
    """Return what tells the key of aliases from others."""
    return alias("", "key")
