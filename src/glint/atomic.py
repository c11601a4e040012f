"""Files that appear whole or not at all, for every layer: errors stay OSError, the caller says what they mean."""

import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}\.part(\.[^.]+)?")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in the same folder, then rename it to `path`.

    The folder is made if need be. After any error the old file, if there was one, is as before and the temporary
    one is gone.

    Args:
        path: File to write or replace.
        write: Makes the content under the path it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part(path)
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text as write_whole does, with the line ends it has."""
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8", newline="\n"))


def sync(path: Path) -> None:
    """Force a file or folder to disk; a rename is only atomic for what is there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_leftover(path: Path) -> bool:
    """Say whether a file is what a process that was killed while writing left behind; it may be removed."""
    return _LEFTOVER.fullmatch(path.name) is not None


def _part(path: Path) -> Path:
    """Return a hidden sibling: random, as processes of other machines may share the folder.

    The suffix stays last, because some writers choose the format by it or add it where it is missing.
    """
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
