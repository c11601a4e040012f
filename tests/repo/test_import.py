"""Importing the package is cheap, and its types are visible to those who import it."""

import subprocess
import sys
from importlib.resources import files

# The smallest of three runs: a busy machine slows one import, not all.
SCRIPT = """
import sys, time
start = time.perf_counter()
import glint
print(time.perf_counter() - start)
print(*sorted({"torch", "transformers", "numpy", "pydicom", "scipy"} & set(sys.modules)))
"""


def import_glint() -> tuple[float, str]:
    """Import glint in a fresh interpreter; return the seconds and the heavy modules that came along."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)
    seconds, heavy = done.stdout.split("\n")[:2]
    return float(seconds), heavy


def test_import__is_cheap_and_without_torch() -> None:
    runs = [import_glint() for _ in range(3)]
    assert all(heavy == "" for _, heavy in runs), f"import glint also imports {runs[0][1]}"
    assert min(seconds for seconds, _ in runs) < 0.5


def test_package__is_typed() -> None:
    assert files("glint").joinpath("py.typed").is_file()


def test_public_names__all_resolve_and_stay_few() -> None:
    import glint

    assert len(glint.__all__) <= 30
    for name in glint.__all__:
        assert getattr(glint, name) is not None
