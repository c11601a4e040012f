"""From a scan and queries to places in the patient, with a model whose gate follows the density."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from glint.errors import UsageError
from glint.infer.volume import VolumeOptions, predict_volume
from glint.io.packed_mask import PackedMask
from glint.io.side import midline
from glint.io.sources import Source
from glint.io.volume_nifti import read_nifti
from glint.io.voxel_grid import VoxelGrid

Make = Callable[..., Any]
TURNS = [(axes, signs) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def random_grid(rng: np.random.Generator) -> VoxelGrid:
    """Any of the 48 orders of axes, spacings from 1.5 to 6 mm, half of them up to 25 degrees oblique."""
    axes, signs = TURNS[rng.integers(48)]
    spacing = rng.uniform(1.5, 6, 3)
    extent = np.array([330.0, 230.0, 220.0])  # x, y, z in mm
    matrix = np.zeros((3, 3))
    shape = [0, 0, 0]
    for a, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        matrix[axis, a] = sign * spacing[a]
        shape[a] = int(extent[axis] / spacing[a])
    if rng.random() < 0.5:
        matrix = rotation(rng.uniform(-25, 25, 3)) @ matrix
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = rng.uniform(-8, 8, 3) - matrix @ ((np.array(shape) - 1) / 2)
    return VoxelGrid((shape[0], shape[1], shape[2]), affine)


def rotation(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        i, j = [n for n in range(3) if n != axis]
        turn[[i, j], [i, j]] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result


@pytest.mark.parametrize("seed", range(12))
def test_blob__comes_back_where_it_was_planted_whatever_the_grid(
    hu_model: Make, patient: Make, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    grid = random_grid(rng)
    wanted = np.array([rng.uniform(40, 90) * rng.choice((-1, 1)), rng.uniform(-40, 40), rng.uniform(-50, 50)])
    scan = patient(grid, tuple(wanted), 11.0)
    answers = predict_volume(hu_model(), scan, ["a blob"])
    (answer,) = answers
    assert np.linalg.norm(np.array(answer.point_lps_mm) - wanted) < 7  # a patch is 8 mm
    assert np.linalg.norm(np.array(answer.centroid_lps_mm) - wanted) < 2.5
    assert answer.laterality == ("left" if wanted[0] > 0 else "right")
    low, high = np.array(answer.box_lps_mm).reshape(2, 3)
    assert (low < wanted).all()
    assert (wanted < high).all()
    voxels = np.argwhere(answer.mask)
    assert len(voxels) * abs(np.linalg.det(grid.affine[:3, :3])) / 1000 == pytest.approx(answer.volume_ml)
    np.testing.assert_allclose(grid.to_lps(voxels).mean(axis=0), answer.centroid_lps_mm, atol=1e-3)
    np.testing.assert_array_equal(answer.mask, answer.heat > 0.5)
    i, j, k = answer.point_ijk
    np.testing.assert_allclose(grid.to_lps(np.array([[k, j, i]]))[0], answer.point_lps_mm)


def test_answers__as_json_nifti_and_montage(
    hu_model: Make, patient: Make, grid: VoxelGrid, tmp_path: Path
) -> None:
    scan = patient(grid, (70, 10, 20))
    answers = predict_volume(hu_model(), scan, ["a", "b"], model_name="m")
    answers.save(tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_text())
    assert document == answers.to_dict()
    assert set(document["results"][0]) == {
        "query", "score", "point_lps_mm", "point_ijk", "box_lps_mm", "centroid_lps_mm", "volume_ml", "parts_ml",
        "laterality",
    }  # fmt: skip
    answers[0].save(tmp_path / "mask.nii.gz")
    answers[0].save_heat(tmp_path / "heat.nii.gz")
    mask, heat = (
        read_nifti(Source.of(tmp_path / "mask.nii.gz")),
        read_nifti(Source.of(tmp_path / "heat.nii.gz")),
    )
    np.testing.assert_allclose(mask.grid.affine, grid.affine)
    np.testing.assert_array_equal(mask.values, heat.values > 0.5)
    image: Any = nibabel.load(tmp_path / "mask.nii.gz")  # pyright: ignore[reportPrivateImportUsage]
    ras = nibabel.affines.apply_affine(image.affine, np.argwhere(image.get_fdata()).mean(axis=0))
    np.testing.assert_allclose(ras * (-1, -1, 1), (70, 10, 20), atol=2)
    answers.save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").width > 600
    (score,) = predict_volume(hu_model(), scan, ["a"], task="classify")
    assert set(score.to_dict()) == {"query", "score"}
    assert score.score == answers[0].score
    with pytest.raises(UsageError, match="classification"):
        score.save(tmp_path / "none.nii.gz")


def test_montage__shows_the_blob_where_a_radiologist_expects_it(
    hu_model: Make, patient: Make, grid: VoxelGrid, tmp_path: Path
) -> None:
    predict_volume(hu_model(), patient(grid, (70, -20, 60)), ["a"]).save(tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    warm = (picture[..., 0] - picture[..., 2] > 90) & (picture[..., 0] > 150)
    columns = np.flatnonzero(warm.any(axis=0))
    axial = columns[columns < picture.shape[1] / 2.6]
    assert 0.19 < axial.mean() / picture.shape[1] < 0.30  # patient's left: right half of the first plane
    coronal = warm[:, int(0.40 * picture.shape[1]) : int(0.70 * picture.shape[1])]
    assert np.flatnonzero(coronal.any(axis=1)).mean() < 0.4 * picture.shape[0]  # towards the head: above


def test_min_ml__drops_small_parts(hu_model: Make, patient: Make, grid: VoxelGrid) -> None:
    scan = patient(grid, (70, 0, 0), 12.0)
    both = replace(scan, hu=np.maximum(scan.hu, patient(grid, (-70, 0, 0), 6.0).hu))
    every = predict_volume(hu_model(), both, ["a"], options=VolumeOptions(min_ml=0))[0]
    large = predict_volume(hu_model(), both, ["a"], options=VolumeOptions(min_ml=3))[0]
    assert len(every.parts_ml) == 2
    assert every.laterality == "bilateral" or min(every.parts_ml) < 0.15 * sum(every.parts_ml)
    assert large.parts_ml == (max(every.parts_ml),)
    assert large.volume_ml == pytest.approx(max(every.parts_ml))
    assert large.laterality == "left"
    none = predict_volume(hu_model(), both, ["a"], options=VolumeOptions(min_ml=1e4))[0]
    assert (none.volume_ml, none.box_lps_mm, none.centroid_lps_mm, none.laterality) == (0, None, None, None)
    assert none.point_lps_mm == large.point_lps_mm


def test_refine__gives_masks_the_edges_of_the_scan(hu_model: Make, patient: Make, grid: VoxelGrid) -> None:
    x, y, z = grid.to_lps(np.argwhere(np.ones(grid.shape))).T.reshape(3, *grid.shape)
    truth = (abs(x - 66) < 19) & (abs(y) < 19) & (abs(z) < 19)
    scan = patient(grid, (0, 0, 0), 0.1)
    scan = replace(scan, hu=np.where(truth, np.float32(1000), scan.hu))
    model = hu_model(spacing_mm=[5.5, 5.5, 5.5])
    model.opens, model.width = 0.52, 0.05  # half a patch is enough: a halo, as trained models have

    def dice(refine: str) -> float:
        mask = predict_volume(model, scan, ["a"], options=VolumeOptions(refine=refine))[0].mask  # pyright: ignore[reportArgumentType]
        return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())

    assert dice("guided") > dice("none") + 0.02


def test_laterality__needs_a_scan_that_shows_both_sides(
    hu_model: Make, patient: Make, grid: VoxelGrid
) -> None:
    scan = patient(grid, (20, 60, 0))
    middle = predict_volume(hu_model(), scan, ["a"])[0]
    assert middle.laterality in ("left", "midline")
    assert midline(scan) == pytest.approx(0, abs=4)
    half = grid.box((0, 0, 40), (50, 60, 45))
    cut = patient(half, (70, 0, 0))
    assert predict_volume(hu_model(), cut, ["a"])[0].laterality is None


def test_notes__warn_of_a_scan_without_lungs(hu_model: Make, patient: Make, grid: VoxelGrid) -> None:
    scan = patient(grid, (70, 0, 0))
    assert not predict_volume(hu_model(), scan, ["a"]).notes
    head = replace(scan, hu=np.where((scan.hu > -990) & (scan.hu < 30), np.float32(30), scan.hu))
    (note,) = predict_volume(hu_model(), head, ["a"]).notes
    assert "does not look like a chest CT" in note


@pytest.mark.parametrize(
    "wrong", [{"threshold": 0}, {"min_ml": -1}, {"min_ml": float("nan")}, {"refine": "crf"}, {"overlap": 1}]
)
def test_options__are_checked(hu_model: Make, patient: Make, grid: VoxelGrid, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        predict_volume(hu_model(), patient(grid, (0, 0, 0)), ["a"], options=VolumeOptions(**wrong))


def test_packed_mask__is_the_mask() -> None:
    rng = np.random.default_rng(0)
    part = np.zeros((5, 7, 9), dtype=bool)
    part[1:4, 2:3, 3:9] = rng.random((3, 1, 6)) > 0.4
    packed = PackedMask.of(part, (10, 20, 30), (40, 50, 60))
    whole = np.zeros((40, 50, 60), dtype=bool)
    whole[10:15, 20:27, 30:39] = part
    np.testing.assert_array_equal(packed.whole(), whole)
    assert packed.bits.nbytes < part.size
    assert not PackedMask.of(part & False, (0, 0, 0), (9, 9, 9)).whole().any()
