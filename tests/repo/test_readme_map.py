"""The README's map names files that exist, and its commands start with programs that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = {"make", "glint", ".venv/bin/glint", "git", "cd", "pip"}
SHELL_BLOCK = re.compile(r"^```(?:bash|sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    """Return the text between a second-level heading and the next one."""
    _, _, rest = README.partition(f"\n## {title}\n")
    return rest.partition("\n## ")[0]


def map_paths() -> list[str]:
    """Return the link targets of the one-minute map."""
    return re.findall(r"\]\(([^)#]+)\)", section("One-minute map"))


def relative_links(text: str) -> list[str]:
    """Return all link and picture targets that are files of this repository."""
    return [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in link]


def commands() -> list[str]:
    """Return every command line of the README's shell blocks, continuation lines joined, comments dropped."""
    lines: list[str] = []
    for block in SHELL_BLOCK.findall(README):
        joined = block.replace("\\\n", " ")
        lines += [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return lines


def make_targets() -> set[str]:
    """Return the targets that the Makefile declares phony."""
    (line,) = re.findall(
        r"^\.PHONY: (demo .*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    return set(line.split())


def test_map__is_not_empty() -> None:
    assert len(map_paths()) >= 12
    assert commands()


@pytest.mark.parametrize("path", map_paths())
def test_map__path_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
)
def test_links__lead_to_files(document: str) -> None:
    path = ROOT / document
    missing = [link for link in relative_links(path.read_text("utf-8")) if not (path.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("command", commands())
def test_commands__start_with_a_known_program(command: str) -> None:
    words = [word for word in command.split() if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    assert words[0] in COMMANDS
    if words[0] == "make":
        assert set(words[1:]) <= make_targets()


def test_commands__name_subcommands_of_the_cli() -> None:
    from typer.main import get_command

    from glint.cli.main import app

    known = set(get_command(app).commands)  # pyright: ignore[reportAttributeAccessIssue]
    used = {
        line.split()[1] for line in commands() if line.split()[0].endswith("glint") and len(line.split()) > 1
    }
    assert used <= known
