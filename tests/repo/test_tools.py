"""The checks of `make lint` find what they look for."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


def load(name: str) -> ModuleType:
    """Import a script of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("cache = '/w" + "ork/cache'", True),
        ("see ../sh" + "ared/design", True),
        ("/h" + "ome/someone/data", True),
        ("https://py" + "pi.org/simple", True),
        ("docs/work/page.md and ./workspace", False),
        ("https://arxiv.org/abs/2606.03180", False),
    ],
)
def test_text_problems__finds_machine_paths_and_registries(tmp_path: Path, line: str, found: bool) -> None:
    file = tmp_path / "notes.md"
    file.write_text(line)
    assert bool(list(load("check_repo").text_problems(file))) is found


def test_size_problems__finds_large_files_and_foreign_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = load("check_repo").size_problems
    monkeypatch.chdir(tmp_path)
    ours = Path("src/glint/weights/demo/model.safetensors")
    ours.parent.mkdir(parents=True)
    for path in (ours, Path("model.pt"), Path("small.txt")):
        path.write_bytes(b"x")
    Path("large.txt").write_bytes(b"x" * 1_000_001)
    assert any("model card" in problem for problem in check(ours))
    (ours.parent / "README.md").touch()
    (ours.parent / "glint.json").touch()
    assert not list(check(ours))
    assert list(check(Path("model.pt")))
    assert list(check(Path("large.txt")))
    assert not list(check(Path("small.txt")))


@pytest.mark.parametrize(("note", "status"), [("", 1), ("  # size: a table", 0)])
def test_sizes__asks_for_a_reason(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    note: str,
    status: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "long.py").write_text(f"def f():{note}\n" + "    pass\n" * 60)
    assert load("sizes").main() == status
    assert ("f has 61 lines" in capsys.readouterr().out) is bool(status)
    assert "sizes" not in sys.modules
