"""One phantom study: findings placed into an anatomy, exposed, masked and reported.

A set-up (exposure and its calibration) belongs to the patient and may serve several studies, as bedside series
do; everything else is drawn from generators that belong to the study alone, so a study is the same whoever makes
it and whenever. Exposure and noise are drawn apart from the findings and cannot know of them.
"""

from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch import Tensor

from glint.phantom.anatomy import Anatomy
from glint.phantom.findings import INSERTERS, Inserted
from glint.phantom.placing import Placed, place_findings, structure_masks
from glint.phantom.report import Report, write_report
from glint.phantom.sample import sample_findings
from glint.phantom.schema import Finding
from glint.phantom.wording import WordingName
from glint.phantom.xray import (
    Calibration,
    Exposure,
    calibrate,
    image_spacing_mm,
    project_mask,
    render,
    sample_exposure,
)

FOCAL = ("ground_glass", "consolidation", "atelectasis", "hilar_enlargement", "mass", "nodule")
MOST_HIDDEN = 0.4
"""Largest share of a focal finding's frontal outline that may lie on another finding."""


@dataclass(frozen=True)
class PhantomStudy:
    """A radiograph with its report and its truth.

    Attributes:
        pixels: (Y, X) int32, 12 bit, bright = dense.
        exposure: How it was taken.
        pixel_mm: Pixel size at the detector.
        findings: What it shows.
        masks: (Y, X) bool per finding; empty unless masks were asked for.
        structures: Name -> (Y, X) bool of anatomy; empty unless asked for.
        report: The report, true by construction.
    """

    pixels: Tensor
    exposure: Exposure
    pixel_mm: float
    findings: tuple[Finding, ...]
    masks: tuple[Tensor, ...]
    structures: dict[str, Tensor]
    report: Report


@dataclass(frozen=True)
class Setup:
    """How a patient is X-rayed.

    Attributes:
        size_px: Side of the image.
        exposure: Geometry, beam, detector and display.
        calibration: Measured on the patient without findings: no window or scatter may tell of them.
    """

    size_px: int
    exposure: Exposure
    calibration: Calibration


def set_up(anatomy: Anatomy, seeds: np.random.SeedSequence, size_px: int) -> Setup:
    """Draw an exposure of a patient and calibrate it: the dearest part of a study, and the one that can be shared."""
    exposure = sample_exposure(_generator(int(seeds.generate_state(1, np.uint64)[0] >> 1)))
    return Setup(size_px, exposure, calibrate(anatomy.hu, anatomy.spacing_mm, exposure, size_px))


@dataclass(frozen=True)
class StudyOptions:
    """What kind of study to make."""

    wording: WordingName = "train"
    new_combination: bool = False
    masks: bool = False
    structures: bool = False


def _collides(inserted: Inserted, placed: Placed) -> bool:
    """Return whether two findings would hide each other in the frontal view.

    Heart, fluid and air keep their place whatever else there is, and thin tubes hide nothing.
    """
    finding = inserted.finding
    if finding.kind not in FOCAL and finding.kind != "pacemaker":
        return False
    outline = inserted.mask.any(dim=1)
    for other, mask in zip(placed.findings, placed.masks, strict=True):
        earlier = mask.any(dim=1)
        both = float((outline & earlier).sum())
        if finding.kind == "pacemaker" and other.kind in FOCAL and both > MOST_HIDDEN * float(earlier.sum()):
            return True
        if (
            finding.kind in FOCAL
            and other.kind != "cardiomegaly"
            and both > MOST_HIDDEN * float(outline.sum())
        ):
            return True
    return False


def make_study(
    anatomy: Anatomy, setup: Setup, seeds: np.random.SeedSequence, options: StudyOptions
) -> PhantomStudy:
    """Make one study.

    Args:
        anatomy: The patient.
        setup: How this patient is X-rayed, from `set_up`.
        seeds: The study's own randomness.
        options: Wording and which masks to make.
    """
    sample, position, noise, words = (int(s) for s in seeds.generate_state(4, np.uint64) >> 1)
    wanted = sample_findings(_generator(sample), force_held_out=options.new_combination)
    placed = place_findings(anatomy, wanted, _generator(position), INSERTERS, _collides)
    spacing, exposure, size = anatomy.spacing_mm, setup.exposure, setup.size_px
    pixels = render(placed.hu, spacing, exposure, size, _generator(noise), setup.calibration)
    masks = tuple(project_mask(m, spacing, exposure, size) for m in placed.masks) if options.masks else ()
    structures = (
        {
            name: project_mask(mask, spacing, exposure, size)
            for name, mask in structure_masks(anatomy, placed).items()
        }
        if options.structures
        else {}
    )
    pixel_mm = image_spacing_mm(tuple(anatomy.hu.shape), spacing, exposure, size)
    report = write_report(placed.findings, Random(words), options.wording)
    return PhantomStudy(pixels, exposure, pixel_mm, placed.findings, masks, structures, report)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
