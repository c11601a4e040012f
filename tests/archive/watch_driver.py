"""A watch in a process of its own that kills itself (kill -9) within the second study. Run by test_orthanc.py."""

import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glint.archive.address import parse_address
from glint.archive.answers import DicomOptions
from glint.archive.client import Archive
from glint.archive.journal import Journal
from glint.archive.studies import Question
from glint.archive.watch import watch


def dying(call: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    """Return a call that dies the second time."""
    calls: list[int] = []

    def wrapped(*args: Any, **words: Any) -> Any:
        calls.append(1)
        if len(calls) == 2 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*args, **words)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped


def main(address: str, journal: str, moment: str) -> None:
    """Watch for three polls."""
    spec = importlib.util.spec_from_file_location("fixtures", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    fixtures = importlib.util.module_from_spec(spec)
    sys.modules["fixtures"] = fixtures
    spec.loader.exec_module(fixtures)
    archive: Any = Archive(parse_address(address))
    if moment != "never":
        when, name = moment.split()
        setattr(archive, name, dying(getattr(archive, name), after=when == "after"))
    question = Question(fixtures.ask, "0123abcd", DicomOptions(), fixtures.ask_scan, "4567cdef")
    opened = Journal(Path(journal), {"queries": ["There is a mass."]})
    watch(archive, opened, question, every_s=0.01, polls=3, tell=print)


if __name__ == "__main__":
    main(*sys.argv[1:])
