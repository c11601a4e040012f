"""`glint check`: can these images be read, do they look as they should, and what would GLINT do with them?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from glint.config.schema import DataConfig
    from glint.io.checkup import Checked

UNUSABLE = 3
DEFAULT_MODEL = "glint-cxr-phantom"


def check(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="Files, folders or archives (ZIP, tar).", show_default=False),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="Packaged model, or a folder of `glint train`, that shall be asked."
        ),
    ] = DEFAULT_MODEL,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say what images are, whether GLINT can use them, and how; status 3 when one of them cannot be used."""
    from glint.io.checkup import check as check_image

    data = _data_of(model)
    found: list[Checked] = []
    for image in images:
        for checked in check_image(image, data):
            found.append(checked)
            if not as_json:
                typer.echo(describe(checked))
    if as_json:
        typer.echo(json.dumps({"model": model, "images": [one.to_dict() for one in found]}, indent=2))
    if any(one.usable is False for one in found):
        raise typer.Exit(UNUSABLE)


def describe(checked: "Checked") -> str:
    """Return a record as lines of text."""
    verdict = {True: "can be used", False: "CANNOT BE USED", None: "not used"}[checked.usable]
    lines = [f"{checked.image}: {checked.text}: {verdict}"]
    lines += [f"  study      {checked.study}"] if checked.study else []
    lines += [f"  problem    {checked.problem}"] if checked.problem else []
    lines += [f"  fix        {checked.fix}"] if checked.fix else []
    for name in ("geometry", "intensity", "plan"):
        numbers: dict[str, Any] = getattr(checked, name)
        words = [f"{key} {_plain(value)}" for key, value in numbers.items()]
        lines += [f"  {name:10s} {', '.join(words)}"] if words else []
    lines += [f"  note       {note}" for note in checked.notes]
    lines += [f"  warning    {warning}" for warning in checked.warnings]
    return "\n".join(lines)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        pairs = any(isinstance(part, list) for part in value)
        return (", " if pairs else " x ").join(
            " to ".join(_plain(end) for end in part) if isinstance(part, list) else _plain(part)
            for part in value
        )
    return f"{value:g}" if isinstance(value, float) else "unknown" if value is None else str(value)


def _data_of(model: str) -> "DataConfig":
    """Return the part of a model's recipe that says how it sees images; no weights are loaded.

    Raises:
        UsageError: No such model.
    """
    from pydantic import ValidationError

    import glint.weights
    from glint.config.schema import GlintConfig
    from glint.errors import UsageError

    packaged = Path(glint.weights.__file__).parent / model / "glint.json"
    recipe = packaged if packaged.is_file() else Path(model) / "glint.json"
    try:
        return GlintConfig.model_validate(json.loads(recipe.read_text(encoding="utf-8"))).data
    except (OSError, ValidationError, ValueError) as error:
        raise UsageError(
            "there is no such model, or its recipe cannot be read",
            where=model,
            fix="`glint models` lists them",
        ) from error
