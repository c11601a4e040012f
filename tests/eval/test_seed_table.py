"""Several seeds in one table: t-intervals and differences paired by seed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scipy.stats import ttest_1samp

TOOL = Path(__file__).parents[2] / "tools" / "seed_table.py"
VALUES = {"glint": (0.80, 0.84, 0.82), "vlcabs": (0.70, 0.78, 0.71)}


def write(runs: Path, data: str = "abc") -> None:
    for method, values in VALUES.items():
        for seed, value in enumerate(values):
            entry = {"value": value, "low": None, "high": None}
            track = {"dice_fixed": {"macro": entry, "macro_without_nodule": entry, "per_finding": {}}}
            folder = runs / f"{method}-s{seed}" / "eval"
            folder.mkdir(parents=True, exist_ok=True)
            results = {
                "data": {"sha256": {"test": data if method == "glint" else "abc"}},
                "settings": {"limit": 0},
                "models": [{"tracks": {"standard": track}}],
            }
            (folder / "results.json").write_text(json.dumps(results))


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), *arguments], capture_output=True, text=True, check=False
    )


def test_seed_table__means_and_paired_differences(tmp_path: Path) -> None:
    write(tmp_path)
    done = call(str(tmp_path))
    assert done.returncode == 0, done.stderr
    pairs = [a - b for a, b in zip(*VALUES.values(), strict=True)]
    test = ttest_1samp(pairs, 0)
    low, high = test.confidence_interval(0.95)
    assert f"{sum(pairs) / 3:+.3f} [{low:.3f}, {high:.3f}], p {test.pvalue:.3f}" in done.stdout
    assert "| glint | 0, 1, 2 | 0.820 [0.770, 0.870], 0.800 to 0.840 |" in done.stdout


@pytest.mark.parametrize(("arguments", "words"), [((), "different data"), (("--track", "x"), "no RUNS")])
def test_seed_table__refuses_what_cannot_be_compared(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    write(tmp_path, data="other" if not arguments else "abc")
    done = call(str(tmp_path), *arguments)
    assert done.returncode == 1
    assert words in done.stderr


def test_seed_table__writes_a_file(tmp_path: Path) -> None:
    write(tmp_path)
    assert call(str(tmp_path), "--out", str(tmp_path / "table.md")).returncode == 0
    assert "### Macro average, without nodules" in (tmp_path / "table.md").read_text()
