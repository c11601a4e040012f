"""Files appear whole or not at all."""

from collections.abc import Callable
from pathlib import Path

import pytest

from glint.atomic import is_leftover, write_text, write_whole


def half(part: Path) -> None:
    """Write something, then fail as a full disk would."""
    part.write_text("half")
    raise OSError(28, "No space left on device")


def interrupted(part: Path) -> None:
    """Write something, then be stopped by Ctrl-C."""
    part.write_text("half")
    raise KeyboardInterrupt


def test_write_whole__replaces_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")

    def write(part: Path) -> None:
        part.write_bytes(b"new")
        assert target.read_bytes() == b"old"
        assert part.parent == target.parent, "a rename is atomic inside one file system only"

    write_whole(target, write)
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("write", "error"), [(half, OSError), (interrupted, KeyboardInterrupt)])
@pytest.mark.parametrize("before", [None, "old"])
def test_write_whole__error_leaves_the_folder_as_it_was(
    tmp_path: Path, write: Callable[[Path], None], error: type[BaseException], before: str | None
) -> None:
    target = tmp_path / "out.txt"
    if before is not None:
        target.write_text(before)
    with pytest.raises(error):
        write_whole(target, write)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == (
        {} if before is None else {"out.txt": before}
    )


def test_write_whole__failed_rename_leaves_no_temporary_file(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(OSError, match="folder"):
        write_whole(target, lambda part: part.write_text("new"))
    assert list(tmp_path.iterdir()) == [target]


def test_write_whole__makes_the_folder(tmp_path: Path) -> None:
    write_whole(tmp_path / "a" / "b" / "out.txt", lambda part: part.write_text("new"))
    assert (tmp_path / "a" / "b" / "out.txt").read_text() == "new"


@pytest.mark.parametrize("name", ["mask.png", "model.safetensors", "set.v2.parquet", "README"])
def test_write_whole__temporary_name_is_hidden_and_keeps_the_suffix(tmp_path: Path, name: str) -> None:
    seen: list[Path] = []

    def write(part: Path) -> None:
        seen.append(part)
        part.touch()

    write_whole(tmp_path / name, write)
    if "." in name:
        assert seen[0].suffix == Path(name).suffix
    assert seen[0].name.startswith(".")


def test_write_whole__writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"

    def write(part: Path) -> None:
        part.write_text("first")
        write_whole(target, lambda other: other.write_text("second"))
        assert target.read_text() == "second"

    write_whole(target, write)
    assert target.read_text() == "first"


def test_write_text__is_utf8_with_its_own_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "out.txt", "Größe\r\n2 µm\n")
    assert (tmp_path / "out.txt").read_bytes() == "Größe\r\n2 µm\n".encode()


def test_write_text__error_leaves_the_old_text(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(target, "\ud800")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["table.parquet", "LICENSE", "a.b.dcm"])
def test_is_leftover__knows_the_temporary_name_and_no_other(tmp_path: Path, name: str) -> None:
    seen: list[Path] = []
    write_whole(tmp_path / name, lambda part: (seen.append(part), part.write_text("x")))
    assert is_leftover(seen[0])
    assert not is_leftover(tmp_path / name)
    assert not is_leftover(tmp_path / f".{name}")
