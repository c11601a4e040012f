"""`glint evaluate`: measure models on a data set with truth."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from glint.errors import UsageError

TASKS = ("phantom-cxr", "phantom-ct")


def evaluate(
    task: Annotated[str, typer.Argument(help=f"What to measure: {', '.join(TASKS)}.")],
    model: Annotated[str, typer.Option(help="Model folder, or the name of a packaged model.")],
    vs: Annotated[
        list[str] | None, typer.Option(help="Another model to compare with; may be repeated.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder written by `glint phantom` or `glint phantom-ct`.", show_default="data/TASK"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for results.json, results.md and pictures.")] = Path(
        "runs/eval"
    ),
    limit: Annotated[
        int, typer.Option(min=0, help="Use only so many studies of each split; 0 means all.")
    ] = 0,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for intervals and p-values.")] = 1000,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="First fit scores and masks of --model to the pairs of val.")
    ] = False,
) -> None:
    """Measure a model on a test set with known findings: AUROC, pointing, Dice, IoU, negation, with intervals."""
    if task not in TASKS:
        raise UsageError(f"there is no evaluation task '{task}'", expected=" or ".join(TASKS))
    from glint.eval.calibrate import calibrate as fit  # torch loads only now
    from glint.eval.run import run
    from glint.eval.subject import SUBJECTS
    from glint.eval.tracks import Options

    folder = data or Path("data") / task
    if calibrate:
        fit(model, folder)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        lines = {"": bar.add_task("reading the data set", total=None)}

        def show(title: str, done: int, total: int) -> None:
            if title not in lines:
                bar.remove_task(lines.popitem()[1])
                lines[title] = bar.add_task(title, total=total)
            bar.update(lines[title], completed=done)

        options = Options(folder, limit=limit, bootstrap=bootstrap, subject=SUBJECTS[task])
        page = run([model, *(vs or [])], options, out, progress=show)
    typer.echo(str(page))
