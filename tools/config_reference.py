"""Write docs/config.md from the settings' own descriptions (`--check`: fail when it is not up to date).

Run it after any change of `src/glint/config`, so that no setting changes unnoticed.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from glint.config.schema import GlintConfig
from glint.config.volume import VolumeConfig
from glint.model.vision.registry import ENCODERS, encoder_class

PAGE = Path(__file__).parents[1] / "docs" / "config.md"
HEAD = """# Settings

Written by `tools/config_reference.py` from `src/glint/config`; do not edit.

A recipe is a YAML file with these sections; `key.sub=value` on the command line wins over the file.
An unknown key is an error. Packaged recipes: `src/glint/config/recipes/`.
"""


def type_name(annotation: object) -> str:
    """Return a type as a reader would write it: choices in full, classes by name."""
    if get_origin(annotation) is None:
        return getattr(annotation, "__name__", str(annotation))
    if str(get_origin(annotation)).endswith("Literal"):
        return " / ".join(f"`{choice}`" for choice in get_args(annotation))
    return str(annotation).replace(" | ", " or ").replace("glint.config.volume.", "")


def limits(field: FieldInfo) -> str:
    """Return the allowed range, such as "> 0, <= 1", or ""."""
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    return ", ".join(
        f"{sign} {getattr(item, name)}"
        for item in field.metadata
        for name, sign in signs.items()
        if getattr(item, name, None) is not None
    )


def section(name: str, model: type[BaseModel], title: str = "") -> Iterator[str]:
    """Yield the lines of one section: its docstring and the table of its settings."""
    yield f"\n{'###' if title else '##'} {title or name}\n\n{(model.__doc__ or '').strip()}\n"
    yield "| setting | type | default | meaning |\n|---|---|---|---|"
    for key, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            continue
        kind = ", ".join(filter(None, [type_name(field.annotation), limits(field)]))
        default = field.get_default(call_default_factory=True)
        meaning = " ".join((field.description or "").split())
        full = key if name == "recipe" else f"{name}.{key}"
        yield f"| `{full}` | {kind} | `{default!r}` | {meaning} |"


def page() -> str:
    """Return the whole page."""
    lines = [HEAD.rstrip(), *section("recipe", GlintConfig)]
    for name, field in GlintConfig.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            lines += section(name, field.annotation)
        if name == "data":
            lines += section("data.volume", VolumeConfig, "data.volume of CT")
        if name == "vision":
            for encoder in ENCODERS:
                lines += section("vision.arch", encoder_class(encoder).Arch, f"vision.arch of `{encoder}`")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write or check the page."""
    if "--check" in sys.argv:
        current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page()
        print(
            "docs/config.md is up to date"
            if current
            else "docs/config.md is old: run tools/config_reference.py"
        )
        return 0 if current else 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
