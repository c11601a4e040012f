"""CT findings in a real anatomy: masks say exactly what changed, and things lie where anatomy puts them."""

import numpy as np
import pytest
import torch

from glint.phantom.anatomy import Anatomy, sample_anatomy
from glint.phantom.base import CT_GRID, load_base
from glint.phantom.ct.findings import CT_INSERTERS
from glint.phantom.ct.schema import CT, CT_KINDS
from glint.phantom.findings import Inserted
from glint.phantom.findings.common import LOBE_LABELS, in_lung, lung, region
from glint.phantom.placing import WHOLE_ORGAN
from glint.phantom.sample import sample_findings
from glint.phantom.schema import Finding


@pytest.fixture(scope="module")
def chest() -> Anatomy:
    return sample_anatomy(load_base(grid=CT_GRID), 5)


def _insert(chest: Anatomy, kind: str, severity: str, side: str = "", place: str | None = None) -> Inserted:
    place = CT_KINDS[kind][0] if place is None else place
    side = side or (place.split()[0] if place else CT.sides[kind][0][0])
    finding = Finding(kind, side, place, severity)  # type: ignore[arg-type]
    for seed in range(8):
        inserted = CT_INSERTERS[kind](chest.hu, chest, finding, torch.Generator().manual_seed(seed))
        if inserted is not None:
            return inserted
    raise AssertionError(f"no room for {finding}")


def _centre(mask: torch.Tensor) -> torch.Tensor:
    return mask.nonzero().float().mean(dim=0)


def _millilitres(chest: Anatomy, mask: torch.Tensor) -> float:
    return float(mask.sum()) * float(np.prod(chest.spacing_mm)) / 1000


@pytest.mark.parametrize("kind", CT_KINDS)
def test_insert__changes_exactly_the_mask_and_grows_with_severity(chest: Anatomy, kind: str) -> None:
    before = chest.hu.clone()
    volumes = []
    for severity in ("small", "large"):
        inserted = _insert(chest, kind, severity)
        changed = inserted.hu != before
        assert torch.equal(chest.hu, before)
        if kind in WHOLE_ORGAN:
            organ = region(chest, WHOLE_ORGAN[kind])
            assert not (changed & ~inserted.mask).any()
            beside = inserted.mask & ~changed & ~organ  # rounding the heart rounds a little outwards, too
            assert int(beside.sum()) < 0.06 * int(inserted.mask.sum())
        else:
            assert torch.equal(changed, inserted.mask)
        volumes.append(_millilitres(chest, inserted.mask))
    assert 0.1 < volumes[0] < volumes[1] < 2500


@pytest.mark.parametrize("side", ["left", "right"])
def test_insert__fluid_lies_behind_and_air_in_front(chest: Anatomy, side: str) -> None:
    inside = lung(chest, side)
    for kind, sign in (("pleural_effusion", 1), ("pneumothorax", -1)):
        mask = _insert(chest, kind, "moderate", side).mask
        assert not (mask & ~inside).any()
        assert sign * float(_centre(mask)[1] - _centre(inside)[1]) * chest.spacing_mm[1] > 15


def test_insert__emphysema_thins_its_lobe_and_keeps_vessels(chest: Anatomy) -> None:
    for place in CT_KINDS["emphysema"]:
        inserted = _insert(chest, "emphysema", "large", place=place)
        assert not (inserted.mask & ~region(chest, LOBE_LABELS[place])).any()
        assert float((chest.hu - inserted.hu)[inserted.mask].mean()) > 30
        assert torch.equal(inserted.hu[chest.hu > -500], chest.hu[chest.hu > -500])


def test_insert__vessels_and_heart(chest: Anatomy) -> None:
    aorta, heart = region(chest, "aorta"), region(chest, "heart")
    plaque = _insert(chest, "aortic_calcification", "moderate")
    assert not (plaque.mask & ~aorta).any()
    coronary = _insert(chest, "coronary_calcification", "moderate")
    assert float((coronary.mask & heart).sum()) > 0.8 * float(coronary.mask.sum())
    for inserted in (plaque, coronary):
        assert float(inserted.hu[inserted.mask].max()) > 300
    fluid = _insert(chest, "pericardial_effusion", "large")
    distance = (_centre(fluid.mask) - _centre(heart)) * torch.tensor(chest.spacing_mm)
    assert float(distance.norm()) < 30, "all around"
    # The rounded heart is a little smaller than its label: vessels branch off the label.
    assert float((fluid.mask & heart).sum()) < 0.2 * float(fluid.mask.sum())


def test_insert__nodes_leave_the_airways_open(chest: Anatomy) -> None:
    inserted = _insert(chest, "mediastinal_lymphadenopathy", "large")
    airways = ~in_lung(chest.labels) & (chest.hu < -250)
    assert not (inserted.mask & airways).any()
    trachea = _centre(region(chest, "trachea"))
    away = (_centre(inserted.mask) - trachea).abs() * torch.tensor(chest.spacing_mm)
    assert float(away[1:].max()) < 35, "in the mediastinum"


def test_sample_findings__excludes_pairs_that_share_an_organ_and_held_out_places() -> None:
    generator = torch.Generator().manual_seed(0)
    seen: set[str] = set()
    for _ in range(400):
        findings = sample_findings(generator, catalogue=CT)
        kinds = {f.kind for f in findings}
        seen |= kinds
        assert all(len(kinds & group) <= 1 for group in CT.exclusive)
        assert not {f.combination for f in findings} & CT.held_out
    assert seen == set(CT_KINDS)
    forced = [sample_findings(generator, force_held_out=True, catalogue=CT) for _ in range(20)]
    assert all({f.combination for f in findings} & CT.held_out for findings in forced)
