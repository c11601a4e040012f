"""Output files appear whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path

from glint.errors import UsageError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in the same folder, then rename it to `path`.

    Raises:
        UsageError: The folder does not exist or cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            write(part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"the output file cannot be written: {error.strerror or type(error).__name__}",
            where=str(path),
            fix="choose another output path, or free some space",
        ) from error


def check_output(path: Path, suffix: str, image: Path | None = None) -> None:
    """Refuse an output path that cannot work, before any time is spent.

    Args:
        path: Where a file shall be written.
        suffix: Ending it must have, e.g. ".png".
        image: Input that must not be overwritten.

    Raises:
        UsageError: Wrong ending, a folder, no such folder, or the input itself.
    """
    what, fix = "", ""
    if path.suffix.lower() != suffix:
        what, fix = f"the output file must end in {suffix}", f"write {path.with_suffix(suffix).name}"
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
