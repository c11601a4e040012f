"""`glint check`: what it says of good, odd and bad images, as text and as JSON, and its status."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from glint.io.volume_nifti import write_nifti
from glint.io.voxel_grid import VoxelGrid

Command = Callable[..., Any]
AFFINE = np.diag([2.5, 0.8, 0.7, 1.0])[[2, 1, 0, 3]]


def chest(inverted: bool = False) -> NDArray[np.uint8]:
    """A frontal chest in its simplest form: dark lungs beside a bright middle, with noise."""
    y, x = np.mgrid[-1:1:200j, -1:1:180j]
    picture = np.full(y.shape, 150.0)
    for side in (-0.45, 0.45):
        picture[(x - side) ** 2 / 0.08 + (y + 0.1) ** 2 / 0.4 < 1] = 60
    picture += 30 * (np.abs(x) < 0.1) + np.random.default_rng(0).normal(0, 6, y.shape)
    return (255 - picture if inverted else picture).clip(0, 255).astype(np.uint8)


def ct(shape: tuple[int, int, int] = (20, 40, 44)) -> NDArray[np.int16]:
    _, y, x = np.meshgrid(*[np.linspace(-1, 1, side) for side in shape], indexing="ij")
    hu = np.where(x**2 / 0.8 + y**2 / 0.6 < 1, 40, -1000) + np.random.default_rng(0).normal(0, 15, shape)
    hu[(np.abs(np.abs(x) - 0.45) < 0.25) & (np.abs(y) < 0.4)] = -850
    return hu.astype(np.int16)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    Image.fromarray(chest()).save(tmp_path / "good.png")
    Image.fromarray(chest(inverted=True)).save(tmp_path / "inverted.png")
    (tmp_path / "notes.txt").write_text("text")
    for name, shift in (("ct.nii", 0), ("twice.nii", -1024), ("never.nii", 1024)):
        values = (ct() + shift).astype(np.int16)
        write_nifti(tmp_path / name, values, VoxelGrid(values.shape, AFFINE))
    return {path.stem: path for path in tmp_path.iterdir() if path.is_file()}


def test_check__a_radiograph_as_json(glint: Command, files: dict[str, Path]) -> None:
    done = glint("check", files["good"], "--json")
    assert (done.status, done.err) == (0, "")
    (one,) = json.loads(done.out)["images"]
    assert one["usable"] is True
    assert one["geometry"] == {"size_px": [200, 180], "spacing_mm": None}
    assert one["plan"] == {
        "model": "radiograph",
        "input_px": [256, 256],
        "scaled_px": [256, 230],
        "border_px": [0, 13],
    }
    assert one["intensity"]["contrast"] > 0.2
    assert one["warnings"] == []


def test_check__a_ct_as_json(glint: Command, files: dict[str, Path]) -> None:
    done = glint("check", files["ct"], "--json")
    assert done.status == 0
    (one,) = json.loads(done.out)["images"]
    geometry, plan = one["geometry"], one["plan"]
    assert (geometry["shape"], geometry["spacing_mm"]) == ([20, 40, 44], [2.5, 0.8, 0.7])
    assert (geometry["orientation"], geometry["oblique_deg"], geometry["gantry_tilt_deg"]) == ("SPL", 0, 0)
    assert one["intensity"]["soft_hu"] == pytest.approx(40, abs=3)
    assert (plan["orientation"], plan["spacing_mm"], plan["windows_hu"]) == (
        "SPL",
        [2.5, 1.25, 1.25],
        [[-1150, 350]],
    )
    assert plan["crops_at_least"] == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("twice", "applied twice"),
        ("never", "without rescale"),
        ("notes", "holds text"),
        ("missing", "no such file"),
    ],
)
def test_check__what_cannot_be_used_says_why_with_status_3(
    glint: Command, files: dict[str, Path], tmp_path: Path, name: str, words: str
) -> None:
    done = glint("check", files.get(name, tmp_path / "missing"), files["good"])
    assert done.status == 3
    assert words in done.out
    assert "CANNOT BE USED" in done.out
    assert "good.png: 1 (" in done.out, "the next image is checked all the same"


def test_check__inverted_polarity_is_a_warning(glint: Command, files: dict[str, Path]) -> None:
    done = glint("check", files["inverted"])
    assert done.status == 0
    assert "polarity seems to be inverted" in done.out


@pytest.mark.parametrize("archive", [False, True])
def test_check__folders_and_archives_list_all_there_is(
    glint: Command, files: dict[str, Path], tmp_path: Path, archive: bool
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    names = ["good", "ct", "notes"]
    if archive:
        given = tmp_path / "given.zip"
        with zipfile.ZipFile(given, "w") as stream:
            for name in names:
                stream.write(files[name], f"DOE^JOHN/{name}")
    else:
        for name in names:
            files[name].rename(given / f"DOE^JOHN {name}")
    done = glint("check", given, "--json")
    assert done.status == 0
    found = json.loads(done.out)["images"]
    assert sorted((one["plan"]["model"], one["usable"]) for one in found) == [
        ("CT", True),
        ("radiograph", True),
    ]
    assert len({one["alias"] for one in found}) == 2
    assert "DOE" not in done.out


def test_check__unknown_model_is_a_usage_error(glint: Command, files: dict[str, Path]) -> None:
    done = glint("check", files["good"], "--model", "nonsense")
    assert (done.status, done.out) == (2, "")
    assert "no such model" in done.err
