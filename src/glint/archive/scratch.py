"""Private folders for what is fetched; those that a killed process left behind are swept at the next start."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR

PREFIX, LOCK = "glint-archive-", "lock"


@contextmanager
def scratch() -> Generator[Path]:
    """Give an empty folder that only we can read, and that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name, (Path(name) / LOCK).open("wb") as lock:
        # The system opens the lock when this process ends, however it ends; children do not inherit it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        images = Path(name) / "images"
        images.mkdir()
        yield images


def sweep() -> int:
    """Remove the folders of processes that are gone, and return how many there were.

    Only folders that `scratch` made for this user: others, links, and those of living processes stay.
    """
    count = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            count += _remove_abandoned(folder)
    return count


def _remove_abandoned(folder: Path) -> bool:
    """Remove one folder.

    Raises:
        OSError: It is none of ours, or its process lives.
    """
    found = folder.lstat()
    if not S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return False
    handle = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    finally:
        os.close(handle)
    return True
