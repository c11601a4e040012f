"""Folders and archives: what is in them is found whatever it is called, bombs are refused, names are not shown."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from glint.errors import DataError
from glint.io.contents import contents
from glint.io.radiograph import read_radiograph
from glint.io.sources import sources
from glint.io.volume import read_volume
from glint.io.volume_nifti import write_nifti
from glint.io.voxel_grid import VoxelGrid

NAME = "DOE^JOHN"


def tarred(files: dict[str, bytes], mode: Any = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo("x")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    return stream.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.fixture
def nifti(tmp_path: Path, scan: NDArray[np.int16]) -> bytes:
    path = tmp_path / "scan.nii.gz"
    write_nifti(path, scan, VoxelGrid(scan.shape, np.diag([2.5, 0.8, 0.7, 1.0])[[2, 1, 0, 3]]))
    return path.read_bytes()


@pytest.fixture
def png(chest: NDArray[np.uint16]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray((chest // 16).astype(np.uint8)).save(stream, format="PNG")
    return stream.getvalue()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_archive__a_scan_in_nested_archives_equals_the_scan(
    tmp_path: Path, scan: NDArray[np.int16], nifti: bytes, depth: int
) -> None:
    packed = zipped({f"{NAME}/a.nii.gz": nifti, "notes.txt": b"text"})
    for _ in range(depth - 1):
        packed = zipped({f"{NAME}.zip": packed})
    path = tmp_path / "study.zip"
    path.write_bytes(packed)
    found = read_volume(path)
    assert (found.hu == scan).all()
    assert found.provenance.notes == ("1 files are no images",)
    folder = tmp_path / "folder"
    folder.mkdir()
    path.rename(folder / "x")
    assert (read_volume(folder).hu == scan).all()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar__a_scan_in_it_equals_the_scan_and_links_are_left_out(
    tmp_path: Path, scan: NDArray[np.int16], nifti: bytes, mode: str
) -> None:
    packed = tarred({f"../../{NAME}/a.nii.gz": nifti, "/etc/notes.txt": b"text"}, mode)
    for content in (packed, zipped({"a.tar": packed}), tarred({"a": packed}, "w:gz")):
        path = tmp_path / "study"
        path.write_bytes(content)
        found = read_volume(path)
        assert (found.hu == scan).all()
        assert found.provenance.notes == ("1 files are no images",)
    assert [file.name for file in tmp_path.iterdir() if file.name != "scan.nii.gz"] == ["study"]


def damaged_tar(png: bytes, what: str) -> bytes:
    whole = tarred({"a.png": png, "b.png": png})
    second = whole.index(b"b.png")
    changed = bytearray(whole)
    changed[second + 3] ^= 1
    return {
        "in a file": whole[: second - 600],
        "between files": whole[:second],
        "before the end": whole[: whole.rindex(b"ustar") + 255],
        "header": bytes(changed),
        "gzip": gzip.compress(whole, 0)[:-2000],
    }[what]


@pytest.mark.parametrize("what", ["in a file", "between files", "before the end", "header", "gzip"])
def test_tar__that_is_damaged_says_so(tmp_path: Path, png: bytes, what: str) -> None:
    """Files behind the damage would be missing without a word."""
    (tmp_path / "a.tar").write_bytes(damaged_tar(png, what))
    with pytest.raises(DataError, match="archive is damaged, cut short"):
        sources(tmp_path / "a.tar")


def test_tar__a_bomb_or_too_many_files_are_refused(tmp_path: Path, png: bytes, monkeypatch: Any) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(tarred({"a": bytes(70 << 20)}), 6))
    with pytest.raises(DataError, match="unpacks to more"):
        sources(tmp_path / "a")
    monkeypatch.setattr("glint.io.archives.MAX_FILES", 3)
    monkeypatch.setattr("glint.io.sources.MAX_FILES", 3)
    for content in (tarred({str(n): b"x" for n in range(5)}), zipped({str(n): b"x" for n in range(5)})):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(DataError, match="4 files"):
            sources(tmp_path / "a")


def test_gzip__with_a_name_that_has_no_end_is_seen_at_once(tmp_path: Path) -> None:
    """Python's own reader takes such a name byte by byte."""
    (tmp_path / "a.gz").write_bytes(b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * (40 << 20))
    with pytest.raises(DataError):
        read_volume(tmp_path / "a.gz")
    assert len(sources(tmp_path / "a.gz")) == 1


def test_archive__deeper_than_three_is_refused(tmp_path: Path, png: bytes) -> None:
    packed = zipped({"a.png": png})
    for _ in range(3):
        packed = zipped({"a.zip": packed})
    (tmp_path / "a.zip").write_bytes(packed)
    with pytest.raises(DataError, match="archives in archives"):
        sources(tmp_path / "a.zip")


def test_archive__mixed_images_are_listed_and_chosen(tmp_path: Path, png: bytes, nifti: bytes) -> None:
    path = tmp_path / "mixed.zip"
    other = np.random.default_rng(0).integers(0, 255, (50, 40)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(other).save(stream, format="JPEG")
    path.write_bytes(zipped({f"{NAME}.png": png, f"{NAME}.jpg": stream.getvalue(), "ct.nii.gz": nifti}))
    there = contents(path)
    items = there.items
    assert sorted((item.kind, item.reader) for item in items) == [
        ("JPEG", "radiograph"),
        ("NIfTI", "volume"),
        ("PNG", "radiograph"),
    ]
    assert there.others == 0
    assert read_volume(path).hu.shape == (20, 26, 32)
    with pytest.raises(DataError, match="2 radiographs") as caught:
        read_radiograph(path)
    assert NAME not in caught.value.message()
    for item in items:
        assert item.text in caught.value.expected
        for key in (item.alias, str(item.number)) if item.reader == "radiograph" else ():
            shape = (90, 80) if item.kind == "PNG" else (50, 40)
            assert read_radiograph(path, series=key).pixels.shape == shape
    with pytest.raises(DataError, match="no radiograph"):
        read_radiograph(path, series=next(item.alias for item in items if item.kind == "NIfTI"))


def test_archive__the_only_radiograph_is_read(tmp_path: Path, png: bytes) -> None:
    (tmp_path / "plain.png").write_bytes(png)
    (tmp_path / "one.zip").write_bytes(zipped({f"../../{NAME}.png": png, "/etc/notes": b"text"}))
    image = read_radiograph(tmp_path / "one.zip")
    assert (image.pixels == read_radiograph(tmp_path / "plain.png").pixels).all()
    assert image.source == tmp_path / "one.zip"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.zip", "plain.png"]


def test_archive__errors_count_files_and_do_not_name_them(tmp_path: Path, png: bytes) -> None:
    path = tmp_path / "bad.zip"
    path.write_bytes(zipped({"a.txt": b"x", f"{NAME}.png": png[:200]}))
    with pytest.raises(DataError) as caught:
        read_radiograph(path)
    assert caught.value.where == f"{path} (file 1 of 2)"
    assert NAME not in caught.value.message()


def overlapping(count: int) -> bytes:
    """Every entry of the directory points at the same packed bytes."""
    whole = zipped({"a": bytes(9 << 20)})
    start = whole.index(b"PK\1\2")
    entry, end = whole[start : whole.index(b"PK\5\6")], whole[whole.index(b"PK\5\6") :]
    patched = bytearray(end)
    patched[8:12] = count.to_bytes(2, "little") * 2
    patched[12:16] = (count * len(entry)).to_bytes(4, "little")
    return whole[:start] + entry * count + bytes(patched)


@pytest.mark.parametrize(
    "content", [zipped({"a": bytes(300 << 20)}), overlapping(200)], ids=["one", "overlap"]
)
def test_archive__a_bomb_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bomb.zip").write_bytes(content)
    with pytest.raises(DataError, match="unpacks to more"):
        sources(tmp_path / "bomb.zip")


def change(whole: bytes, kind: str) -> bytes:
    if kind == "cut":
        return whole[: len(whole) // 2]
    directory = bytearray(whole)
    at = whole.index(b"PK\1\2")
    directory[at + 8] |= kind == "encrypted"
    directory[at + 10] = 14 if kind == "lzma" else directory[at + 10]
    return bytes(directory)


@pytest.mark.parametrize("kind", ["cut", "encrypted", "lzma"])
def test_archive__what_cannot_be_unpacked_says_so(tmp_path: Path, png: bytes, kind: str) -> None:
    (tmp_path / "a.zip").write_bytes(change(zipped({"a.png": png}), kind))
    with pytest.raises(DataError, match="archive is damaged, cut short, encrypted"):
        read_radiograph(tmp_path / "a.zip")


def test_folder__too_many_files_are_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("glint.io.sources.MAX_FILES", 3)
    for n in range(4):
        (tmp_path / str(n)).write_bytes(b"x")
    with pytest.raises(DataError, match="4 files"):
        sources(tmp_path)
