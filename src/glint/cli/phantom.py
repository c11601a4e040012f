"""`glint phantom` and `glint phantom-ct`: write a data set of phantom chest X-rays or CT with reports."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def phantom(
    out: Annotated[Path, typer.Option(help="Folder to create.")],
    train: Annotated[int, typer.Option(min=0, help="Training studies.")] = 4000,
    val: Annotated[int, typer.Option(min=0, help="Validation studies.")] = 200,
    test: Annotated[
        int, typer.Option(min=0, help="Test studies; a quarter more show new combinations.")
    ] = 500,
    seed: Annotated[int, typer.Option(help="Seed: the same seed gives the same files.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the result does not depend on it.")] = 1,
    size_px: Annotated[int, typer.Option(help="Side of the square images in pixels.")] = 256,
    spots: Annotated[
        int, typer.Option(min=0, help="Spot views in place of each training image, each with its report.")
    ] = 0,
    device: Annotated[str, typer.Option(help="Torch device, cpu or cuda.")] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier data set.")] = False,
) -> None:
    """Write phantom chest X-rays (DICOM), their reports and their exact masks.

    The anatomy comes from one public chest CT; findings, poses and words are made. Nothing is downloaded.
    """
    from glint.phantom.generate import generate

    with _progress() as progress:
        manifest = generate(
            out,
            train=train,
            val=val,
            test=test,
            seed=seed,
            workers=workers,
            size_px=size_px,
            spots=spots,
            device=device,
            overwrite=overwrite,
            progress=progress,
        )
    typer.echo(str(manifest))


def phantom_ct(
    out: Annotated[Path, typer.Option(help="Folder to create.")],
    train: Annotated[int, typer.Option(min=0, help="Training studies.")] = 2000,
    val: Annotated[int, typer.Option(min=0, help="Validation studies.")] = 100,
    test: Annotated[
        int, typer.Option(min=0, help="Test studies; a quarter more show new combinations.")
    ] = 200,
    seed: Annotated[int, typer.Option(help="Seed: the same seed gives the same files.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the result does not depend on it.")] = 1,
    spacing: Annotated[float, typer.Option(help="Distance of voxels in mm, about.")] = 3.0,
    close_ups: Annotated[
        int, typer.Option(min=0, help="Small blocks in place of each training scan, each with its report.")
    ] = 0,
    close_up_mm: Annotated[
        tuple[float, float], typer.Option(help="Shortest and longest side of these blocks.")
    ] = (45.0, 120.0),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier data set.")] = False,
) -> None:
    """Write phantom chest CT (NIfTI), their reports and their exact 3D masks.

    The anatomy comes from one public chest CT; findings, scanners and words are made. Nothing is downloaded.
    """
    from glint.phantom.ct.generate import generate_ct

    with _progress() as progress:
        manifest = generate_ct(
            out,
            train=train,
            val=val,
            test=test,
            seed=seed,
            workers=workers,
            spacing_mm=spacing,
            close_ups=close_ups,
            close_up_mm=close_up_mm,
            overwrite=overwrite,
            progress=progress,
        )
    typer.echo(str(manifest))


@contextmanager
def _progress() -> Generator[Callable[[int, int], None]]:
    """Show a bar on stderr; yields what tells it (studies done, studies in all)."""
    columns = (
        TextColumn("phantom"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("studies, ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("phantom", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
