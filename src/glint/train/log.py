"""Where numbers go: log.jsonl (one object a line) and the terminal (a bar, or plain lines when piped)."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from glint.atomic import write_text
from glint.train.state import Report

SHOWN = ("loss", "val_loss", "retrieval", "open_present", "open_absent", "samples_per_s")


def counter(what: str) -> Callable[[int, int], None]:
    """Return a progress function: one line that counts on a terminal, silent in a pipe until the end."""

    def count(done: int, total: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{done}/{total} {what}" + ("\n" if done == total else ""))
        elif done == total:
            sys.stderr.write(f"{total} {what}\n")

    return count


class RunLog:
    """Log of one run; use as a context manager.

    Args:
        path: The JSONL file; lines after `start` (written by a run that was killed later) are dropped.
        start: Step at which the run begins.
        steps: Step at which it ends.
        label: Shown before the bar.
    """

    def __init__(self, path: Path, *, start: int, steps: int, label: str) -> None:
        self.path, self.steps, self.label = path, steps, label
        self._begin, self._start = time.monotonic(), start
        self._last_time, self._last_step = self._begin, start
        _drop_after(path, start)
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("ETA"),
                TimeRemainingColumn(),
            )
            text = TextColumn("{task.fields[numbers]}")
            self._bar = Progress(TextColumn(label), *columns, text, console=Console(stderr=True))
            self._task = self._bar.add_task(label, total=steps, completed=start, numbers="")

    def __enter__(self) -> "RunLog":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, step: int) -> None:
        """Move the bar."""
        if self._bar:
            self._bar.update(self._task, completed=step)

    def write(self, step: int, report: Report, *, samples_per_step: int = 0) -> None:
        """Append one line; with `samples_per_step`, the speed since the last such line is added."""
        now = time.monotonic()
        line: dict[str, float] = {"step": step, "time_s": round(now - self._begin, 2), **report}
        if samples_per_step:
            line["samples_per_s"] = round(
                (step - self._last_step) * samples_per_step / max(now - self._last_time, 1e-9), 1
            )
            self._last_time, self._last_step = now, step
        with self.path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        self._show(step, line)

    def say(self, text: str) -> None:
        """Show one line of text."""
        if self._bar:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            sys.stderr.write(text + "\n")

    def _show(self, step: int, line: Report) -> None:
        numbers = "  ".join(f"{name} {line[name]:.4g}" for name in SHOWN if name in line)
        if self._bar:
            self._bar.update(self._task, completed=step, numbers=numbers)
            return
        done = max(step - self._start, 1)
        eta = (time.monotonic() - self._begin) / done * (self.steps - step)
        self.say(f"{self.label}  {step}/{self.steps}  {numbers}  ETA {_clock(eta)}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _drop_after(path: Path, step: int) -> None:
    """Remove lines later than a step and a torn last line, so that a resumed run logs every step once."""
    if not path.is_file():
        return
    kept: list[str] = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] > step:
                break
        except (ValueError, KeyError):
            break
        kept.append(line)
    write_text(path, "".join(line + "\n" for line in kept))
