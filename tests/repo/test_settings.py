"""No dead switches: every setting is read somewhere, and its reference page is up to date."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from glint.config.load import known_keys

ROOT = Path(__file__).parents[2]
CODE = "\n".join(
    path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "src" / "glint").rglob("*.py"))
    if path.parent.name != "config"
)
# Checked by the schema itself, or with a single choice that the code need not ask for.
NOT_READ = {"schema_version", "loss.type"}


@pytest.mark.parametrize("key", sorted(set(known_keys()) - NOT_READ))
def test_setting__is_read_by_the_code(key: str) -> None:
    assert re.search(rf"\.{key.rpartition('.')[2]}\b", CODE), f"nothing reads {key}"


def test_config_page__is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "tools" / "config_reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
