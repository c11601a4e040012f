"""Damage files in many ways and see what the readers make of them: read, refused, crash, hang, or nonsense.

    python tools/fuzz_files.py --count 10000 --seed 1 --json fuzz.json

File number N of a seed is always the same; `--only N --keep FOLDER` makes it again and shows the traceback. Many files
share a child process with the limits of glint.io.untrusted; when a child dies, the file that it had begun did it.

A success looks wrong when the array is not finite, constant or out of range, when its shape is not the one that an
independent look at the header tells, or when a volume has an affine, a spacing (0.01 to 50 mm) or a value (100,000 HU)
that no scan has.
"""

import argparse
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from fuzz_mutations import MUTATIONS
from fuzz_seeds import seeds

from glint.errors import DataError
from glint.io.contents import contents
from glint.io.radiograph import read_radiograph
from glint.io.untrusted import BASE_BYTES
from glint.io.volume import Volume, read_volume

PER_CHILD = 250
HANG_S = 5
"""Processor time of all readers of a file together."""
OUTCOMES = ("read", "refused", "crash", "hang", "wrong")


def make(number: int, seed: int, whole: dict[str, bytes]) -> tuple[str, str, bytes]:
    """Return name of the seed file, name of the mutation, and the damaged file."""
    rng = random.Random(f"{seed}:{number}")
    # Most test files of others are refused as they are: no chest, no slices.
    own = [name for name in whole if name.startswith("own")]
    name = rng.choice(own if rng.random() < 0.6 else list(whole))
    mutation = rng.choice(list(MUTATIONS))
    content = MUTATIONS[mutation](whole[name], rng)
    if rng.random() < 0.1:
        content = MUTATIONS["flip bits"](content, rng) if content else content
    return name, mutation, content


def wrong_radiograph(path: Path) -> str:
    """Read it and say what is wrong with what came out, or ""."""
    image = read_radiograph(path)
    pixels = image.pixels
    if pixels.dtype != np.float32 or not np.isfinite(pixels).all():
        return "not finite"
    if pixels.min() < 0 or pixels.max() > 1 or pixels.min() == pixels.max():
        return "range"
    if image.spacing_mm is not None and not all(0 < side < 100 for side in image.spacing_mm):
        return "spacing"
    said = header_size(path.read_bytes())
    return f"shape {pixels.shape} against {said}" if said and pixels.shape not in (said, said[::-1]) else ""


def header_size(content: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) by an independent look: the first Rows and Columns elements, or the PNG header."""
    if content.startswith(b"\x89PNG"):
        return int.from_bytes(content[20:24], "big"), int.from_bytes(content[16:20], "big")
    rows, columns = content.find(b"\x28\0\x10\0US\x02\0"), content.find(b"\x28\0\x11\0US\x02\0")
    if content[128:132] != b"DICM" or content.count(b"\x28\0\x10\0US\x02\0") != 1 or min(rows, columns) < 0:
        return None
    return int.from_bytes(content[rows + 8 : rows + 10], "little"), int.from_bytes(
        content[columns + 8 : columns + 10], "little"
    )


def wrong_volume(path: Path) -> str:
    """Read it and say what is wrong with what came out, or ""."""
    volume: Volume = read_volume(path)
    hu = volume.hu
    if not np.isfinite(hu).all() or not np.isfinite(volume.affine).all():
        return "not finite"
    if float(np.abs(hu).max()) > 100_000:
        return "values"
    if not all(0.01 <= side <= 50 for side in volume.spacing_mm) or np.abs(volume.affine).max() > 1e6:
        return "geometry"
    if min(hu.shape) < 8 or (volume.valid is not None and volume.valid.shape != hu.shape):
        return "shape"
    return ""


def listed(path: Path) -> str:
    """List it; nothing can look wrong but a list of nothing that is said to be something."""
    contents(path)
    return ""


READERS = {"radiograph": wrong_radiograph, "volume": wrong_volume, "list": listed}


def examine(path: Path, show: bool) -> tuple[str, str]:
    """Return the worst outcome of all readers, and what it was."""
    result = ("refused", "")
    for name, reader in READERS.items():
        try:
            wrong = reader(path)
        except DataError:
            continue
        except Exception as error:  # noqa: BLE001 - this is what is being looked for
            if show:
                traceback.print_exc()
            last = traceback.extract_tb(error.__traceback__)[-1]
            return "crash", f"{name}: {type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
        if wrong:
            return "wrong", f"{name}: {wrong}"
        if name != "list":
            result = ("read", "")
    return result


def child(start: int, stop: int, seed: int) -> None:
    """Examine files start to stop, one line before and one after each."""
    whole = seeds()
    resource.setrlimit(resource.RLIMIT_AS, (BASE_BYTES, BASE_BYTES))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        for number in range(start, stop):
            name, mutation, content = make(number, seed, whole)
            path.write_bytes(content)
            print(json.dumps([number, name, mutation]), flush=True)
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak of memory
            signal.setitimer(signal.ITIMER_PROF, HANG_S)
            began = time.process_time()
            outcome, detail = examine(path, show=False)
            spent = time.process_time() - began
            signal.setitimer(signal.ITIMER_PROF, 0)
            print(json.dumps([outcome, detail, round(spent, 3), peak_mib()]), flush=True)


def peak_mib() -> int:
    """Return the peak of resident memory since it was last forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM"))


def run(count: int, seed: int) -> list[dict[str, object]]:
    """Examine files 0 to count, in as many children as it takes."""
    found: list[dict[str, object]] = []
    start = 0
    while start < count:
        stop = min(start + PER_CHILD, count)
        words = [sys.executable, __file__, "--child", str(start), str(stop), "--seed", str(seed)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        for (number, name, mutation), (outcome, detail, spent, peak) in zip(
            lines[::2], lines[1::2], strict=False
        ):
            found.append(row(number, name, mutation, outcome, detail, spent, peak))
        start += len(lines) // 2
        if len(lines) % 2:
            number, name, mutation = lines[-1]
            outcome = "hang" if done.returncode == -signal.SIGPROF else "crash"
            found.append(row(number, name, mutation, outcome, f"status {done.returncode}", HANG_S, 0))
            start += 1
        elif start < stop:
            raise RuntimeError(f"a child ended early with {done.returncode}: {done.stderr[-2000:]}")
    return found


def row(
    number: int, name: str, mutation: str, outcome: str, detail: str, spent: float, peak: int
) -> dict[str, object]:
    """Return one result as a mapping."""
    return {
        "number": number,
        "file": name,
        "mutation": mutation,
        "outcome": outcome,
        "detail": detail,
        "cpu_s": spent,
        "peak_mib": peak,
    }


def table(found: list[dict[str, object]]) -> str:
    """Return a Markdown table: how each kind of damage ended."""
    lines = [
        "| damage | files | read | refused | crash | hang > 5 s | wrong success | slowest, s | peak, MiB |"
    ]
    lines += ["|---|" + "--:|" * 8]
    for name in [*MUTATIONS, "all"]:
        rows = [one for one in found if name in (one["mutation"], "all")]
        counts = Counter(one["outcome"] for one in rows)
        slowest = max((float(str(one["cpu_s"])) for one in rows), default=0)
        peak = max((int(str(one["peak_mib"])) for one in rows), default=0)
        cells = [len(rows), *(counts[outcome] for outcome in OUTCOMES), f"{slowest:.2f}", peak]
        lines.append(f"| {name} | " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Run; return 1 when anything went wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write every result here")
    parser.add_argument("--only", type=int, help="make and read this file alone")
    parser.add_argument("--keep", type=Path, help="with --only: write the file into this folder")
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.child:
        child(*words.child, words.seed)
        return 0
    if words.only is not None:
        name, mutation, content = make(words.only, words.seed, seeds())
        folder = words.keep or Path(tempfile.mkdtemp())
        path = folder / f"fuzz-{words.seed}-{words.only}"
        path.write_bytes(content)
        print(f"{path}: {name}, {mutation}: {examine(path, show=True)}")
        return 0
    found = run(words.count, words.seed)
    if words.json:
        words.json.write_text(json.dumps(found, indent=0))
    print(table(found))
    bad = [one for one in found if one["outcome"] in ("crash", "hang", "wrong")]
    for one in bad[:50]:
        print(f"file {one['number']}: {one['outcome']}, {one['detail']} ({one['file']}, {one['mutation']})")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
