"""Patients: the same by seed, different between seeds, anatomically in order."""

import numpy as np
import pytest
import torch

from glint.phantom.anatomy import Anatomy, _bspline, sample_anatomy
from glint.phantom.base import LABELS, LUNG_LEFT, LUNG_RIGHT, Base, load_base

SEEDS = (3, 4, 5)


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base()


@pytest.fixture(scope="module")
def patients(base: Base) -> list[Anatomy]:
    return [sample_anatomy(base, seed) for seed in SEEDS]


def where(anatomy: Anatomy, *names: str) -> torch.Tensor:
    return torch.isin(anatomy.labels, torch.tensor([LABELS[name] for name in names], dtype=torch.uint8))


def test_sample_anatomy__same_seed_same_patient(base: Base, patients: list[Anatomy]) -> None:
    again = sample_anatomy(base, SEEDS[0])
    assert again.spacing_mm == patients[0].spacing_mm
    assert torch.equal(again.hu, patients[0].hu)
    assert torch.equal(again.labels, patients[0].labels)


def test_sample_anatomy__other_seed_other_patient(patients: list[Anatomy]) -> None:
    assert not torch.equal(patients[0].labels, patients[1].labels)
    assert patients[0].spacing_mm != patients[1].spacing_mm


def test_sample_anatomy__organs_stay_in_place(patients: list[Anatomy]) -> None:
    for patient in patients:
        left, right = (where(patient, *lung) for lung in (LUNG_LEFT, LUNG_RIGHT))
        litres = [float(lung.sum()) * np.prod(patient.spacing_mm) / 1e6 for lung in (left, right)]
        assert all(1.0 < volume < 5.0 for volume in litres), litres
        assert (
            where(patient, "heart").nonzero()[:, 2].float().mean()
            > where(patient, "vertebrae").nonzero()[:, 2].float().mean()
        ), "the heart is never mirrored"
        assert patient.hu.shape == patient.labels.shape == patient.lung_depth_mm.shape


def test_sample_anatomy__density_and_depth_fit_the_labels(patients: list[Anatomy]) -> None:
    for patient in patients:
        lungs = where(patient, *LUNG_LEFT, *LUNG_RIGHT)
        assert -930 < patient.hu[lungs].median() < -750
        assert patient.hu[where(patient, "heart")].median() > 0
        assert (patient.lung_depth_mm[~lungs] == 0).all()
        assert patient.lung_depth_mm[lungs].max() > 20
        assert patient.hu[where(patient, "air")].median() == -1000, "outside, nothing gains density"


def test_bspline__reproduces_constants_up_to_scale() -> None:
    weights = _bspline(29, 6)
    assert torch.allclose(weights.norm(dim=1), torch.ones(29))
    assert (weights >= 0).all()
    assert ((weights > 0).sum(dim=1) <= 4).all(), "local support"
