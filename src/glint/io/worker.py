"""The child process that reads one file, folder or archive under limits, and then ends. Started by untrusted.py.

It may use so much memory and processor time and no more, opens nothing but what it was given and Python's own
modules, writes nothing, and starts and connects to nothing. What it sends is a JSON line and plain numbers: the
parent unpickles nothing.
"""

import json
import os
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from glint.errors import DataError, GlintError
from glint.io import phi
from glint.io.limits import MEMORY_INFO

Arrays = dict[str, NDArray[Any]]
Reply = tuple[dict[str, Any], Arrays]
FORBIDDEN = (
    "socket.",
    "subprocess.",
    "shutil.",
    *(
        f"os.{name}"
        for name in ("system", "exec", "posix_spawn", "spawn", "fork", "remove", "rename", "rmdir")
    ),
    *(f"os.{name}" for name in ("mkdir", "link", "symlink", "chmod", "truncate")),
)
"""Audit events of Python: everything that starts, connects or changes files."""


def main() -> None:
    """Answer the one request on stdin."""
    request: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    out = os.fdopen(os.dup(1), "wb")
    # Native libraries print what they find; it could be of a patient.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    phi.use_key(bytes.fromhex(request["key"]))
    limit(request["memory_bytes"], request["cpu_s"])
    path = Path(request["path"])
    confine(path)
    reply, arrays = answer(JOBS[request["job"]], path, request["options"])
    reply["arrays"] = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    out.write(json.dumps(reply).encode() + b"\n")
    for array in arrays.values():
        out.write(np.ascontiguousarray(array).data)
    out.flush()
    # Nothing of what has been read shall run once more: no destructors, no exit handlers.
    os._exit(0)


def limit(memory_bytes: int, cpu_s: int) -> None:
    """Let the system end this process when it takes more than its share."""
    limits = {
        resource.RLIMIT_AS: (memory_bytes, memory_bytes),
        resource.RLIMIT_CPU: (cpu_s, cpu_s + 2),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_FSIZE: (0, 0),
    }
    for which, pair in limits.items():
        with suppress(ValueError, OSError):  # macOS knows no limit of memory
            resource.setrlimit(which, pair)


def confine(path: Path) -> None:
    """Refuse, from now on, to open anything but `path` and what Python needs; a hook cannot be taken away again."""
    sys.dont_write_bytecode = True
    given = os.path.abspath(path)
    modules = tuple(os.path.abspath(folder) for folder in {*sys.path, sys.prefix, sys.base_prefix} if folder)

    def check(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            name, mode, flags = arguments
            if isinstance(name, int):
                return
            where = os.path.abspath(os.fsdecode(name))
            own = where == given or where.startswith((given + os.sep, *modules)) or where == str(MEMORY_INFO)
            writes = set(mode or "") & set("wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not own or writes:
                raise PermissionError("a reader may not open this")
        elif event.startswith(FORBIDDEN):
            raise PermissionError("a reader may not do this")

    sys.addaudithook(check)


def answer(job: Callable[..., Reply], path: Path, options: dict[str, Any]) -> Reply:
    """Return what a job returns, or its error as fields; words of unknown errors stay here."""
    try:
        return job(path, **options)
    except GlintError as error:
        return {
            "error": {"what": error.what, "where": error.where, "expected": error.expected, "fix": error.fix}
        }, {}
    except MemoryError:
        error = DataError(
            "reading takes more memory than a file of this size may need",
            where=str(path),
            fix="copy it again; it is damaged, or made to do harm",
        )
        return {"error": {"what": error.what, "where": error.where, "fix": error.fix}}, {}
    except Exception as error:  # noqa: BLE001 - whatever a library raises on a bad file, its message may quote it
        return {"error": {"what": "", "bug": type(error).__name__, "where": str(path)}}, {}


def _radiograph(path: Path, series: str) -> Reply:
    from glint.io.radiograph import read_radiograph

    image = read_radiograph(path, series=series)
    return {"spacing_mm": image.spacing_mm, "notes": image.notes}, {"pixels": image.pixels}


def _volume(path: Path, series: str, fill_gaps: bool, add_hu: float) -> Reply:
    from glint.io.volume import read_volume

    volume = read_volume(path, series=series, fill_gaps=fill_gaps, add_hu=add_hu)
    said = volume.provenance
    facts = {"format": said.format, "modality": said.modality, "notes": said.notes}
    arrays: Arrays = {"hu": volume.hu, "affine": volume.affine}
    return facts, arrays if volume.valid is None else arrays | {"valid": volume.valid}


def _contents(path: Path) -> Reply:
    from glint.io.contents import contents

    return asdict(contents(path)), {}


def _pick(path: Path, series: str, readers: list[Literal["volume", "radiograph"]]) -> Reply:
    from glint.io.contents import pick

    return {"item": asdict(pick(path, series, readers))}, {}


JOBS: dict[str, Callable[..., Reply]] = {
    "radiograph": _radiograph,
    "volume": _volume,
    "contents": _contents,
    "pick": _pick,
}
