"""Output files that a user names: checked early, written whole, errors told in our words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glint.atomic import write_whole
from glint.errors import UsageError


def write_output(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make an output file, whole or not at all (see glint.atomic.write_whole).

    Raises:
        UsageError: The file cannot be written.
    """
    try:
        write_whole(path, write)
    except OSError as error:
        raise UsageError(
            f"the output file cannot be written: {error.strerror or type(error).__name__}",
            where=str(path),
            fix="choose another output path, or free some space",
        ) from error


def check_output(path: Path, suffix: str | tuple[str, ...], image: Path | None = None) -> None:
    """Refuse an output path that cannot work, before any time is spent.

    Args:
        path: Where a file shall be written.
        suffix: Ending it must have, e.g. ".png", or several of which it must have one.
        image: Input that must not be overwritten.

    Raises:
        UsageError: Wrong ending, a folder, no such folder, or the input itself.
    """
    what, fix = "", ""
    endings = (suffix,) if isinstance(suffix, str) else suffix
    if not path.name.lower().endswith(endings):
        what = f"the output file must end in {' or '.join(endings)}"
        fix = f"write {path.with_suffix(endings[0]).name}"
    elif path.is_dir():
        what, fix = "the output path is a folder", "add a file name"
    elif not path.parent.is_dir():
        what, fix = "the folder of the output file does not exist", f"mkdir -p {path.parent}"
    elif image is not None and path.exists() and image.exists() and path.samefile(image):
        what, fix = "the output would overwrite the input image", "choose another output path"
    if what:
        raise UsageError(what, where=str(path), fix=fix)


def make_folder(path: Path) -> None:
    """Make an output folder; an existing one is fine.

    Raises:
        UsageError: A file is in the way, or the folder cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the output folder cannot be made: {error.strerror or type(error).__name__}",
            where=str(path),
            fix="choose another output folder",
        ) from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write what `--json` prints to a file.

    Raises:
        UsageError: Another ending than .json, or the path cannot be written.
    """
    check_output(path, ".json")
    text = json.dumps(content, indent=2) + "\n"
    write_output(path, lambda part: part.write_text(text, encoding="utf-8"))
