"""`glint train` and `glint pretrain`."""

import signal
from collections.abc import Callable
from typing import Annotated

import typer

from glint.config import load_config

Recipe = Annotated[str, typer.Argument(help="YAML file, or the name of a packaged recipe such as smoke.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings that win over the recipe: optim.lr=3e-4"),
]


def train(recipe: Recipe, overrides: Overrides = None) -> None:
    """Train a model on image-report pairs. The same command goes on with a run that was interrupted."""
    cfg = load_config(recipe, overrides or [])
    from glint.train.loop import train as run  # torch loads only after the recipe is known to be good

    _until_done(lambda: str(run(cfg)))


def pretrain(recipe: Recipe, overrides: Overrides = None) -> None:
    """Give the image encoder a self-supervised start, from images alone."""
    cfg = load_config(recipe, overrides or [])
    from glint.train.pretrain import pretrain as run

    _until_done(lambda: str(run(cfg)))


def _until_done(run: Callable[[], str]) -> None:
    """Print the folder of the result; after Ctrl-C or SIGTERM say how to go on and exit as such commands do."""
    from glint.train.run import Stopped

    try:
        print(run())
    except Stopped as stopped:
        print(f"{stopped} ({signal.Signals(stopped.signal).name})")
        raise typer.Exit(128 + stopped.signal) from None
