"""A small random model in a folder, a radiograph-like PNG, and the command as a function."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glint.cli.main import run
from glint.config import load_config
from glint.model.folder import save_model
from glint.model.glint import GlintModel


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    status: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def glint(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `glint ...` in this process."""

    def command(*words: object, debug: bool = False) -> Done:
        capsys.readouterr()
        status = run([str(word) for word in words], debug=debug)
        return Done(status, *capsys.readouterr())

    return command


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model; do not change its files."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    save_model(GlintModel(load_config("smoke", ["data.size_px=64"])), folder, "# A card\n")
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A PNG of 90 x 80 pixels."""
    rows, columns = np.mgrid[:90, :80]
    pixels = 120 + 80 * np.sin(rows / 9) * np.cos(columns / 11)
    path = tmp_path / "chest.png"
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path
