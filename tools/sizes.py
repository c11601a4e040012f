"""Print how large files and functions are, and fail on those that are too large without saying why.

A file may have 400 lines, a function 50. More needs a comment `# size: reason`: for a file within its first
30 lines, for a function on the line of its `def` or within its body. Lines are counted as a reader meets
them, docstrings and blank lines included.
"""

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

FILE_LIMIT = 400
FUNCTION_LIMIT = 50
NOTE = "# size:"
ROOTS = ("src", "tests", "tools")


def functions(source: str) -> Iterator[tuple[str, int, int]]:
    """Yield (name, first line, last line) of every function, methods included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, node.end_lineno or node.lineno


def quantile(values: Sequence[int], share: float) -> int:
    """Return the value below which `share` of the sorted values lie; 0 for none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0


def row(name: str, values: Sequence[int], limit: int) -> str:
    """Return one Markdown row of the table."""
    parts = (len(values), quantile(values, 0.5), quantile(values, 0.9), max(values, default=0), limit)
    return f"| {name} | " + " | ".join(str(part) for part in parts) + " |"


def main() -> int:
    """Print the table and the offenders; return 1 when there are any."""
    offenders: list[str] = []
    print("| thing | number | median | p90 | largest | limit |\n|---|--:|--:|--:|--:|--:|")
    for root in ROOTS:
        file_lines: list[int] = []
        function_lines: list[int] = []
        for path in sorted(Path(root).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            lines = source.splitlines()
            file_lines.append(len(lines))
            if len(lines) > FILE_LIMIT and not any(NOTE in line for line in lines[:30]):
                offenders.append(f"{path}: {len(lines)} lines, more than {FILE_LIMIT}")
            for name, first, last in functions(source):
                length = last - first + 1
                function_lines.append(length)
                if length > FUNCTION_LIMIT and not any(NOTE in line for line in lines[first - 1 : last]):
                    offenders.append(f"{path}:{first}: {name} has {length} lines, more than {FUNCTION_LIMIT}")
        print(row(f"{root}: lines of a file", file_lines, FILE_LIMIT))
        print(row(f"{root}: lines of a function", function_lines, FUNCTION_LIMIT))
    for offender in offenders:
        print(f"{offender} (split it, or say why with '{NOTE} reason')")
    return 1 if offenders else 0


if __name__ == "__main__":
    sys.exit(main())
