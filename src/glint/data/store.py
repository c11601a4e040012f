"""Folders of decoded images: built once, recognised by what they were built from, there whole or not at all."""

import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
INDEX = "index.json"
MIN_PER_WORKER = 16


def cache_root(manifest: Path) -> Path:
    """Return the folder for caches: beside the manifest, or under GLINT_HOME where that cannot be written."""
    if os.access(manifest.parent, os.W_OK):
        return manifest.parent / ".glint-cache"
    home = Path(os.environ.get("GLINT_HOME") or Path.home() / ".cache" / "glint")
    return home / "images" / hashlib.sha256(str(manifest.resolve()).encode()).hexdigest()[:12]


def content_key(settings: str, images: Iterable[tuple[str, Path]]) -> str:
    """Return 16 hex digits that change with the settings and with the files of the (study id, image) pairs."""
    digest = hashlib.sha256(settings.encode())
    for study_id, image in images:
        for file in sorted(image.iterdir()) if image.is_dir() else [image]:
            stat = file.stat()
            digest.update(f"|{study_id}|{file.name}|{stat.st_size}|{stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def stored(root: Path, prefix: str, key: str, build: Callable[[Path], None]) -> Path:
    """Return the folder ROOT/PREFIX-KEY, built if it is not there; older ones with the same prefix are removed.

    Args:
        root: Folder of caches.
        prefix: What the folder holds.
        key: What it was made from (`content_key`).
        build: Fills a temporary folder, `index.json` last; the folder then appears by one rename.
    """
    folder = root / f"{prefix}-{key}"
    if (folder / INDEX).is_file():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.tmp-", dir=root))
    try:
        build(temporary)
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / INDEX).is_file():  # else another process was first, with the same content
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in root.glob(f"{prefix}-*"):
        if old != folder and ".tmp" not in old.name:
            shutil.rmtree(old, ignore_errors=True)
    return folder


def decode_all(images: Sequence[Path], decode: Callable[[Path], T], workers: int) -> Iterator[T]:
    """Yield decoded images in order.

    Threads decode: codecs work outside the interpreter lock, and processes would need a guarded main script.

    Args:
        images: Files.
        decode: Reads one of them.
        workers: Threads; 0 means one per core.
    """
    count = workers or min(os.cpu_count() or 1, len(images) // MIN_PER_WORKER)
    if count < 2:
        yield from map(decode, images)
        return
    # Readers silence library warnings for a moment, which is not thread-safe: this puts the filters back for certain.
    with warnings.catch_warnings(), ThreadPoolExecutor(count) as pool:
        yield from pool.map(decode, images)
