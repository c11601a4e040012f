"""Files from elsewhere, read in a child process with limits of memory and time: what the command line and the API use.

A bad file may make a decoder crash, hang or ask for all the memory there is; then the child dies, and the caller gets
a DataError. The limits grow with the bytes present, so a file can only ask for what it could need.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

import glint
from glint.errors import DataError, GlintError
from glint.io.contents import Contents, Item, Reader
from glint.io.grid_chain import GridChain
from glint.io.phi import installation_key
from glint.io.radiograph import Radiograph
from glint.io.volume import Provenance, Volume
from glint.io.voxel_grid import VoxelGrid

BASE_BYTES = 3 << 29
"""1.5 GiB: the largest radiograph from the smallest file."""
BYTES_PER_BYTE = 16
BASE_S = 5
MIB_PER_S = 1
"""Processor seconds of a child: so many, and one more for each MiB that there is to read."""
WAIT = 4
"""On a busy machine the clock runs so much faster than processor time."""
MAX_REPLY_BYTES = 1 << 24
DTYPES = {"<f4", "<f8", "|b1"}
ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
"""Nothing else of the environment is handed on: it may hold tokens."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may use.

    Attributes:
        memory_bytes: Address space.
        cpu_s: Processor time.
    """

    memory_bytes: int
    cpu_s: int

    @classmethod
    def of(cls, path: Path) -> "Limits":
        """Return the limits for a file or a folder."""
        files = path.rglob("*") if path.is_dir() else [path]
        size = sum(file.stat().st_size for file in files if file.is_file())
        return cls(BASE_BYTES + BYTES_PER_BYTE * size, BASE_S + (size >> 20) // MIB_PER_S)


def read_radiograph(path: str | Path, *, series: str = "") -> Radiograph:
    """Read a radiograph as glint.io.radiograph.read_radiograph does, in a child process with limits.

    Raises:
        DataError: As there; or the file needs more memory or time than its size allows, or crashes a decoder.
    """
    path = Path(path)
    reply, arrays = run("radiograph", path, series=series)
    spacing = reply["spacing_mm"]
    return Radiograph(
        arrays["pixels"], None if spacing is None else (spacing[0], spacing[1]), path, _texts(reply["notes"])
    )


def read_volume(
    path: str | Path, *, series: str = "", fill_gaps: bool = False, add_hu: float = 0.0
) -> Volume:
    """Read a volume as glint.io.volume.read_volume does, in a child process with limits.

    Raises:
        DataError: As there; or the file needs more memory or time than its size allows, or crashes a decoder.
    """
    path = Path(path)
    reply, arrays = run("volume", path, series=series, fill_gaps=fill_gaps, add_hu=add_hu)
    hu = arrays["hu"]
    grid = VoxelGrid((hu.shape[0], hu.shape[1], hu.shape[2]), arrays["affine"])
    provenance = Provenance(path, str(reply["format"]), str(reply["modality"]), _texts(reply["notes"]))
    return Volume(hu, arrays.get("valid"), provenance, GridChain.begin(grid))


def read_contents(path: str | Path) -> Contents:
    """List what a file, a folder or an archive holds: glint.io.contents.contents in a child process.

    Raises:
        DataError: Missing, damaged, or more than a study has.
    """
    reply, _ = run("contents", Path(path))
    return Contents([Item(**item) for item in reply["items"]], int(reply["others"]), reply["damaged"])


def pick_image(path: str | Path, series: str, readers: Sequence[Reader]) -> Item:
    """Return which image of a folder or an archive is meant: glint.io.contents.pick in a child process.

    Raises:
        DataError: As there.
    """
    reply, _ = run("pick", Path(path), series=series, readers=list(readers))
    return Item(**reply["item"])


def run(job: str, path: Path, **options: Any) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Let a child do a job of worker.py.

    Returns:
        What it said, and its arrays.

    Raises:
        DataError: What it raised; or it died.
        GlintError: A bug of GLINT in a reader.
    """
    limits = Limits.of(path) if path.exists() else Limits(BASE_BYTES, BASE_S)
    request = {
        "job": job,
        "path": str(path),
        "options": options,
        "key": installation_key().hex(),
        "memory_bytes": limits.memory_bytes,
        "cpu_s": limits.cpu_s,
    }
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", "from glint.io.worker import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
    )
    clock = threading.Timer(WAIT * limits.cpu_s, child.kill)
    clock.start()
    try:
        stdin, stdout = cast(IO[bytes], child.stdin), cast(IO[bytes], child.stdout)
        stdin.write(json.dumps(request).encode() + b"\n")
        stdin.close()
        found = _receive(stdout, limits.memory_bytes)
    except (OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        child.kill()
        raise _died(path, child.wait(), limits) from error
    finally:
        clock.cancel()
        child.kill()
        child.wait()
    _raise_error(found[0], path)
    return found


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    package = str(Path(glint.__file__).parents[1])
    path = os.pathsep.join([package, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]).rstrip(os.pathsep)
    return kept | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _receive(stream: IO[bytes], most: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read a JSON line and the arrays that it announces, none larger than the child could have had."""
    line = stream.readline(MAX_REPLY_BYTES)
    if not line.endswith(b"\n"):
        raise ValueError("no reply")
    reply: dict[str, Any] = json.loads(line)
    arrays: dict[str, NDArray[Any]] = {}
    for name, dtype, shape in reply["arrays"]:
        count = int(np.prod([int(side) for side in shape], dtype=np.float64))
        if dtype not in DTYPES or min(shape) < 1 or count * np.dtype(dtype).itemsize > most:
            raise ValueError("an array that cannot be")
        array = np.empty([int(side) for side in shape], dtype=dtype)
        view = memoryview(cast(Any, array.reshape(-1).view(np.uint8)))
        filled = 0
        while filled < len(view):
            got = cast(Any, stream).readinto(view[filled:])
            if not got:
                raise ValueError("an array is cut short")
            filled += got
        arrays[str(name)] = array
    return reply, arrays


def _raise_error(reply: dict[str, Any], path: Path) -> None:
    error = reply.get("error")
    if error is None:
        return
    if "bug" in error:
        raise GlintError(
            f"this is a bug of GLINT: {error['bug']} while reading",
            where=str(path),
            fix="report what kind of file it is (not the file: it may hold patient data)",
        )
    raise DataError(**{name: str(error.get(name, "")) for name in ("what", "where", "expected", "fix")})


def _died(path: Path, status: int, limits: Limits) -> DataError:
    """Return the error for a child that did not answer."""
    slow = status in (-24, -9)  # SIGXCPU, SIGKILL: by the clock, or by the system
    return DataError(
        f"reading was stopped after {limits.cpu_s} s of processor time or {limits.memory_bytes >> 20} MiB of memory"
        if slow
        else "reading ended in a crash of a decoder",
        where=str(path),
        expected="an image that can be read with what a file of its size may need",
        fix="copy it again; it is damaged, or made to do harm",
    )


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(str(value) for value in values)
