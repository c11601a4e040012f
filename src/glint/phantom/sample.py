"""Which findings a phantom study has: 0 to 4 kinds, each about equally frequent, sides and severities varied."""

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


def sample_findings(
    generator: torch.Generator, allow_held_out: bool = False, force_held_out: bool = False
) -> list[Finding]:
    """Return the findings of one study, at most one of each kind; an empty list is a normal study.

    Args:
        generator: Source of every random choice.
        allow_held_out: Whether pairs of HELD_OUT_COMBINATIONS may occur.
        force_held_out: Put at least one such pair into the study (the split of new combinations).
    """
    count = _choose(generator, COUNT_WEIGHTS)
    kinds = list(KINDS)
    order = torch.randperm(len(kinds), generator=generator).tolist()
    findings: list[Finding] = []
    if force_held_out:
        pairs = sorted(HELD_OUT_COMBINATIONS)
        kind, place = pairs[int(torch.randint(len(pairs), (), generator=generator))]
        findings.append(_finding(generator, kind, place))
        count = max(count, 1)
    for index in order:
        if len(findings) >= count:
            break
        if all(kinds[index] != finding.kind for finding in findings):
            findings.append(_sample(generator, kinds[index], allow_held_out or force_held_out))
    return findings


def _sample(generator: torch.Generator, kind: str, allow_held_out: bool) -> Finding:
    """Draw a place for one finding; places held out are not offered."""
    if kind in SIDES:
        places, weights = zip(*SIDES[kind], strict=True)
    else:
        places, weights = KINDS[kind], (1.0,) * len(KINDS[kind])
    offered = [
        (place, weight)
        for place, weight in zip(places, weights, strict=True)
        if allow_held_out or (kind, place) not in HELD_OUT_COMBINATIONS
    ]
    place = offered[_choose(generator, tuple(weight for _, weight in offered))][0]
    return _finding(generator, kind, place)


def _finding(generator: torch.Generator, kind: str, place: str) -> Finding:
    """Return a finding at a lobe or side, with a severity drawn evenly (devices have none to speak of)."""
    device = kind in ("central_venous_catheter", "pacemaker")
    severity = "moderate" if device else SEVERITIES[_choose(generator, (1.0, 1.0, 1.0))]
    if kind in SIDES:
        sides: dict[str, Side] = {side: side for side, _ in SIDES[kind]}
        return Finding(kind, sides[place], "", severity)
    return Finding(kind, "left" if place.startswith("left") else "right", place, severity)


def _choose(generator: torch.Generator, weights: tuple[float, ...]) -> int:
    return int(torch.multinomial(torch.tensor(weights), 1, generator=generator))
