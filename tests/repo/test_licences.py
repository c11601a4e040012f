"""What an installation of GLINT brings along may be used with Apache-2.0."""

import re
from importlib.metadata import PackageNotFoundError, distribution

# Whole words: "LGPL" is fine as a library, "GPL" and "AGPL" are not.
COPYLEFT = re.compile(r"\b(?:A?GPL(?:v?[23])?|GNU (?:Affero )?General Public License)\b")
NAME = re.compile(r"^[A-Za-z0-9._-]+")


def required(name: str, seen: dict[str, str]) -> dict[str, str]:
    """Collect {distribution: licence text} of the core requirements of a distribution, and of theirs."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return seen
    meta = found.metadata
    classifiers = [item for item in meta.get_all("Classifier") or [] if item.startswith("License ::")]
    # Old packages paste the whole licence into the field: its first line names it.
    licence = meta.get("License-Expression") or (meta.get("License") or "").strip().partition("\n")[0]
    seen[name] = "; ".join(filter(None, [licence, *classifiers]))
    for requirement in found.requires or []:
        match = NAME.match(requirement)
        if match and "extra ==" not in requirement and match.group().lower() not in seen:
            required(match.group().lower(), seen)
    return seen


def test_core_requirements__have_no_strong_copyleft() -> None:
    licences = required("glint-radiology", {})
    assert len(licences) > 10, "glint-radiology is not installed as a distribution"
    assert {name: text for name, text in licences.items() if COPYLEFT.search(text)} == {}
