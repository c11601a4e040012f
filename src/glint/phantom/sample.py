"""Which findings a phantom study has: 0 to 4 kinds, each about equally frequent, sides and severities varied."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from glint.phantom.schema import HELD_OUT_COMBINATIONS, KINDS, Finding, Severity, Side

COUNT_WEIGHTS = (0.16, 0.23, 0.26, 0.2, 0.15)
"""How often a study has 0, 1, 2, 3 or 4 findings."""
SEVERITIES: tuple[Severity, ...] = ("small", "moderate", "large")
SIDES: dict[str, tuple[tuple[Side, float], ...]] = {
    "pleural_effusion": (("left", 0.37), ("right", 0.37), ("bilateral", 0.26)),
    "pneumothorax": (("left", 0.5), ("right", 0.5)),
    "cardiomegaly": (("midline", 1.0),),
    "hilar_enlargement": (("left", 0.5), ("right", 0.5)),
    "central_venous_catheter": (("left", 0.3), ("right", 0.7)),
    "pacemaker": (("left", 0.65), ("right", 0.35)),
}
UNGRADED = ("central_venous_catheter", "pacemaker")
"""Devices have no severity to speak of."""


@dataclass(frozen=True)
class Catalogue:
    """What a modality can show.

    Attributes:
        kinds: Kind -> locations; ("",) when the side alone says where it is.
        sides: Kind without locations -> (side, weight).
        held_out: (kind, place) that ordinary studies never show.
        exclusive: Sets of kinds of which a study has one at most.
    """

    kinds: Mapping[str, tuple[str, ...]]
    sides: Mapping[str, tuple[tuple[Side, float], ...]]
    held_out: frozenset[tuple[str, str]]
    exclusive: tuple[frozenset[str], ...] = ()

    def excluded(self, kind: str, findings: list[Finding]) -> bool:
        """Return whether a kind cannot join findings that are there."""
        there = {finding.kind for finding in findings}
        return kind in there or any(kind in group and group & there for group in self.exclusive)


CXR = Catalogue(KINDS, SIDES, HELD_OUT_COMBINATIONS)


def sample_findings(
    generator: torch.Generator,
    allow_held_out: bool = False,
    force_held_out: bool = False,
    catalogue: Catalogue = CXR,
) -> list[Finding]:
    """Return the findings of one study, at most one of each kind; an empty list is a normal study.

    Args:
        generator: Source of every random choice.
        allow_held_out: Whether held-out pairs of kind and place may occur.
        force_held_out: Put at least one such pair into the study (the split of new combinations).
        catalogue: What there is to choose from.
    """
    count = _choose(generator, COUNT_WEIGHTS)
    kinds = list(catalogue.kinds)
    order = torch.randperm(len(kinds), generator=generator).tolist()
    findings: list[Finding] = []
    if force_held_out:
        pairs = sorted(catalogue.held_out)
        kind, place = pairs[int(torch.randint(len(pairs), (), generator=generator))]
        findings.append(_finding(generator, kind, place, catalogue))
        count = max(count, 1)
    for index in order:
        if len(findings) >= count:
            break
        if not catalogue.excluded(kinds[index], findings):
            findings.append(_sample(generator, kinds[index], allow_held_out or force_held_out, catalogue))
    return findings


def _sample(generator: torch.Generator, kind: str, allow_held_out: bool, catalogue: Catalogue) -> Finding:
    """Draw a place for one finding; places held out are not offered."""
    if kind in catalogue.sides:
        places, weights = zip(*catalogue.sides[kind], strict=True)
    else:
        places, weights = catalogue.kinds[kind], (1.0,) * len(catalogue.kinds[kind])
    offered = [
        (place, weight)
        for place, weight in zip(places, weights, strict=True)
        if allow_held_out or (kind, place) not in catalogue.held_out
    ]
    place = offered[_choose(generator, tuple(weight for _, weight in offered))][0]
    return _finding(generator, kind, place, catalogue)


def _finding(generator: torch.Generator, kind: str, place: str, catalogue: Catalogue) -> Finding:
    """Return a finding at a lobe or side, with a severity drawn evenly."""
    severity = "moderate" if kind in UNGRADED else SEVERITIES[_choose(generator, (1.0, 1.0, 1.0))]
    if kind in catalogue.sides:
        sides: dict[str, Side] = {side: side for side, _ in catalogue.sides[kind]}
        return Finding(kind, sides[place], "", severity)
    return Finding(kind, "left" if place.startswith("left") else "right", place, severity)


def _choose(generator: torch.Generator, weights: tuple[float, ...]) -> int:
    return int(torch.multinomial(torch.tensor(weights), 1, generator=generator))
