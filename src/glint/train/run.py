"""The run directory: made, recognised, finished.

RUN/config.resolved.yaml   every setting, nothing "auto"
RUN/log.jsonl              one object a line
RUN/checkpoints/           see checkpoint.py; removed by the user, not by us
RUN/model/ or RUN/encoder/ the result; there only when training has finished
"""

import shutil
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from glint.atomic import is_leftover, write_text
from glint.config import dump_config, load_config
from glint.config.schema import GlintConfig
from glint.errors import TrainingError

RESOLVED = "config.resolved.yaml"
# What may change between the parts of a run: none of it changes the weights (device and precision: by rounding only).
FREE = {
    f"train.{name}"
    for name in (
        "out",
        "device",
        "precision",
        "workers",
        "log_every",
        "val_every",
        "save_every",
        "keep_checkpoints",
    )
}


class Stopped(Exception):  # noqa: N818 - not an error: the user asked for it
    """Training was asked to stop (Ctrl-C, SIGTERM) and has saved a checkpoint.

    Attributes:
        step: Updates done.
        signal: Number of the signal.
    """

    def __init__(self, step: int, number: int) -> None:
        super().__init__(
            f"stopped at step {step}; a checkpoint is saved, the same command goes on from there"
        )
        self.step, self.signal = step, number


def open_run(cfg: GlintConfig, *, resume: bool) -> Path:
    """Make or recognise the run directory and write the resolved recipe.

    Raises:
        TrainingError: The directory holds another run, or a run and `resume` is False.
    """
    run = Path(cfg.train.out)
    stored = run / RESOLVED
    if stored.is_file():
        if not resume:
            raise TrainingError(
                "there is a run already", where=str(run), fix="set another train.out, or resume"
            )
        differing = _differences(_comparable(load_config(stored)), _comparable(cfg))
        if differing:
            raise TrainingError(
                f"there is another run already; its recipe differs in: {'; '.join(differing)}",
                where=str(stored),
                fix="set another train.out, or the same settings to go on with that run",
            )
    elif run.is_dir() and not all(is_leftover(path) for path in run.iterdir()):
        raise TrainingError(
            "the folder is not empty and not a run", where=str(run), fix="set another train.out"
        )
    write_text(stored, dump_config(cfg))
    return run


def export(write: Any, target: Path) -> None:
    """Let `write(folder)` make the result in a temporary folder and rename it: there whole or not at all."""
    temporary = target.with_name(target.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write(temporary)
    temporary.rename(target)


@contextmanager
def stop_signals() -> Generator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of dying; a second Ctrl-C kills as usual."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are not ours
        before = {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _comparable(cfg: GlintConfig) -> dict[str, Any]:
    """Return the settings that decide the weights, by dotted name."""
    flat = {
        f"{section}.{name}": value
        for section, values in cfg.model_dump(mode="json").items()
        if isinstance(values, dict)
        for name, value in values.items()
    }
    return {key: value for key, value in flat.items() if key not in FREE}


def _differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    return [
        f"{key} {there.get(key)!r} there, {here[key]!r} here" for key in here if there.get(key) != here[key]
    ]
