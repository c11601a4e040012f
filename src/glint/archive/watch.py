"""A watch over an archive: every new study is answered once, whatever is killed in between.

The order makes it so: "begin" is in the journal, then the results are stored, then "done" is in the journal. After a
crash in between, a study is done again with the same UIDs, and the archive has each result once.

Nothing blocks: a study that cannot be used is noted and left. One at which the process ended (killed, or out of memory:
nobody can tell) comes last at the next start, and is left after several times. A failing archive is waited for.
"""

import time
from collections.abc import Callable

from glint.archive.client import Archive, Study
from glint.archive.images import MODALITIES
from glint.archive.journal import Journal
from glint.archive.studies import Question, process
from glint.errors import ArchiveError, GlintError
from glint.io.phi import alias

Tell = Callable[[str], None]
MAX_CRASHES = 5
"""Ends of the process at one study after which it is left."""
MAX_PAUSE = 64
"""Most polls between two tries of a study for which the archive fails."""


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
    due: dict[str, int] = {}
    number = 0
    while True:
        number += 1
        try:
            studies = _list(archive, since)
        except GlintError as error:
            tell(f"archive: {error.code}: {error.what}")
            studies = []
        open_studies = [study for study in studies if not journal.ended(study.uid)]
        for study in sorted(open_studies, key=lambda study: journal.begun(study.uid)):
            complete = counts.get(study.uid) == study.instances
            if (
                complete
                and number >= due.get(study.uid, 0)
                and not _one(archive, journal, question, study, tell)
            ):
                due[study.uid] = number + min(2 ** (journal.begun(study.uid) - 1), MAX_PAUSE)
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


def _one(archive: Archive, journal: Journal, question: Question, study: Study, tell: Tell) -> bool:
    """Process one study and note how it ended, whatever happens; return False when it has to be tried again."""
    name = alias(study.uid)
    if journal.crashes(study.uid) >= MAX_CRASHES:
        journal.note(study.uid, "failed", code=GlintError.code, why=f"the process ended {MAX_CRASHES} times")
        tell(f"{name}: left, because the process ended at it {MAX_CRASHES} times")
        return True
    journal.note(study.uid, "begin")
    try:
        count, left = process(archive, study.uid, question)
    except GlintError as error:
        again = isinstance(error, ArchiveError) and error.transient
        journal.note(study.uid, "later" if again else "failed", code=error.code, why=error.what)
        tell(f"{name}: {error.code}: {error.what}" + (", tried again later" if again else ""))
        return not again
    except Exception as error:  # noqa: BLE001 - one bad study must not end the watch
        journal.note(study.uid, "failed", code=GlintError.code, why=type(error).__name__)
        tell(f"{name}: {GlintError.code}: {type(error).__name__}")
    else:
        journal.note(study.uid, "done", results=count, **({"left": left} if left else {}))
        tell(f"{name}: {count} results stored" + "".join(f", left out: {reason}" for reason in left))
    return True
