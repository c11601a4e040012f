"""Files from elsewhere: the same result as in this process; bombs, crashes and hangs end as errors."""

import gzip
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from glint.errors import DataError, GlintError
from glint.io import untrusted
from glint.io.radiograph import read_radiograph
from glint.io.volume import read_volume
from glint.io.volume_nifti import write_nifti
from glint.io.voxel_grid import VoxelGrid

Save = Callable[..., Path]
DEFLATED, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
MIB = 1 << 20


def test_radiograph__is_the_same_as_in_this_process(save: Save, chest: NDArray[np.uint16]) -> None:
    path = save(chest)
    ours, theirs = read_radiograph(path), untrusted.read_radiograph(path)
    assert (ours.pixels == theirs.pixels).all()
    assert (ours.spacing_mm, ours.notes, ours.source) == (theirs.spacing_mm, theirs.notes, theirs.source)


def test_volume__is_the_same_as_in_this_process(tmp_path: Path, scan: NDArray[np.int16]) -> None:
    path = tmp_path / "scan.nii"
    scan[:, :3] = -3000
    write_nifti(path, scan, VoxelGrid(scan.shape, np.diag([2.5, 0.8, 0.7, 1.0])[[2, 1, 0, 3]]))
    ours, theirs = read_volume(path), untrusted.read_volume(path)
    assert ours.valid is not None
    assert theirs.valid is not None
    assert (ours.hu == theirs.hu).all()
    assert (ours.valid == theirs.valid).all()
    assert (ours.affine == theirs.affine).all()
    assert ours.provenance == theirs.provenance
    assert theirs.hu.flags.writeable


def test_errors__are_the_same_as_in_this_process(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("text")
    for name in ("notes", "missing"):
        with pytest.raises(DataError) as ours:
            read_radiograph(tmp_path / name)
        with pytest.raises(DataError) as theirs:
            untrusted.read_radiograph(tmp_path / name)
        assert ours.value.message() == theirs.value.message()


def bombs(folder: Path, save: Save, chest: NDArray[np.uint16]) -> dict[str, Path]:
    """The three files that took gigabytes from the libraries themselves."""
    deflated = save(chest, DEFLATED)
    head = deflated.read_bytes()
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    with deflated.open("wb") as stream:
        stream.write(head[: 144 + int.from_bytes(head[140:144], "little")])
        for _ in range(128):
            stream.write(packer.compress(bytes(MIB)))
        stream.write(packer.flush())
    rle = save(chest[:40, :40], RLE, lambda _: b"\1\0\0\0\x40" + bytes(59) + b"\x81\0\0")
    nifti = folder / "zeros.nii.gz"
    affine = np.diag([1.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]
    write_nifti(folder / "small.nii", np.zeros((8, 8, 8), np.int16), VoxelGrid((8, 8, 8), affine))
    header = bytearray((folder / "small.nii").read_bytes()[:352])
    for at, side in ((42, 1024), (44, 1024), (46, 512)):
        header[at : at + 2] = side.to_bytes(2, "little")
    with gzip.open(nifti, "wb", compresslevel=1) as stream:
        stream.write(bytes(header))
        for _ in range(128):
            stream.write(bytes(MIB))
    huge = save(chest, RLE, lambda _: b"\1\0\0\0\x40" + bytes(59) + b"\x81\0\0", Rows=65535, Columns=65535)
    return {"deflated": deflated, "rle": rle, "rle huge": huge, "nifti": nifti}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_bombs__are_refused_before_they_unpack(tmp_path: Path, save: Save, chest: NDArray[np.uint16]) -> None:
    """In this process, so that the headers refuse them and not the limits of a child: 200 MiB are enough."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom glint.errors import DataError\n"
        "from glint.io.radiograph import read_radiograph\nfrom glint.io.volume import read_volume\n"
        "for name in sys.argv[1:]:\n    for reader in (read_radiograph, read_volume):\n"
        "        try:\n            reader(Path(name))\n            print('read', name)\n"
        "        except DataError:\n            pass\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    paths = [str(path) for path in bombs(tmp_path, save, chest).values()]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert "read" not in done.stdout
    assert int(done.stdout) < 200 * 1024


def lying_jpeg(chest: NDArray[np.uint16]) -> bytes:
    """A JPEG 2000 codestream of 40,000 x 40,000 pixels in a few bytes."""
    code = bytearray(imagecodecs.jpeg2k_encode(chest, level=0, codecformat="j2k", reversible=True))
    code[8:16] = (40000).to_bytes(4, "big") * 2
    return bytes(code)


@pytest.mark.parametrize("syntax", ["90", "91", "201"])
def test_codestream__with_a_size_of_its_own_is_refused(
    save: Save, chest: NDArray[np.uint16], syntax: str
) -> None:
    path = save(chest, f"1.2.840.10008.1.2.4.{syntax}", lambda _: lying_jpeg(chest))
    with pytest.raises(DataError, match="cannot be decoded"):
        read_radiograph(path)


def limited(
    monkeypatch: Any, memory_bytes: int = untrusted.BASE_BYTES, cpu_s: int = untrusted.BASE_S
) -> None:
    limits = untrusted.Limits(memory_bytes, cpu_s)
    monkeypatch.setattr(untrusted.Limits, "of", lambda _path: limits)


def test_limits__too_much_memory_is_an_error(monkeypatch: Any, save: Save) -> None:
    path = save(np.random.default_rng(0).integers(0, 4000, (2000, 2000)).astype(np.uint16))
    limited(monkeypatch, memory_bytes=190 * MIB)
    with pytest.raises(DataError):
        untrusted.read_radiograph(path)


def test_limits__too_much_time_is_an_error(monkeypatch: Any, save: Save) -> None:
    path = save(np.random.default_rng(0).integers(0, 4000, (4000, 4000)).astype(np.uint16))
    limited(monkeypatch, cpu_s=1)
    monkeypatch.setattr(untrusted, "WAIT", 0)
    with pytest.raises(DataError, match="stopped after 1 s"):
        untrusted.read_radiograph(path)


def test_limits__grow_with_the_bytes_present(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(3 * MIB))
    (tmp_path / "b").write_bytes(bytes(MIB))
    assert untrusted.Limits.of(tmp_path) == untrusted.Limits(
        untrusted.BASE_BYTES + 64 * MIB, untrusted.BASE_S + 4
    )


@pytest.mark.parametrize("reply", [b"", b'{"arrays": []', b'{"arrays": [["hu", "<f4", [9, 9]]]}\n12'])
def test_reply__cut_short_or_damaged_is_an_error(monkeypatch: Any, tmp_path: Path, reply: bytes) -> None:
    """What a decoder that crashes leaves behind."""
    (tmp_path / "x").write_bytes(b"x")
    program = tmp_path / "python"
    program.write_text(
        f"#!{sys.executable}\nimport os\nos.read(0, 9999)\nos.write(1, {reply!r})\nos.abort()\n"
    )
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(DataError, match="crash of a decoder"):
        untrusted.read_radiograph(tmp_path / "x")


@pytest.mark.parametrize(
    "array", [["hu", "<f4", [1 << 20, 1 << 20]], ["hu", "|O8", [4]], ["hu", "<f4", [-1]]]
)
def test_reply__arrays_that_cannot_be_are_refused(monkeypatch: Any, tmp_path: Path, array: list[Any]) -> None:
    (tmp_path / "x").write_bytes(b"x")
    program = tmp_path / "python"
    program.write_text(
        f"#!{sys.executable}\nimport json, os\nos.read(0, 9999)\n"
        f"os.write(1, json.dumps({{'arrays': [{array!r}]}}).encode() + b'\\n' + bytes(99))\n"
    )
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(DataError):
        untrusted.read_radiograph(tmp_path / "x")


def test_bug__of_a_reader_is_told_without_its_words(monkeypatch: Any, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(GlintError, match="bug of GLINT: TypeError") as caught:
        untrusted.run("radiograph", tmp_path / "x", nonsense="SECRET")
    assert "SECRET" not in caught.value.message()


def test_environment__of_the_child_holds_no_token(monkeypatch: Any) -> None:
    monkeypatch.setenv("GLINT_TOKEN", "SECRET")
    assert "SECRET" not in str(untrusted._environment())


@pytest.mark.parametrize(
    "act",
    [
        "open('/etc/hostname')",
        "open(given + '/../b')",
        "open(given, 'ab')",
        "open(given + '/new', 'w')",
        "__import__('os').open(given, 1)",
        "__import__('socket').socket()",
        "__import__('subprocess').run(['true'])",
        "__import__('os').remove(given)",
    ],
)
def test_confined__process_opens_nothing_else(tmp_path: Path, act: str) -> None:
    for name in "ab":
        (tmp_path / name).write_text("x")
    code = (
        "import sys, os\nfrom pathlib import Path\nfrom glint.io.worker import confine\ngiven = sys.argv[1]\n"
        f"confine(Path(given))\nassert open(given).read() == 'x'\n{act}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a")],
        capture_output=True,
        text=True,
        env={**os.environ},
        check=False,
    )
    assert done.returncode == 1
    assert "PermissionError: a reader may not" in done.stderr
    assert (tmp_path / "a").read_text() == "x"
