"""`glint models`: what can be loaded by name."""

import typer


def models() -> None:
    """List the packaged models, one a line: name and folder (its README.md is the model card)."""
    from glint.model.folder import PACKAGED, packaged_models

    for name in packaged_models():
        typer.echo(f"{name}\t{PACKAGED / name}")
