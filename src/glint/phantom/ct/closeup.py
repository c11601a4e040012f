"""Close-ups: reconstructions of small blocks of a body, each with a report of what it shows. Training only.

A whole scan shows nearly every structure, so its report says little about where anything lies. A small block
contains a structure or lacks it, and the smallest show the inside of one alone: larger ones always show an edge, and a
gate then learns edges. The report speaks of the block as a whole, never of a place in it.
Public data has no such reports; a model that learns from close-ups learns from more than a hospital's pairs hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glint.phantom.anatomy import Anatomy
from glint.phantom.ct.findings import CT_INSERTERS
from glint.phantom.ct.scanner import (
    Scanner,
    covered,
    enhance,
    filled_grid,
    finish,
    sample_on,
    thicken,
)
from glint.phantom.ct.schema import CT, CT_KINDS, CT_STRUCTURES, NEEDS
from glint.phantom.ct.study import CTStudy, overlaps
from glint.phantom.ct.visible import MOST, Block, anatomy_claims, visible_shares, whole_voxels
from glint.phantom.placing import WHOLE_ORGAN, Placed, by_side, place_findings
from glint.phantom.report import write_report
from glint.phantom.sample import sample_findings
from glint.phantom.schema import Finding
from glint.phantom.study import StudyOptions

Sides = tuple[float, float]
SIDES_MM: Sides = (45.0, 120.0)
"""Shortest and longest side of a block, unless asked for others. A model that has learned the inside of structures from
these goes on with larger ones, where it learns what it has to tell them from."""
AROUND_FINDING = 0.5
"""Share of the blocks that lie around a finding, where the body has one: small blocks rarely meet them by chance."""
FIELD = 0.93
"""Radius of the round field of reconstruction, of half a slice's diagonal: beyond is padding, as in real targeted
reconstructions. It tells readers what a block of soft tissue alone does not: that these are Hounsfield units."""
PADDING_HU = -2048
FINDING_ML, STRUCTURE_ML = 4.0, 30.0
"""What is seen of a finding or a structure suffices to name it when it is half of the whole, or this much."""
HALF = 0.5
PRESENT, ABSENT = (len(CT_STRUCTURES),), (1, 2)
"""How many structures a report calls visible and not visible: all that are seen, because training takes what a report
does not mention for absent."""
ATTEMPTS = 8
"""Blocks tried until none cuts off so much of a finding that it can be neither named nor denied."""
ORGAN_SHARE = {"cardiomegaly": MOST, "aortic_dilation": 0.4}
"""Share of an organ that must be seen before its size can be judged."""
BASIS_SHARE = 0.1
"""Share of one of the structures that bear a kind which must be seen before the kind is denied."""


@dataclass(frozen=True)
class View:
    """What a block shows.

    Attributes:
        findings: What can be named, with the side that is seen.
        untold: Kinds, and sides, of which the block cannot tell.
        cut: Whether a sliver of a finding is in the block, too little to name it.
        shares: Structure -> share of it that is seen.
    """

    findings: tuple[Finding, ...]
    untold: frozenset[str]
    cut: bool
    shares: Mapping[str, float]


def make_close_ups(
    anatomy: Anatomy,
    scanner: Scanner,
    seeds: np.random.SeedSequence,
    options: StudyOptions,
    count: int,
    sides_mm: Sides = SIDES_MM,
) -> list[CTStudy]:
    """Place findings into a body once, and image and report `count` blocks of it.

    Args:
        anatomy: The patient.
        scanner: How this patient is scanned; its grid is replaced by those of the blocks.
        seeds: The study's own randomness.
        options: Wording; close-ups have no masks.
        count: Number of blocks.
        sides_mm: Shortest and longest side of a block.
    """
    sample, position, words = (int(s) for s in seeds.generate_state(3, np.uint64) >> 1)
    wanted = sample_findings(torch.Generator().manual_seed(sample), catalogue=CT)
    generator = torch.Generator().manual_seed(position)
    placed = place_findings(anatomy, wanted, generator, CT_INSERTERS, overlaps)
    volume = thicken(anatomy, enhance(anatomy, placed, scanner), scanner)
    studies: list[CTStudy] = []
    for child in seeds.spawn(count):
        rng = np.random.default_rng(child)
        here, view = _choose_block(anatomy, placed, scanner, rng, sides_mm)
        text = Random(words + len(studies))
        shares = _named_shares(anatomy, view.shares)
        others = anatomy_claims(shares, text, options.wording, present=PRESENT, absent=ABSENT)
        report = write_report(view.findings, text, options.wording, view.untold, others)
        hu = _round(finish(sample_on(anatomy, volume, here.grid), here, rng))
        studies.append(CTStudy(hu, here, view.findings, (), {}, report))
    return studies


def _choose_block(
    anatomy: Anatomy, placed: Placed, scanner: Scanner, rng: np.random.Generator, sides_mm: Sides
) -> tuple[Scanner, View]:
    """Draw blocks until one cuts no sliver off a finding, or give up and be silent about that finding."""
    trunk = [n * s for n, s in zip(anatomy.hu.shape, anatomy.spacing_mm, strict=True)]
    around = _centres_mm(anatomy, placed) if rng.random() < AROUND_FINDING else []
    for attempt in range(ATTEMPTS):
        sides = [min(float(rng.uniform(*sides_mm)), whole) for whole in trunk]
        room = [(whole - side) / 2 for whole, side in zip(trunk, sides, strict=True)]
        middle = [float(rng.uniform(-free, free)) for free in room]
        if around:
            chosen = around[int(rng.integers(len(around)))]
            near = [c + rng.uniform(-0.25, 0.25) * side for c, side in zip(chosen, sides, strict=True)]
            middle = [float(np.clip(c, -free, free)) for c, free in zip(near, room, strict=True)]
        z, y, x = middle
        grid = filled_grid((sides[0], sides[1], sides[2]), scanner.grid.spacing_mm, (z, y, x))
        here = replace(scanner, grid=grid)
        view = look(anatomy, placed, covered(anatomy, here))
        if not view.cut or attempt == ATTEMPTS - 1:
            return here, view
    raise AssertionError("unreachable")


def _centres_mm(anatomy: Anatomy, placed: Placed) -> list[list[float]]:
    """Return (z, y, x) of the middle of each finding from the middle of the trunk."""
    sides, steps = anatomy.hu.shape, anatomy.spacing_mm
    return [
        [
            (float(axis.float().mean()) - (n - 1) / 2) * s
            for axis, n, s in zip(index, sides, steps, strict=True)
        ]
        for index in (mask.nonzero(as_tuple=True) for mask in placed.masks)
        if len(index[0])
    ]


def _round(hu: NDArray[np.int16]) -> NDArray[np.int16]:
    """Fill what lies outside of the field of reconstruction of each slice (Z, Y, X)."""
    _, height, width = hu.shape
    y, x = np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2
    inside = y[:, None] ** 2 + x**2 <= FIELD**2 * (y[0] ** 2 + x[0] ** 2)
    return np.where(inside, hu, np.int16(PADDING_HU))


def look(anatomy: Anatomy, placed: Placed, block: Block) -> View:
    """Return what a block of the anatomy's voxels shows."""
    findings: list[Finding] = []
    shares = visible_shares(anatomy, block)
    untold = set(_without_basis(shares))
    cut = False
    for finding, mask in zip(placed.findings, placed.masks, strict=True):
        sides = [side for side, part in by_side(finding, mask) if _suffices(anatomy, finding, part, block)]
        if sides:
            findings.append(finding if len(sides) == 2 else replace(finding, side=sides[0]))
        elif mask[block].any():
            untold.add(finding.kind)
            cut |= finding.kind not in WHOLE_ORGAN
    return View(tuple(findings), frozenset(untold - {f.kind for f in findings}), cut, shares)


def _suffices(anatomy: Anatomy, finding: Finding, mask: Tensor, block: Block) -> bool:
    """Return whether enough of a finding is in the block to name it."""
    whole, inside = int(mask.sum()), int(mask[block].sum())
    if finding.kind in ORGAN_SHARE:
        return inside >= ORGAN_SHARE[finding.kind] * whole > 0
    return inside > 0 and (inside >= HALF * whole or inside * anatomy.voxel_ml >= FINDING_ML)


def _without_basis(shares: Mapping[str, float]) -> frozenset[str]:
    """Return the kinds, and the sides, that a block cannot deny because nothing of their seat is there."""
    sides = {side for side in ("left", "right") if shares[f"{side} lung"] < BASIS_SHARE}
    kinds: set[str] = set()
    for kind in CT_KINDS:
        seen = [shares[name] for name in NEEDS.get(kind, ("left lung", "right lung"))]
        if min(seen) < ORGAN_SHARE[kind] if kind in ORGAN_SHARE else max(seen) < BASIS_SHARE:
            kinds.add(kind)
    return frozenset(kinds | sides)


def _named_shares(anatomy: Anatomy, shares: Mapping[str, float]) -> dict[str, float]:
    """Return structure -> share that is seen, 1 for what is seen in quantity."""
    enough = STRUCTURE_ML / anatomy.voxel_ml
    whole = whole_voxels(anatomy)
    return {name: 1.0 if share * whole[name] >= enough else share for name, share in shares.items()}
