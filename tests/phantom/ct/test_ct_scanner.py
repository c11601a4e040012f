"""Scanners: what they leave unchanged, what they change, and that they cannot know of findings."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from glint.phantom.anatomy import Anatomy, sample_anatomy
from glint.phantom.base import CT_GRID, load_base
from glint.phantom.ct.findings import CT_INSERTERS
from glint.phantom.ct.scanner import (
    PHASES,
    Scanner,
    covered,
    enhance,
    finish,
    sample_on,
    sample_scanner,
    scan,
    thicken,
    volume_grid,
)
from glint.phantom.ct.study import finding_on_scan, structure_on_scan
from glint.phantom.findings.common import region
from glint.phantom.placing import Placed, place_findings
from glint.phantom.schema import Finding

Seeds = np.random.SeedSequence


@pytest.fixture(scope="module")
def chest() -> Anatomy:
    return sample_anatomy(load_base(grid=CT_GRID), 6)


@pytest.fixture(scope="module")
def scanners(chest: Anatomy) -> list[Scanner]:
    return [sample_scanner(chest, 6.0, Seeds(i)) for i in range(60)]


def _placed(chest: Anatomy, *findings: Finding) -> Placed:
    return place_findings(
        chest, list(findings), torch.Generator().manual_seed(1), CT_INSERTERS, lambda inserted, placed: False
    )


def _whole(scanners: list[Scanner], phase: str) -> Scanner:
    return max((s for s in scanners if s.phase == phase), key=lambda s: np.prod(s.grid.shape))


def test_sample_scanner__varies_grid_phase_and_field(chest: Anatomy, scanners: list[Scanner]) -> None:
    assert {s.phase for s in scanners} == set(PHASES)
    assert any(s.kernel < 0 for s in scanners)
    assert any(s.kernel > 0 for s in scanners)
    lungs = region(chest, "lung_upper_lobe_left"), region(chest, "liver")
    for mask in lungs:
        shares = [int(mask[covered(chest, s)].sum()) / int(mask.sum()) for s in scanners]
        assert min(shares) < 0.05
        assert max(shares) > 0.95
    assert sample_scanner(chest, 6.0, Seeds(3)).grid.affine == pytest.approx(scanners[3].grid.affine)


def _sampled(chest: Anatomy, hu: torch.Tensor, scanner: Scanner) -> np.ndarray:
    return sample_on(chest, thicken(chest, hu, scanner), scanner.grid)


def test_sample_on__same_voxels_when_grid_is_the_anatomys_own(
    chest: Anatomy, scanners: list[Scanner]
) -> None:
    own = replace(scanners[0], grid=volume_grid(chest), thickness_mm=0.0)
    assert np.array_equal(_sampled(chest, chest.hu, own), chest.hu.numpy())


def test_thicken__thick_slices_are_means_along_z(chest: Anatomy, scanners: list[Scanner]) -> None:
    thin = replace(scanners[0], grid=volume_grid(chest), thickness_mm=0.0)
    thick = replace(thin, thickness_mm=20.0)
    one, other = _sampled(chest, chest.hu, thin), _sampled(chest, chest.hu, thick)
    assert other.mean() == pytest.approx(one.mean(), abs=1.0)
    assert np.abs(np.diff(other, axis=0)).mean() < 0.9 * np.abs(np.diff(one, axis=0)).mean()


def test_scan__findings_change_the_image_in_their_mask_and_nowhere_else(
    chest: Anatomy, scanners: list[Scanner]
) -> None:
    findings = (
        Finding("pleural_effusion", "left", "", "moderate"),
        Finding("mass", "right", "right upper lobe", "moderate"),
        Finding("aortic_dilation", "midline", "", "large"),
    )
    placed, plain = _placed(chest, *findings), Placed(chest.hu, (), ())
    assert len(placed.findings) == 3
    for phase in ("plain", "arterial"):
        scanner = replace(_whole(scanners, phase), thickness_mm=0.0)
        difference = np.abs(
            _sampled(chest, enhance(chest, placed, scanner), scanner)
            - _sampled(chest, enhance(chest, plain, scanner), scanner)
        )
        mask = torch.stack(placed.masks).any(dim=0)
        near = ndimage.binary_dilation(mask.numpy(), np.ones((3, 3, 3)), iterations=4)
        outside = ~structure_on_scan(chest, torch.from_numpy(near), scanner)
        assert difference[outside].max() == 0
        for one in placed.masks:
            assert difference[finding_on_scan(chest, one, scanner)].mean() > 20


def test_scan__same_seeds_same_noise_whatever_the_findings(chest: Anatomy, scanners: list[Scanner]) -> None:
    scanner = replace(scanners[0], kernel=0.0)
    exact = _sampled(chest, chest.hu, scanner)
    first, again, other = (finish(exact, scanner, np.random.default_rng(Seeds(s))) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    noise = (first - exact)[(exact > -900) & (exact < 1000)]
    assert 0.6 * scanner.noise_hu < noise.std() < 1.6 * scanner.noise_hu
    assert not np.array_equal(first, other)
    plain = Placed(chest.hu, (), ())
    assert np.array_equal(scan(chest, plain, scanner, Seeds(4)), scan(chest, plain, scanner, Seeds(4)))


def test_enhance__blood_rises_and_fat_air_and_plaques_do_not(chest: Anatomy, scanners: list[Scanner]) -> None:
    placed = _placed(chest, Finding("aortic_calcification", "midline", "", "large"))
    scanner = _whole(scanners, "arterial")
    added = enhance(chest, placed, scanner) - placed.hu
    aorta = region(chest, "aorta")
    assert float(added[aorta].median()) > 100
    assert not added[placed.hu < -450].any()
    assert not added[placed.hu > 200].any()
    assert not added[region(chest, "vertebrae", "sternum") & (placed.hu > 200)].any()
    none = _whole(scanners, "plain")
    assert torch.equal(enhance(chest, placed, none), placed.hu)
