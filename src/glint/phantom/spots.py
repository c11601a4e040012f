"""Spot views: small collimated squares of a radiograph, each with a report of what it shows. Training only.

What close-ups are to CT (ct/closeup.py): a whole radiograph shows two lungs and a heart, and its report says little
about where a finding lies; a spot view contains it or lacks it, and is cheap to train on. Pixels are as large as those
of the whole image, so a model that learns from spots reads whole images at the same scale. The report speaks of the
spot as a whole, never of a place in it. Radiologists do take coned-down views, but no public data set has them with
reports of their own: a model that learns from spots learns from more than a hospital's pairs hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from torch import Tensor

from glint.phantom.anatomy import Anatomy
from glint.phantom.findings.common import lung
from glint.phantom.placing import by_side
from glint.phantom.report import Report, write_report
from glint.phantom.schema import KINDS, Finding
from glint.phantom.study import PhantomStudy, Setup
from glint.phantom.wording import WordingName
from glint.phantom.xray import project_mask

CANVAS = 5 / 16
"""Side of a spot's image, of the side of the whole image; 80 of 256 pixels, some 120 mm at the detector."""
OPEN = (0.6, 0.95)
"""Side of the open square in it; the black shutter around it makes spots as bright as the image they are from."""
AROUND_FINDING = 0.5
"""Share of the spots that lie around a finding, where the study has one."""
ENOUGH_MM2 = 900.0
"""What is seen of a finding suffices to name it when it is half of the whole, or so much at the detector."""
HALF = 0.5
LINE_SHARE = 0.3
"""The same for a catheter, which is long and thin."""
LUNG_SHARE = 0.1
"""Share of a lung that must be seen before anything of its side is denied."""
ATTEMPTS = 8
"""Spots tried until none cuts off so much of a finding that it can be neither named nor denied."""

Square = tuple[slice, slice]


@dataclass(frozen=True)
class Spot:
    """A spot view.

    Attributes:
        pixels: (S, S) int32 as in PhantomStudy; 0 under the shutter.
        findings: What can be named, with the side that is seen.
        report: The report, true by construction.
    """

    pixels: Tensor
    findings: tuple[Finding, ...]
    report: Report


def lung_outlines(anatomy: Anatomy, setup: Setup) -> dict[str, Tensor]:
    """Return "left" and "right" -> (Y, X) bool, where the lungs are in the images of a set-up."""
    return {
        side: project_mask(lung(anatomy, side), anatomy.spacing_mm, setup.exposure, setup.size_px)
        for side in ("left", "right")
    }


def make_spots(
    study: PhantomStudy,
    lungs: Mapping[str, Tensor],
    seeds: Sequence[np.random.SeedSequence],
    wording: WordingName,
) -> list[Spot]:
    """Cut spots out of a study, one for each of `seeds`.

    Args:
        study: With the masks of its findings.
        lungs: From `lung_outlines`.
        seeds: The randomness of each spot.
        wording: Of the reports.
    """
    spots: list[Spot] = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        square, findings, untold = _choose(study, lungs, rng)
        report = write_report(findings, Random(int(rng.integers(1 << 62))), wording, untold)
        spots.append(Spot(_cone(study.pixels, square), findings, report))
    return spots


def _choose(
    study: PhantomStudy, lungs: Mapping[str, Tensor], rng: np.random.Generator
) -> tuple[Square, tuple[Finding, ...], frozenset[str]]:
    """Draw squares until one cuts no sliver off a finding, or give up and be silent about that finding."""
    size = len(study.pixels)
    centres = [mask.nonzero().float().mean(0).tolist() for mask in study.masks if mask.any()]
    around = centres if rng.random() < AROUND_FINDING else []
    for attempt in range(ATTEMPTS):
        side = round(size * CANVAS * rng.uniform(*OPEN))
        middle = rng.uniform(side / 2, size - side / 2, 2)
        if around:
            middle = around[int(rng.integers(len(around)))] + rng.uniform(-0.3, 0.3, 2) * side
        top, left = (int(np.clip(round(m - side / 2), 0, size - side)) for m in middle)
        square = slice(top, top + side), slice(left, left + side)
        findings, untold, cut = look(study, lungs, square)
        if not cut or attempt == ATTEMPTS - 1:
            return square, findings, untold
    raise AssertionError("unreachable")


def look(
    study: PhantomStudy, lungs: Mapping[str, Tensor], square: Square
) -> tuple[tuple[Finding, ...], frozenset[str], bool]:
    """Return what can be named in a square, of what (kinds and sides) it cannot tell, and whether it cuts a finding."""
    found: list[Finding] = []
    # The size of the heart cannot be judged from a part of it.
    untold = {"cardiomegaly", *_sides_unseen(lungs, square)}
    if len(untold) == 3:
        untold |= set(KINDS) - {"central_venous_catheter", "pacemaker"}
    cut = False
    for finding, mask in zip(study.findings, study.masks, strict=True):
        if finding.kind == "cardiomegaly":
            continue
        sides = [s for s, part in by_side(finding, mask) if _suffices(finding, part, square, study.pixel_mm)]
        if sides:
            found.append(finding if len(sides) == 2 else replace(finding, side=sides[0]))
        elif mask[square].any():
            untold.add(finding.kind)
            cut = True
    return tuple(found), frozenset(untold - {f.kind for f in found}), cut


def _sides_unseen(lungs: Mapping[str, Tensor], square: Square) -> set[str]:
    return {
        side for side, outline in lungs.items() if outline[square].sum() < LUNG_SHARE * max(1, outline.sum())
    }


def _suffices(finding: Finding, mask: Tensor, square: Square, pixel_mm: float) -> bool:
    """Return whether enough of a finding is in the square to name it."""
    whole, inside = int(mask.sum()), int(mask[square].sum())
    if finding.kind == "central_venous_catheter":
        return inside >= LINE_SHARE * whole > 0
    return inside > 0 and (inside >= HALF * whole or inside * pixel_mm**2 >= ENOUGH_MM2)


def _cone(pixels: Tensor, square: Square) -> Tensor:
    """Return the square in the middle of a spot's image."""
    side = round(len(pixels) * CANVAS)
    part = pixels[square]
    first = (side - len(part)) // 2
    canvas = pixels.new_zeros((side, side))
    canvas[first : first + len(part), first : first + len(part)] = part
    return canvas
