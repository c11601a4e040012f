"""Archives: ZIP, tar and gzipped tar. Files are read in place, by number and never by name; links are left out."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, BinaryIO, Literal

from glint.errors import DataError
from glint.io.limits import MAX_EXPANSION, MAX_FILES

Kind = Literal["zip", "tar", "tar.gz", ""]
GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
HEAD_BYTES = 512
"""So many first bytes tell an archive from all else."""
PACKING = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in an archive.

    Attributes:
        size: Bytes, unpacked, as the archive says.
        open: Returns a stream at its first byte.
    """

    size: int
    open: Callable[[], IO[bytes]]


def kind_of(head: bytes, unpacked: Callable[[], bytes]) -> Kind:
    """Say what kind of archive a file is, by its content.

    Args:
        head: Its first HEAD_BYTES.
        unpacked: Returns as many of what is in it, for a gzipped one.
    """
    if head.startswith(ZIP):
        return "zip"
    if head.startswith(GZIP):
        return "tar.gz" if _is_tar(unpacked()) else ""
    return "tar" if _is_tar(head) else ""


def entries(kind: Kind, stream: BinaryIO, limit: int, where: str) -> list[Entry]:
    """Return the files of an archive, in the order of their names; one more than MAX_FILES when there are too many.

    Args:
        kind: See `kind_of`.
        stream: At its first byte; stays open.
        limit: So many bytes may come out of it.
        where: For messages.

    Raises:
        DataError: A bomb.
        Exception: Damaged, encrypted, or packed in another way; whatever the libraries raise.
    """
    if kind == "tar.gz":
        # A gzipped file can only be read from its start: once, instead of once a member.
        stream = _unpacked(stream, limit, where)
    found = _zip_entries(stream) if kind == "zip" else _tar_entries(stream)
    # Entries may share their packed bytes, so that each one looks harmless: the sum counts.
    if sum(entry.size for entry in found) > limit:
        raise _bomb(where)
    return found


def _zip_entries(stream: BinaryIO) -> list[Entry]:
    archive = zipfile.ZipFile(stream)
    found: list[Entry] = []
    for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
        if not entry.is_dir():
            found.append(Entry(entry.file_size, lambda entry=entry: _open_packed(archive, entry)))
        if len(found) > MAX_FILES:
            break
    return found


def _open_packed(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> IO[bytes]:
    if entry.flag_bits & 1 or entry.compress_type not in PACKING:
        raise ValueError("encrypted, or packed in another way")
    return archive.open(entry)


def _tar_entries(stream: BinaryIO) -> list[Entry]:
    archive = tarfile.TarFile(fileobj=stream)
    members: list[tarfile.TarInfo] = []
    for count, member in enumerate(archive):
        if member.isreg():
            members.append(member)
        if count > MAX_FILES:
            return [Entry(0, io.BytesIO)] * (MAX_FILES + 1)
    # tarfile takes a damaged header for the end of the archive, and slices would be missing without a word.
    stream.seek(archive.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE) or any(m.size < 0 for m in members):
        raise ValueError("no end of archive")
    members.sort(key=lambda member: member.name)
    return [Entry(member.size, lambda member=member: _open_member(archive, member)) for member in members]


def _open_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(member)
    if stream is None:
        raise ValueError("no file")
    return stream


def _unpacked(stream: BinaryIO, limit: int, where: str) -> BinaryIO:
    whole = io.BytesIO()
    with gzip.GzipFile(fileobj=stream) as packed:
        while part := packed.read(CHUNK):
            if whole.tell() + len(part) > limit:
                raise _bomb(where)
            whole.write(part)
    whole.seek(0)
    return whole


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def _bomb(where: str) -> DataError:
    return DataError(
        "the archive unpacks to more than any scan does",
        where=where,
        expected=f"at most {MAX_EXPANSION} times its size",
    )
