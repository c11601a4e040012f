"""The program: what it offers, and how it ends."""

from collections.abc import Callable
from typing import Any

import pytest

import glint as package
from glint.cli import main as program
from glint.errors import ConfigError, DataError, GlintError, TrainingError, UsageError, WeightsError

Command = Callable[..., Any]


def test_help__names_every_command(glint: Command) -> None:
    done = glint("--help")
    assert done.status == 0
    for name in (
        "classify",
        "ground",
        "segment",
        "demo",
        "phantom",
        "phantom-ct",
        "pretrain",
        "train",
        "evaluate",
        "models",
    ):
        assert name in done.out


def test_version__is_that_of_the_package(glint: Command) -> None:
    assert glint("--version").out == f"glint {package.__version__}\n"


def test_version__agrees_with_the_distribution() -> None:
    import tomllib
    from pathlib import Path

    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["project"]["version"] == package.__version__


def test_models__lists_what_load_accepts(glint: Command) -> None:
    from glint.model.folder import packaged_models

    done = glint("models")
    assert done.status == 0
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert [row[1] for row in rows if row[0] == "model"] == packaged_models()


def test_wrong_words__have_status_2(glint: Command) -> None:
    assert glint("fly").status == 2
    assert glint("segment").status == 2
    assert glint("segment", "x.png", "--no-such-option").status == 2


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("w"), 2),
        (ConfigError("w"), 2),
        (DataError("w"), 3),
        (WeightsError("w"), 4),
        (TrainingError("w"), 5),
        (GlintError("w"), 70),
        (ZeroDivisionError("secret"), 70),
        (KeyboardInterrupt(), 130),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_errors__are_told_once_with_their_status(
    glint: Command, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, debug: bool
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(program, "app", fail)
    done = glint("models", debug=debug)
    assert done.status == status
    assert ("Traceback" in done.err) is (debug and status != 130)
    if not debug:
        assert "secret" not in done.err
    if isinstance(error, GlintError):
        assert done.err.count(error.message()) >= 1
        assert done.err.endswith(error.message() + "\n")


def test_main__takes_debug_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(program, "run", lambda words, debug: seen.append((words, debug)) or 0)
    with pytest.raises(SystemExit) as caught:
        program.main(["models", "--debug"])
    assert caught.value.code == 0
    assert seen == [(["models"], True)]
