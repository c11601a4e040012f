"""SHA-256 of model files: recorded when a folder is written, compared when it is doubted."""

import hashlib
import re
from pathlib import Path

from glint.atomic import write_text
from glint.errors import UsageError, WeightsError

SUMS_FILE = "SHA256SUMS"  # the format of the command sha256sum: `sha256sum -c SHA256SUMS` works, too
# Official .pth files carry the first eight digits in their name: dinov3_vits16_pretrain_lvd1689m-08c60483.pth
NAMED = re.compile(r"-([0-9a-f]{8})\.(?:pth|pt|safetensors)$")


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_sums(folder: Path) -> None:
    """Record the sums of all files of a folder in SHA256SUMS."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name != SUMS_FILE)
    write_text(folder / SUMS_FILE, "".join(f"{sha256(folder / name)}  {name}\n" for name in names))


def verify(path: Path) -> dict[str, str]:
    """Compare files with what is known of them and return {file name: how it was checked}.

    A folder is compared with its SHA256SUMS; files of a hub cache with the sums that name them there; an official
    .pth with the digits in its name.

    Raises:
        UsageError: No such path, or nothing is known of it.
        WeightsError: A file is missing or differs.
    """
    if path.is_file():
        return {path.name: _compare(path, _named_sum(path), "digits in its name")}
    if (path / SUMS_FILE).is_file():
        return {
            name: _compare(path / name, wanted, SUMS_FILE)
            for name, wanted in _read_sums(path / SUMS_FILE).items()
        }
    cached = {p.name: p.resolve().name for p in sorted(path.glob("*")) if p.is_symlink()}
    known = {name: blob for name, blob in cached.items() if re.fullmatch("[0-9a-f]{64}", blob)}
    if not known:
        raise UsageError(
            "nothing is known of these files, so they cannot be verified",
            where=str(path),
            expected=f"a folder with {SUMS_FILE}, a folder of the hub's cache, or an official name-<8 digits>.pth",
            fix="`glint models fetch` and `glint models convert` write folders that can be verified",
        )
    return {name: _compare(path / name, wanted, "the hub's sum") for name, wanted in known.items()}


def _named_sum(file: Path) -> str:
    named = NAMED.search(file.name)
    if named is None:
        raise UsageError(
            "nothing is known of this file, so it cannot be verified",
            where=str(file),
            expected="a folder, or an official name-<8 digits>.pth",
        )
    return named[1]


def _compare(file: Path, wanted: str, source: str) -> str:
    if not file.is_file():
        raise WeightsError("a file of the model is missing", where=str(file), fix="fetch or copy it again")
    found = sha256(file)
    if not found.startswith(wanted):
        raise WeightsError(
            f"the file is not what it should be: its SHA-256 begins with {found[:8]}",
            where=str(file),
            expected=f"{wanted[:8]} ({source})",
            fix="fetch or copy it again; do not use it if it came from somebody else",
        )
    return source


def _read_sums(file: Path) -> dict[str, str]:
    lines = [line.split("  ", 1) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if any(len(line) != 2 or "/" in line[1] or not re.fullmatch("[0-9a-f]{64}", line[0]) for line in lines):
        raise WeightsError(
            "the list of sums cannot be read", where=str(file), expected="lines of '<64 digits>  <file name>'"
        )
    return {name: wanted for wanted, name in lines}
