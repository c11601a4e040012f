"""Where bytes come from: a file, a file in a folder, or a member of a ZIP archive, also of one inside another.

Nothing is unpacked to disk, and no name found in a folder or an archive is opened as a path or shown: such names
often hold the patient's. Messages count instead ("file 17 of 212", in the order of names).
"""

import gzip
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from glint.errors import DataError
from glint.io.damage import Refusing
from glint.io.limits import FREE_BYTES, MAX_EXPANSION, MAX_FILES, MAX_VOLUME_FILE_BYTES, check_readable

MAX_DEPTH = 3
"""Archives in archives in archives: exports of archives come as such."""
PACKING = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True, slots=True)
class Source:
    """Bytes that can be read any number of times.

    Attributes:
        shown: How messages name it: what the user typed, and a number for what lies below.
        path: The file, or the outermost archive.
        size: Bytes.
        member: The open archive and the entry of it, or None for a plain file.
    """

    shown: str
    path: Path
    size: int
    member: tuple[zipfile.ZipFile, zipfile.ZipInfo] | None = None

    @classmethod
    def of(cls, path: Path) -> "Source":
        """Take one ordinary file; call glint.io.limits first."""
        return cls(str(path), path, path.stat().st_size)

    def open(self) -> BinaryIO:
        """Return a stream at the first byte; a member of an archive is unpacked into memory.

        Raises:
            DataError: A member that is encrypted, damaged, or packed in a way that is not read.
            OSError: The file cannot be opened.
        """
        if self.member is None:
            return self.path.open("rb")
        archive, entry = self.member
        with _whole(self.shown), archive.open(entry) as stream:
            return io.BytesIO(stream.read(entry.file_size))

    def head(self, count: int) -> bytes:
        """Return the first bytes."""
        if self.member is None:
            with self.path.open("rb") as stream:
                return stream.read(count)
        archive, entry = self.member
        with _whole(self.shown), archive.open(entry) as stream:
            return stream.read(count)


def is_archive(path: Path) -> bool:
    """Say whether a file is a ZIP archive, by its first bytes."""
    if not path.is_file():
        return False
    return Source.of(path).head(4) == b"PK\3\4"


def sources(path: Path) -> list[Source]:
    """Return every file of a folder or an archive, in the order of names, or the one file that was given.

    Raises:
        DataError: Missing, too many files, or an archive that is damaged, encrypted or a bomb.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        _check_count(len(files), str(path))
        found = [
            replace(Source.of(file), shown=_nth(str(path), n, len(files))) for n, file in enumerate(files, 1)
        ]
    else:
        check_readable(path, "an image file, a folder or a ZIP archive", "scan", MAX_VOLUME_FILE_BYTES)
        found = [Source.of(path)]
    flat = [item for source in found for item in _flat(source, 1)]
    _check_count(len(flat), str(path))
    return flat


def _flat(source: Source, depth: int) -> Iterator[Source]:
    """Yield a source, or, when it is an archive, all that is in it."""
    if source.size < 4 or source.head(4) != b"PK\3\4":
        yield source
        return
    if depth > MAX_DEPTH:
        raise DataError(
            "the archive holds archives in archives",
            where=source.shown,
            expected=f"at most {MAX_DEPTH} levels",
            fix="unpack it",
        )
    with _whole(source.shown):
        archive = zipfile.ZipFile(source.path if source.member is None else source.open())
    entries = sorted((entry for entry in archive.infolist() if not entry.is_dir()), key=lambda e: e.filename)
    _check_count(len(entries), source.shown)
    # Entries may share their packed bytes, so that each one looks harmless: the sum counts.
    if sum(entry.file_size for entry in entries) > max(FREE_BYTES, MAX_EXPANSION * source.size):
        raise DataError(
            "the archive unpacks to more than any scan does",
            where=source.shown,
            expected=f"at most {MAX_EXPANSION} times its size",
        )
    for n, entry in enumerate(entries, 1):
        with _whole(source.shown):
            if entry.flag_bits & 1 or entry.compress_type not in PACKING:
                raise ValueError("encrypted, or packed in another way")
        shown = _nth(source.shown, n, len(entries))
        yield from _flat(Source(shown, source.path, entry.file_size, (archive, entry)), depth + 1)


def _nth(shown: str, n: int, count: int) -> str:
    return f"{shown} (file {n} of {count})"


def _check_count(count: int, where: str) -> None:
    if count > MAX_FILES:
        raise DataError(
            f"there are {count} files",
            where=where,
            expected=f"at most {MAX_FILES}",
            fix="name the folder or the archive of one study",
        )


def _whole(where: str) -> Refusing:
    return Refusing(
        "the archive is damaged, cut short, encrypted, or packed in a way that GLINT does not read",
        where,
        expected="a ZIP archive without a password, stored or deflated",
        fix="copy it again, or unpack it",
    )


def unpacked_head(source: Source, count: int) -> bytes:
    """Return the first bytes, unpacked when the file is gzipped.

    Raises:
        DataError: The packed data are damaged.
    """
    head = source.head(count)
    if not head.startswith(b"\x1f\x8b"):
        return head
    with (
        Refusing("the file is damaged or cut short", source.shown, expected="a whole file"),
        source.open() as packed,
        gzip.GzipFile(fileobj=packed) as stream,
    ):
        return stream.read(count)
