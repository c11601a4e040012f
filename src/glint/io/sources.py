"""Where bytes come from: a file, a file in a folder, or a member of an archive (archives.py), also of a nested one.

Nothing is unpacked to disk, and no name found in a folder or an archive is opened as a path or shown: such names
often hold the patient's. Messages count instead ("file 17 of 212", in the order of names).
"""

import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, BinaryIO

from glint.errors import DataError
from glint.io.archives import GZIP, HEAD_BYTES, Kind, entries, kind_of
from glint.io.damage import Refusing
from glint.io.limits import FREE_BYTES, MAX_EXPANSION, MAX_FILES, MAX_VOLUME_FILE_BYTES, check_readable

MAX_DEPTH = 3
"""Archives in archives in archives: exports of archives come as such."""
PACKED_HEAD_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Source:
    """Bytes that can be read any number of times.

    Attributes:
        shown: How messages name it: what the user typed, and a number for what lies below.
        path: The file, or the outermost archive.
        size: Bytes.
        member: Opens the member of an archive; None for a plain file.
    """

    shown: str
    path: Path
    size: int
    member: Callable[[], IO[bytes]] | None = None

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
        with _whole(self.shown), self.member() as stream:
            return io.BytesIO(stream.read(self.size))

    def head(self, count: int) -> bytes:
        """Return the first bytes."""
        if self.member is None:
            with self.path.open("rb") as stream:
                return stream.read(count)
        with _whole(self.shown), self.member() as stream:
            return stream.read(min(count, self.size))


def is_archive(path: Path) -> bool:
    """Say whether a file is a ZIP or tar archive, by its content."""
    return path.is_file() and bool(_archive_kind(Source.of(path)))


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
        check_readable(path, "an image file, a folder or an archive", "scan", MAX_VOLUME_FILE_BYTES)
        found = [Source.of(path)]
    flat = [item for source in found for item in _flat(source, 1)]
    _check_count(len(flat), str(path))
    return flat


def _flat(source: Source, depth: int) -> Iterator[Source]:
    """Yield a source, or, when it is an archive, all that is in it."""
    kind = _archive_kind(source)
    if not kind:
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
        found = entries(kind, source.open(), max(FREE_BYTES, MAX_EXPANSION * source.size), source.shown)
    _check_count(len(found), source.shown)
    for n, entry in enumerate(found, 1):
        shown = _nth(source.shown, n, len(found))
        yield from _flat(Source(shown, source.path, entry.size, entry.open), depth + 1)


def _archive_kind(source: Source) -> Kind:
    def unpacked() -> bytes:
        try:
            return unpacked_head(source, HEAD_BYTES)
        except DataError:
            return b""  # its reader says what is wrong with it

    return kind_of(source.head(HEAD_BYTES), unpacked) if source.size else ""


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
        expected="a tar or ZIP archive without a password, ZIP stored or deflated",
        fix="copy it again, or unpack it",
    )


def unpacked_head(source: Source, count: int) -> bytes:
    """Return the first bytes, unpacked when the file is gzipped; cheap whatever the file is.

    Raises:
        DataError: The packed data are damaged.
    """
    head = source.head(count)
    if not head.startswith(GZIP):
        return head
    # Python's gzip reads a file name in the header byte by byte, and that may have no end.
    with Refusing("the file is damaged or cut short", source.shown, expected="a whole file"):
        unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
        found = unpacker.decompress(source.head(PACKED_HEAD_BYTES), count)
        if len(found) < count and not unpacker.eof and source.size <= PACKED_HEAD_BYTES:
            raise EOFError("the packed data have no end")
        return found
