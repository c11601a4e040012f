"""The watch with an archive that fails as told: nothing blocks, nothing is lost."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest

from glint.archive.client import Instance, Study
from glint.archive.journal import Journal
from glint.archive.studies import Question
from glint.archive.watch import MAX_CRASHES, watch
from glint.errors import ArchiveError


class FakeArchive:
    """Holds studies of one radiograph each."""

    def __init__(self, stored: list[Any]) -> None:
        self.images = {data.StudyInstanceUID: data for data in stored}
        self.taken: Counter[str] = Counter()
        self.failures = 0

    def studies(self, *, modality: str, since: str) -> list[Study]:
        return [Study(uid, 1) for uid in self.images] if modality == "CR" else []

    def instances(self, study: str, series: str = "") -> list[Instance]:
        return [Instance(study, "1.2", "1.3", "CR")]

    def fetch(self, instance: Instance, path: Path) -> None:
        self.images[instance.study].save_as(path, enforce_file_format=True)

    def store(self, results: list[Any]) -> None:
        if self.failures:
            self.failures -= 1
            raise ArchiveError("the archive is away", transient=True)
        self.taken[results[0].StudyInstanceUID] += 1


@pytest.fixture
def archive(make_radiograph: Callable[..., Any]) -> Any:
    return FakeArchive([make_radiograph(seed) for seed in range(4)])


def run(archive: Any, path: Path, question: Question, polls: int) -> None:
    journal = Journal(path, {})
    try:
        watch(archive, journal, question, every_s=0, polls=polls, tell=lambda line: None)
    finally:
        journal.close()


def test_archive__that_fails_for_long_loses_no_study(
    archive: Any, question: Question, tmp_path: Path
) -> None:
    archive.images = dict([*archive.images.items()][:1])
    archive.failures = MAX_CRASHES + 2
    run(archive, tmp_path / "j", question, 200)
    assert list(archive.taken.values()) == [1]
    noted = Counter(line["state"] for line in map(json.loads, (tmp_path / "j").read_text().splitlines()[1:]))
    assert noted == {"begin": 8, "later": 7, "done": 1}


def test_study__that_ends_the_process_comes_last_and_is_left(
    archive: Any, question: Question, tmp_path: Path
) -> None:
    poison = next(iter(archive.images.values())).SOPInstanceUID

    def ask(path: Path) -> Any:
        if pydicom.dcmread(path).SOPInstanceUID == poison:
            raise KeyboardInterrupt  # as a kill: nothing is noted
        return question.ask(path)

    ends = 0
    for start in range(MAX_CRASHES + 2):
        try:
            run(archive, tmp_path / "j", replace(question, ask=ask), 3)
        except KeyboardInterrupt:
            ends += 1
        if start == 1:
            assert len(archive.taken) == 3  # all others, after the first end
    assert ends == MAX_CRASHES
    assert set(archive.taken.values()) == {1}
    assert "failed" in (tmp_path / "j").read_text()


def test_kills__one_after_the_other_take_no_study_away(
    archive: Any, question: Question, tmp_path: Path
) -> None:
    """Twelve ends of the process at whatever study is next; each has fewer than it is left for."""
    kills = iter(range(12))

    def ask(path: Path) -> Any:
        if next(kills, None) is not None:
            raise KeyboardInterrupt
        return question.ask(path)

    for _ in range(13):
        try:
            run(archive, tmp_path / "j", replace(question, ask=ask), 3)
        except KeyboardInterrupt:
            continue
    assert len(archive.taken) == 4
    assert set(archive.taken.values()) == {1}
