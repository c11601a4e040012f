"""From a recipe to a frozen configuration: defaults -> YAML -> `key.sub=value` overrides.

There is no interpolation, no Python and no environment variable in a recipe. Every problem is reported at once,
with the line of the file and, for a key that does not exist, the nearest one that does.
"""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, ValidationError

from glint.config.schema import GlintConfig
from glint.errors import ConfigError

RECIPES = Path(__file__).parent / "recipes"


def packaged_recipes() -> list[str]:
    """Return the names of the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load_config(recipe: str | Path | None = None, overrides: Sequence[str] = ()) -> GlintConfig:
    """Return the checked configuration of a recipe.

    Args:
        recipe: Path of a YAML file, name of a packaged recipe ("smoke"), or None for the defaults.
        overrides: Settings such as "optim.lr=3e-4"; values are YAML. They win over the file.

    Raises:
        ConfigError: Unknown recipe, unreadable YAML, unknown keys or bad values; all of them in one message.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    problems: list[str] = []
    if recipe is not None:
        path = _find_recipe(recipe)
        values = _read_yaml(path, origins, problems)
    for override in overrides:
        _apply_override(override, values, origins, problems)
    _drop_unknown(values, GlintConfig, "", origins, problems)
    config = _validate(values, origins, problems)
    if config is None or problems:
        raise ConfigError(
            "the configuration is not valid:\n" + "\n".join(f"    {problem}" for problem in problems),
            where=str(recipe or "overrides"),
            fix="correct the lines above; docs/config.md lists every setting",
        )
    return config


def dump_config(config: GlintConfig) -> str:
    """Return the whole configuration as YAML that `load_config` reads back to an equal object."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def known_keys(model: type[BaseModel] = GlintConfig, prefix: str = "") -> Iterator[str]:
    """Yield every setting as a dotted name."""
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        if section is None:
            yield prefix + name
        else:
            yield from known_keys(section, f"{prefix}{name}.")


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the settings class behind a field, or None for a plain value."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _find_recipe(recipe: str | Path) -> Path:
    """Return the file of a recipe given by path or by packaged name."""
    path = Path(recipe)
    if path.is_file():
        return path
    packaged = RECIPES / f"{path.name}.yaml"
    if path.name == str(recipe) and packaged.is_file():
        return packaged
    problem = "is a folder" if path.is_dir() else "no such recipe"
    raise ConfigError(
        f"{problem}: {recipe}",
        expected="a YAML file, or one of the packaged recipes: " + ", ".join(packaged_recipes()),
        fix=_did_you_mean(str(recipe), packaged_recipes()) or "check the path",
    )


def _read_yaml(path: Path, origins: dict[str, str], problems: list[str]) -> dict[str, Any]:
    """Return the mapping in a YAML file and note the line of each key in `origins`."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the recipe: {error}", where=str(path)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        detail = getattr(error, "problem", None) or str(error)
        raise ConfigError(
            f"not valid YAML: {detail}", where=f"{path}{line}", fix="check indentation, colons and quotes"
        ) from error
    if values is None:
        return {}
    if not isinstance(node, yaml.MappingNode) or not isinstance(values, dict):
        raise ConfigError(
            "a recipe is a mapping of sections", where=str(path), expected="train:\n    steps: 1000"
        )
    _note_lines(node, "", path.name, origins, problems)
    return cast(dict[str, Any], values)


def _note_lines(
    node: yaml.MappingNode, prefix: str, file: str, origins: dict[str, str], problems: list[str]
) -> None:
    """Record `file:line` of every key; YAML lets a key occur twice and silently keeps the last, we do not."""
    for key_node, value_node in node.value:
        key = f"{prefix}{key_node.value}"
        origin = f"{file}:{key_node.start_mark.line + 1}"
        if key in origins:
            problems.append(f"{origin}: '{key}' is set a second time (first at {origins[key]})")
        origins[key] = origin
        if isinstance(value_node, yaml.MappingNode):
            _note_lines(value_node, f"{key}.", file, origins, problems)


def _apply_override(
    override: str, values: dict[str, Any], origins: dict[str, str], problems: list[str]
) -> None:
    """Set one `key.sub=value` in the nested mapping."""
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        problems.append(f"override '{override}': expected key.sub=value, for example optim.lr=3e-4")
        return
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        problems.append(f"override '{override}': the value is not valid YAML; quote it")
        return
    *sections, last = key.split(".")
    target = values
    for section in sections:
        inner = target.setdefault(section, {})
        if not isinstance(inner, dict):
            problems.append(f"override '{override}': '{section}' is not a section")
            return
        target = cast(dict[str, Any], inner)
    target[last] = "" if value is None else value
    origins[key] = f"override '{override}'"


def _drop_unknown(
    values: dict[str, Any], model: type[BaseModel], prefix: str, origins: dict[str, str], problems: list[str]
) -> None:
    """Report and remove keys that do not exist, so that validation then speaks about the others only."""
    for name in list(values):
        key = f"{prefix}{name}"
        field = model.model_fields.get(name) if isinstance(name, str) else None
        if field is None:
            hint = _did_you_mean(key, [*GlintConfig.model_fields, *known_keys()])
            problems.append(f"{_origin(key, origins)}: unknown key '{key}'" + (f" - {hint}" if hint else ""))
            del values[name]
            continue
        section = _section(field.annotation)
        if section is not None and values[name] is None:
            values[name] = {}  # an empty section in YAML keeps its defaults
        if section is not None and isinstance(values[name], dict):
            _drop_unknown(values[name], section, f"{key}.", origins, problems)


def _did_you_mean(name: str, candidates: list[str]) -> str:
    """Return "did you mean 'x'?" for the nearest candidate, or ""."""
    best = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    if not best:  # right name in the wrong section: "steps" -> "train.steps"
        leaf = name.rpartition(".")[2]
        leaves = {candidate.rpartition(".")[2]: candidate for candidate in reversed(candidates)}
        best = [leaves[close] for close in difflib.get_close_matches(leaf, list(leaves), n=1, cutoff=0.75)]
    return f"did you mean '{best[0]}'?" if best else ""


def _origin(key: str, origins: dict[str, str]) -> str:
    """Return where a key was set; a parent's place when the key itself has none."""
    while key and key not in origins:
        key = key.rpartition(".")[0]
    return origins.get(key, "configuration")


def _validate(values: dict[str, Any], origins: dict[str, str], problems: list[str]) -> GlintConfig | None:
    """Return the configuration, or None after adding pydantic's complaints to `problems`."""
    try:
        return GlintConfig.model_validate(values)
    except ValidationError as error:
        for detail in error.errors():
            key = ".".join(str(part) for part in detail["loc"])
            message = detail["msg"].removeprefix("Value error, ")
            given = "" if not key or isinstance(detail["input"], dict) else f", got {detail['input']!r}"
            label = f"'{key}': " if key else ""
            problems.append(f"{_origin(key, origins)}: {label}{message}{given}")
    return None
