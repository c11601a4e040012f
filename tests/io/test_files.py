"""Output files appear whole or not at all."""

from pathlib import Path

import pytest

from glint.errors import UsageError
from glint.io.files import check_output, make_folder, write_output


def test_write_output__full_disk_is_an_error_of_ours(tmp_path: Path) -> None:
    def fail(part: Path) -> None:
        part.write_text("half")
        raise OSError(28, "No space left on device")

    target = tmp_path / "out.txt"
    with pytest.raises(UsageError, match="output file cannot be written: No space left") as caught:
        write_output(target, fail)
    assert caught.value.where == str(target)
    assert not list(tmp_path.iterdir())


def test_write_output__folder_that_cannot_be_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="output file cannot be written"):
        write_output(tmp_path / "file" / "out.txt", lambda part: part.write_text("new"))


def test_check_output__says_what_is_wrong(tmp_path: Path) -> None:
    image = tmp_path / "in.png"
    image.touch()
    (tmp_path / "dir.png").mkdir()
    for path, words in {
        tmp_path / "x.jpg": "end in .png",
        tmp_path / "dir.png": "folder",
        tmp_path / "no" / "x.png": "does not exist",
        image: "overwrite",
    }.items():
        with pytest.raises(UsageError, match=words):
            check_output(path, ".png", image)
    check_output(tmp_path / "new.png", ".png", image)


def test_make_folder__refuses_a_file(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError):
        make_folder(tmp_path / "file")
