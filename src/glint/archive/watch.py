"""A watch over an archive: every new study is answered once, whatever is killed in between.

The order makes it so: "begin" is in the journal, then the results are stored, then "done" is in the journal. After a
crash in between, a study is done again with the same UIDs, and the archive has each result once. A study that
cannot be used, or that has crashed us several times, is noted and left; a failing archive is waited for.
"""

import time
from collections.abc import Callable

from glint.archive.client import Archive, Study
from glint.archive.journal import MAX_TRIES, Journal, key_of
from glint.archive.studies import MODALITIES, Question, process
from glint.errors import ArchiveError, GlintError

Tell = Callable[[str], None]


def watch(
    archive: Archive,
    journal: Journal,
    question: Question,
    *,
    every_s: float,
    polls: int = 0,
    since: str = "",
    tell: Tell,
) -> None:
    """Ask the archive for studies again and again, and process those that are new and complete.

    A study is taken as complete when it has as many images as at the poll before.

    Args:
        archive: Where studies arrive and results go.
        journal: Which studies are dealt with.
        question: What is asked.
        every_s: Pause between polls.
        polls: End after so many; 0 never ends.
        since: First StudyDate, YYYYMMDD; "" for all.
        tell: Takes a line of news; no values of a patient.
    """
    counts: dict[str, int] = {}
    number = 0
    while True:
        number += 1
        try:
            studies = _list(archive, since)
        except GlintError as error:
            tell(f"archive: {error.code}: {error.what}")
            studies = []
        open_studies = [study for study in studies if not journal.ended(study.uid)]
        for study in open_studies:
            if counts.get(study.uid) == study.instances:
                _one(archive, journal, question, study, tell)
        if studies:
            counts = {study.uid: study.instances for study in open_studies}
        if number == polls:
            return
        time.sleep(every_s)


def _list(archive: Archive, since: str) -> list[Study]:
    found: dict[str, Study] = {}
    for modality in MODALITIES:
        found |= {study.uid: study for study in archive.studies(modality=modality, since=since)}
    return list(found.values())


def _one(archive: Archive, journal: Journal, question: Question, study: Study, tell: Tell) -> None:
    """Process one study and note how it ended; nothing that it does ends the watch."""
    name = f"study {key_of(study.uid)[:12].upper()}"
    if journal.tries(study.uid) >= MAX_TRIES:
        journal.note(study.uid, "failed", code="GL900", why="given up after several tries")
        tell(f"{name}: given up after {MAX_TRIES} tries")
        return
    journal.note(study.uid, "begin")
    try:
        count = process(archive, study.uid, question)
    except ArchiveError as error:
        if not error.transient:
            journal.note(study.uid, "failed", code=error.code, why=error.what)
        tell(f"{name}: {error.code}: {error.what}" + (", tried again later" if error.transient else ""))
    except GlintError as error:
        journal.note(study.uid, "failed", code=error.code, why=error.what)
        tell(f"{name}: {error.code}: {error.what}")
    except Exception as error:  # noqa: BLE001 - one bad study must not end the watch
        journal.note(study.uid, "failed", code=GlintError.code, why=type(error).__name__)
        tell(f"{name}: {GlintError.code}: {type(error).__name__}")
    else:
        journal.note(study.uid, "done", results=count)
        tell(f"{name}: {count} results stored")
