"""No call in the package runs code from data, unpacks blindly, starts a shell, or prints outside the CLI."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "glint"
FORBIDDEN_NAMES = {"eval", "exec", "__import__"}
FORBIDDEN_CALLS = {
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "dill.load",
    "joblib.load",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "shutil.unpack_archive",
    "os.system",
    "os.popen",
}


def dotted(node: ast.expr) -> str:
    """Return `a.b.c` for a chain of names, "" for anything else."""
    if isinstance(node, ast.Attribute):
        head = dotted(node.value)
        return f"{head}.{node.attr}" if head else f"?.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def is_literal(call: ast.Call, keyword: str, value: object) -> bool:
    """Return whether the call passes exactly this constant for the keyword."""
    return any(
        item.arg == keyword and isinstance(item.value, ast.Constant) and item.value.value is value
        for item in call.keywords
    )


def forbidden(source: str, *, may_print: bool) -> list[str]:
    """Return "line: name" of every forbidden call in the source."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in {"pickle", "dill", "joblib"}:
            found.append(f"{node.lineno}: from {node.module} import")
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        bad = name in FORBIDDEN_NAMES or name in FORBIDDEN_CALLS or name.endswith(".extractall")
        bad |= name == "torch.load" and not is_literal(node, "weights_only", True)
        bad |= name in {"np.load", "numpy.load"} and is_literal(node, "allow_pickle", True)
        bad |= any(item.arg == "shell" for item in node.keywords) and not is_literal(node, "shell", False)
        bad |= any(item.arg == "trust_remote_code" for item in node.keywords) and not is_literal(
            node, "trust_remote_code", False
        )
        bad |= name == "print" and not may_print
        if bad:
            found.append(f"{node.lineno}: {name}")
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_package__has_no_forbidden_call(path: Path) -> None:
    may_print = "cli" in path.relative_to(PACKAGE).parts
    assert forbidden(path.read_text(encoding="utf-8"), may_print=may_print) == []


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "exec(code)",
        "import pickle\npickle.load(f)",
        "from pickle import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "yaml.load(text, yaml.Loader)",
        "tarfile.open(p).extractall(out)",
        "subprocess.run(c, shell=True)",
        "subprocess.run(c, shell=flag)",
        "np.load(p, allow_pickle=True)",
        "AutoModel.from_pretrained(n, trust_remote_code=True)",
        "print(1)",
    ],
)
def test_forbidden__finds_each_kind(source: str) -> None:
    assert forbidden(source, may_print=False)


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "torch.load(p, weights_only=True)",
        "yaml.safe_load(t)",
        "subprocess.run(c, shell=False)",
    ],
)
def test_forbidden__lets_safe_forms_pass(source: str) -> None:
    assert forbidden(source, may_print=False) == []


def test_forbidden__print_is_for_the_cli() -> None:
    assert forbidden("print(1)", may_print=True) == []
