"""Check what git tracks: no machine paths, no package-registry hosts, nothing large, no foreign weights.

A path of one machine or the address of one registry works for its writer only. Weights of others are
installed or named by the user, never committed; those in `src/glint/weights/<name>/` are ours, with a card.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SIZE_LIMIT_BYTES = 1_000_000
WEIGHTS_LIMIT_BYTES = 25_000_000
WEIGHTS_FOLDER = Path("src/glint/weights")
WEIGHT_SUFFIXES = {".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".onnx", ".gguf", ".h5", ".npz", ".pkl"}
# Small random tensors for parity tests are not weights of a model.
GOLDEN_FOLDER, GOLDEN_LIMIT_BYTES = Path("tests/model/fixtures"), 1_000_000

# Written so that no pattern matches its own source line.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:w[o]rk|r[o]ot|opt/(?:wheels|pypi))/|/h[o]me/\w|\.\./sh[a]red")
REGISTRY_HOST = re.compile(
    r"\b(?:pypi\.org|pythonhosted\.org|deb\.debian\.org|registry\.npmjs\.org|download\.pytorch\.org)"
)


def tracked_files() -> list[Path]:
    """Return the files that git tracks or would track (untracked and not ignored)."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True).stdout.decode().split("\0")
    return [path for name in listed if name and (path := Path(name)).is_file()]


def size_problems(path: Path) -> Iterator[str]:
    """Yield what is wrong with the size or the kind of one file."""
    size = path.stat().st_size
    in_weights = path.is_relative_to(WEIGHTS_FOLDER)
    limit = WEIGHTS_LIMIT_BYTES if in_weights else SIZE_LIMIT_BYTES
    if size > limit:
        yield f"{path}: {size} bytes, more than {limit}"
    if path.suffix not in WEIGHT_SUFFIXES:
        return
    if in_weights:
        if path.suffix != ".safetensors":
            yield f"{path}: weights are stored as safetensors only"
        if not all((path.parent / name).is_file() for name in ("README.md", "glint.json")):
            yield f"{path}: needs a model card (README.md) and glint.json beside it"
    elif not (path.is_relative_to(GOLDEN_FOLDER) and size <= GOLDEN_LIMIT_BYTES):
        yield f"{path}: weights belong in {WEIGHTS_FOLDER}, and only those that we trained"


def text_problems(path: Path) -> Iterator[str]:
    """Yield the lines of one text file that name a machine path or a registry."""
    if b"\0" in path.read_bytes()[:8192]:
        return
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if MACHINE_PATH.search(line):
            yield f"{path}:{number}: names a path of one machine"
        if REGISTRY_HOST.search(line):
            yield f"{path}:{number}: names the host of a package registry"


def main() -> int:
    """Print every problem; return 1 when there are any."""
    try:
        files = tracked_files()
    except (OSError, subprocess.CalledProcessError):
        print("check_repo: not a git checkout, nothing to check")
        return 0
    problems = [
        problem for path in files for check in (size_problems, text_problems) for problem in check(path)
    ]
    print("\n".join(problems) or f"check_repo: {len(files)} files, no problem")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
