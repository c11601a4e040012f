"""What an installation of GLINT brings along may be used with Apache-2.0."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

# Whole words: "LGPL" is fine as a library, "GPL" and "AGPL" are not.
COPYLEFT = re.compile(r"\b(?:A?GPL(?:v?[23])?|GNU (?:Affero )?General Public License)\b")
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
NAME = re.compile(r"^[A-Za-z0-9._-]+")


def collect(requirement: str, seen: dict[str, str]) -> None:
    """Add {distribution: licence} of a requirement and of what it requires in turn."""
    match = NAME.match(requirement)
    if match is None or "extra ==" in requirement or match.group().lower() in seen:
        return
    try:
        found = distribution(match.group())
    except PackageNotFoundError:  # needed on another platform or Python only
        return
    meta = found.metadata
    classifiers = [item for item in meta.get_all("Classifier") or [] if item.startswith("License ::")]
    # Old packages paste the whole licence into the field: its first line names it.
    licence = meta.get("License-Expression") or (meta.get("License") or "").strip().partition("\n")[0]
    seen[match.group().lower()] = "; ".join(filter(None, [licence, *classifiers]))
    for inner in found.requires or []:
        collect(inner, seen)


def test_core_requirements__have_no_strong_copyleft() -> None:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    licences: dict[str, str] = {}
    for requirement in project["dependencies"]:
        collect(requirement, licences)
    assert len(licences) >= len(project["dependencies"])
    assert {name: text for name, text in licences.items() if COPYLEFT.search(text)} == {}
