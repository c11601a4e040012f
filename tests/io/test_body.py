"""What surrounds the patient is not valid; the lungs are, wherever the field of view ends."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from glint.io.body import without_surroundings
from glint.io.grid_chain import GridChain
from glint.io.volume import Provenance, Volume
from glint.io.voxel_grid import VoxelGrid

SHAPE = (4, 40, 60)
Z, Y, X = np.ogrid[:4, :40, :60]
TRUNK = ((Y - 18) / 15.0) ** 2 + ((X - 30) / 25.0) ** 2 + 0 * Z <= 1
LUNGS = ((Y - 18) / 10.0) ** 2 + ((np.abs(X - 30) - 11) / 8.0) ** 2 + 0 * Z <= 1
COUCH = (np.abs(Y - 37) < 1) & (X > 5) & (Z >= 0)


def scan(hu: NDArray[np.float32], valid: NDArray[np.bool_] | None = None) -> Volume:
    affine = np.zeros((4, 4))
    affine[[0, 1, 2, 3], [2, 1, 0, 3]] = 5, 5, 5, 1
    grid = VoxelGrid((hu.shape[0], hu.shape[1], hu.shape[2]), affine)
    return Volume(hu, valid, Provenance(Path("made"), "made"), GridChain.begin(grid))


def chest() -> NDArray[np.float32]:
    hu = np.full(SHAPE, -1000, dtype=np.float32)
    hu[TRUNK] = 40
    hu[LUNGS] = -850
    hu[COUCH] = 0
    return hu


def test_without_surroundings__keeps_body_and_lungs_not_air_and_couch() -> None:
    valid = without_surroundings(scan(chest())).valid
    assert valid is not None
    assert valid[TRUNK].mean() > 0.99
    assert not valid[COUCH].any()
    assert valid.sum() < 1.05 * TRUNK.sum()


def test_without_surroundings__a_couch_that_the_patient_touches_goes() -> None:
    hu = chest()
    hu[:, 33:37, 28:32] = 0  # a shoulder on it
    assert (hu > -500)[:, 32:38, 30].all()
    valid = without_surroundings(scan(hu)).valid
    assert valid is not None
    assert valid[TRUNK].mean() > 0.99
    assert not valid[:, 36:, :25].any()


@pytest.mark.parametrize(
    "view", [np.s_[:, :, :30], np.s_[:, :, 8:52], np.s_[:, :20], np.s_[:, 15:], np.s_[:, 8:30, 10:50]]
)
def test_without_surroundings__lungs_at_the_edge_of_the_field_of_view_stay(view: tuple[slice, ...]) -> None:
    valid = without_surroundings(scan(np.ascontiguousarray(chest()[view]))).valid
    assert valid is not None
    assert valid[LUNGS[view]].all()


def test_without_surroundings__what_was_not_valid_stays_so_and_air_alone_changes_nothing() -> None:
    before = np.ones(SHAPE, dtype=bool)
    before[:, :, :20] = False
    valid = without_surroundings(scan(chest(), before)).valid
    assert valid is not None
    assert not valid[:, :, :20].any()
    assert without_surroundings(scan(np.full(SHAPE, -1000, dtype=np.float32))).valid is None
