"""What studies show: counts, frequencies, held-out combinations."""

from collections import Counter

import pytest
import torch

from glint.phantom.sample import sample_findings
from glint.phantom.schema import HELD_OUT_COMBINATIONS, KINDS, Finding

STUDIES = 3000


def _studies(**options: bool) -> list[list[Finding]]:
    generator = torch.Generator().manual_seed(7)
    return [sample_findings(generator, **options) for _ in range(STUDIES)]


@pytest.fixture(scope="module")
def studies() -> list[list[Finding]]:
    return _studies()


def test_sample_findings__zero_to_four_and_a_sixth_normal(studies: list[list[Finding]]) -> None:
    counts = Counter(len(s) for s in studies)
    assert set(counts) == {0, 1, 2, 3, 4}
    assert 0.13 < counts[0] / STUDIES < 0.19


def test_sample_findings__every_kind_in_at_least_eight_percent(studies: list[list[Finding]]) -> None:
    kinds = Counter(f.kind for s in studies for f in s)
    assert set(kinds) == set(KINDS)
    assert min(kinds.values()) > 0.08 * STUDIES
    assert max(kinds.values()) < 1.5 * min(kinds.values())


def test_sample_findings__a_kind_at_most_once(studies: list[list[Finding]]) -> None:
    assert all(len({f.kind for f in s}) == len(s) for s in studies)


def test_sample_findings__no_held_out_combination_by_default(studies: list[list[Finding]]) -> None:
    assert not {f.combination for s in studies for f in s} & HELD_OUT_COMBINATIONS


def test_sample_findings__forced_has_one_in_every_study() -> None:
    studies = _studies(force_held_out=True)
    assert all({f.combination for f in s} & HELD_OUT_COMBINATIONS for s in studies)
    assert {f.combination for s in studies for f in s} >= HELD_OUT_COMBINATIONS


def test_sample_findings__allowed_covers_every_place() -> None:
    seen = {(f.kind, f.location) for s in _studies(allow_held_out=True) for f in s}
    assert seen == {(kind, place) for kind, places in KINDS.items() for place in places}


def test_sample_findings__sides_agree_with_locations(studies: list[list[Finding]]) -> None:
    for finding in (f for s in studies for f in s):
        assert not finding.location or finding.location.startswith(finding.side)
    sides = {f.side for s in studies for f in s if f.kind == "pleural_effusion"}
    assert sides == {"left", "right", "bilateral"}
