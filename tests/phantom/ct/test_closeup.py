"""Close-ups: blocks of a body whose reports are true of the block, not of the body."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from glint.phantom.anatomy import Anatomy, sample_anatomy
from glint.phantom.base import CT_GRID, load_base
from glint.phantom.ct.closeup import SIDES_MM, View, look, make_close_ups
from glint.phantom.ct.scanner import Scanner, covered, sample_scanner, scan
from glint.phantom.ct.schema import CT_KINDS
from glint.phantom.ct.study import CTStudy
from glint.phantom.ct.visible import Block, visible_shares
from glint.phantom.findings.common import box_of, region
from glint.phantom.placing import Placed
from glint.phantom.schema import Finding
from glint.phantom.study import StudyOptions
from glint.phantom.wording import load_wording

Seeds = np.random.SeedSequence
OPTIONS = StudyOptions(wording="ct_train")


@pytest.fixture(scope="module")
def chest() -> Anatomy:
    return sample_anatomy(load_base(grid=CT_GRID), 6)


@pytest.fixture(scope="module")
def scanner(chest: Anatomy) -> Scanner:
    return sample_scanner(chest, 6.0, Seeds(3))


@pytest.fixture(scope="module")
def made(chest: Anatomy, scanner: Scanner) -> list[CTStudy]:
    return [s for seed in range(6) for s in make_close_ups(chest, scanner, Seeds(seed), OPTIONS, 10)]


def _ball(chest: Anatomy, inside: torch.Tensor, ml: float) -> torch.Tensor:
    """Return a ball of a volume around the middle of a structure."""
    box = box_of(inside, margin=0)
    assert box is not None
    middle = [(part.start + part.stop) / 2 for part in box.index]
    axes = [(torch.arange(n) - m) * s for n, m, s in zip(inside.shape, middle, chest.spacing_mm, strict=True)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    return (z**2 + y**2 + x**2) ** 0.5 <= 10 * (3 * ml / (4 * np.pi)) ** (1 / 3)


def _cut(mask: torch.Tensor, share: float) -> Block:
    """Return a block that holds at most this share of a mask: everything below some slice."""
    below = torch.cumsum(mask.sum(dim=(1, 2)), 0)
    stop = int((below <= share * int(mask.sum())).sum())
    return (slice(0, stop), slice(None), slice(None))


def _looked(chest: Anatomy, kind: str, mask: torch.Tensor, block: Block, side: str = "right") -> View:
    finding = Finding(kind, side)  # type: ignore[arg-type]
    return look(chest, Placed(chest.hu, (finding,), (mask,)), block)


def test_make_close_ups__small_blocks_inside_the_trunk(chest: Anatomy, made: list[CTStudy]) -> None:
    trunk = np.array([n * s for n, s in zip(chest.hu.shape, chest.spacing_mm, strict=True)])
    for study in made:
        grid = study.scanner.grid
        half = np.array(grid.shape) * grid.spacing_mm / 2
        middle = grid.to_lps((np.array([grid.shape]) - 1) / 2)[0][::-1]
        assert (2 * half < SIDES_MM[1] + 8).all()
        assert (np.abs(middle) + half <= trunk / 2 + 8).all()
        assert study.hu.shape == grid.shape
        assert not study.masks
    assert len({study.scanner.grid.affine.tobytes() for study in made}) == len(made)
    assert len({study.report.text for study in made}) == len(made)


def test_make_close_ups__same_seeds_same_blocks_and_fewer_are_the_first(
    chest: Anatomy, scanner: Scanner, made: list[CTStudy]
) -> None:
    for one, other in zip(make_close_ups(chest, scanner, Seeds(0), OPTIONS, 3), made[:3], strict=True):
        assert np.array_equal(one.hu, other.hu)
        assert one.report == other.report


def test_make_close_ups__of_other_sizes_and_all_they_show_is_told(chest: Anatomy, scanner: Scanner) -> None:
    names = load_wording("ct_train")["anatomy"]
    most = 0
    for study in make_close_ups(chest, scanner, Seeds(4), OPTIONS, 4, (150.0, 160.0)):
        grid = study.scanner.grid
        assert (np.array(grid.shape) * grid.spacing_mm > 140).all()
        shares = visible_shares(chest, covered(chest, study.scanner))
        told = study.report.text.lower()
        seen = [name for name, share in shares.items() if share >= 0.5]
        assert all(any(words in told for words in names[name]) for name in seen), told
        most = max(most, len(seen))
    assert most > 3


def test_make_close_ups__are_cut_out_of_the_scan(chest: Anatomy, scanner: Scanner) -> None:
    # The same body without noise and kernel: a block sampled on the grid of a scan is a part of that scan.
    quiet = replace(scanner, kernel=0.0, noise_hu=1e-3)
    study = make_close_ups(chest, quiet, Seeds(1), OPTIONS, 1)[0]
    again = scan(chest, Placed(chest.hu, (), ()), study.scanner, Seeds(1))
    same = np.abs(study.hu.astype(int) - again) <= 1
    assert same.mean() > 0.5, "what differs are findings"


def test_make_close_ups__reports_are_true_of_the_block(chest: Anatomy, made: list[CTStudy]) -> None:
    names = load_wording("ct_train")["anatomy"]
    told = 0
    for study in made:
        shares = visible_shares(chest, covered(chest, study.scanner))
        shown = {finding.kind for finding in study.findings}
        for claim in study.report.claims:
            if claim.kinds:
                assert (claim.state == "absent" and not claim.side) != bool(shown & set(claim.kinds)), claim
                continue
            text = claim.sentence.lower()
            about = [n for n, words in names.items() if any(w in text for w in words)]
            missing = text.startswith("no ") or " not " in text
            if (
                about and not claim.side and missing == (claim.state == "absent")
            ):  # not: "the aorta is normal"
                told += 1
                assert any((shares[n] < 0.001) == (claim.state == "absent") for n in about), claim
    assert told > 40


def test_look__a_finding_counts_by_share_or_volume_and_a_sliver_by_neither(chest: Anatomy) -> None:
    lung = region(chest, "lung_lower_lobe_right")
    small, large = _ball(chest, lung, 2.0), _ball(chest, lung, 60.0)
    assert _looked(chest, "nodule", small, _cut(small, 0.8)).findings
    sliver = _looked(chest, "nodule", small, _cut(small, 0.3))
    assert not sliver.findings
    assert sliver.cut
    assert "nodule" in sliver.untold, "neither named nor denied"
    assert _looked(chest, "mass", large, _cut(large, 0.2)).findings, "12 ml"
    nothing = _looked(chest, "mass", large, (slice(0, 1), slice(None), slice(None)))
    assert not nothing.findings
    assert not nothing.cut


def test_look__size_of_an_organ_needs_most_of_it(chest: Anatomy) -> None:
    heart = region(chest, "heart")
    for share, named in ((0.95, True), (0.6, False)):
        view = _looked(chest, "cardiomegaly", heart, _cut(heart, share), "midline")
        assert bool(view.findings) == named
        assert ("cardiomegaly" in view.untold) == (not named)
        assert not view.cut, "such blocks are kept: hearts in part must not mean hearts of normal size"


def test_look__of_both_sides_only_the_one_that_is_seen(chest: Anatomy) -> None:
    lungs = region(chest, "lung_lower_lobe_left", "lung_lower_lobe_right")
    everything = (slice(None), slice(None), slice(None))
    assert _looked(chest, "pleural_effusion", lungs, everything, "bilateral").findings[0].side == "bilateral"
    middle = chest.hu.shape[2] // 2
    right = (slice(None), slice(None), slice(0, middle - 20))
    assert _looked(chest, "pleural_effusion", lungs, right, "bilateral").findings[0].side == "right"


def test_look__denies_nothing_without_its_seat(chest: Anatomy) -> None:
    nothing = Placed(chest.hu, (), ())
    corner = (slice(0, 2), slice(0, 4), slice(0, 4))
    assert look(chest, nothing, corner).untold == frozenset(CT_KINDS) | {"left", "right"}
    assert not look(chest, nothing, (slice(None), slice(None), slice(None))).untold
