"""The picture of features is drawn for encoders with and without a size of their own."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

TOOL = Path(__file__).parents[2] / "tools" / "show_features.py"


@pytest.fixture
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("show_features", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_likeness__is_one_at_the_seed_and_blind_to_what_all_tokens_share(tool: ModuleType) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 3, 4, 8, generator=generator)
    tissue = torch.ones(2, 3, 4, dtype=torch.bool)
    alike = tool.likeness(tokens, tissue, (1, 2, 0))
    assert float(alike[1, 2, 0]) == pytest.approx(1)
    assert float(alike.mean()) < 0.5
    torch.testing.assert_close(tool.likeness(tokens + 5, tissue, (1, 2, 0)), alike, rtol=1e-4, atol=1e-4)


def test_principal_colours__separate_two_kinds_of_tokens(tool: ModuleType) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(4, 4, 4, 8, generator=generator) * 0.1
    tokens[:2] += 1
    tissue = torch.ones(4, 4, 4, dtype=torch.bool)
    tissue[0, 0, 0] = False
    colours = tool.principal_colours(tokens, tissue)
    assert colours[0, 0, 0].tolist() == [0, 0, 0]
    first = colours[..., 0]
    assert abs(float(first[1].mean() - first[3].mean())) > 0.7


@pytest.mark.slow
def test_main__draws_a_random_encoder_on_the_real_ct(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("vision.arch.width=12", "vision.arch.depth=1", "vision.arch.heads=2", "vision.arch.patch_vox=16")
    tool.main("primus", "", tmp_path / "out.png", *small)
    assert "192, 192, 192) voxels of (2.0, 2.0, 2.0) mm" in capsys.readouterr().out
    assert Image.open(tmp_path / "out.png").size[0] > 600
