"""Findings placed into an anatomy one after the other, so that none hides another: for X-rays and for CT."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from glint.phantom.anatomy import Anatomy
from glint.phantom.findings import Inserted, Inserter
from glint.phantom.findings.common import in_lung, region
from glint.phantom.labels import LABELS, STRUCTURES
from glint.phantom.schema import Finding, Side

ATTEMPTS = 6
WHOLE_ORGAN = {"cardiomegaly": "heart", "aortic_dilation": "aorta"}
"""Findings that are an organ that has grown; their masks are the whole of it."""
DEVICES = ("central_venous_catheter", "pacemaker")


@dataclass(frozen=True)
class Placed:
    """Findings in a volume.

    Attributes:
        hu: (Z, Y, X) volume with all findings, Hounsfield units.
        findings: What was placed, in order of insertion.
        masks: (Z, Y, X) bool, one per finding.
    """

    hu: Tensor
    findings: tuple[Finding, ...]
    masks: tuple[Tensor, ...]


def place_findings(
    anatomy: Anatomy,
    findings: list[Finding],
    generator: torch.Generator,
    inserters: Mapping[str, Inserter],
    refuses: Callable[[Inserted, Placed], bool],
) -> Placed:
    """Insert findings one after the other; one that finds no free place after some attempts is left out.

    Args:
        anatomy: The patient.
        findings: What to insert, in any order.
        generator: Source of every random choice.
        inserters: Kind -> inserter, in the order of insertion.
        refuses: Says whether an inserted finding must be tried elsewhere, given those that are there. Besides,
            lung taken by heart, fluid or air is no longer offered.
    """
    placed = Placed(anatomy.hu, (), ())
    order = list(inserters)
    for finding in sorted(findings, key=lambda f: order.index(f.kind)):
        for _ in range(ATTEMPTS):
            inserted = inserters[finding.kind](placed.hu, anatomy, finding, generator)
            if inserted is None or refuses(inserted, placed):
                continue
            placed = Placed(inserted.hu, (*placed.findings, inserted.finding), (*placed.masks, inserted.mask))
            if finding.kind not in DEVICES:
                anatomy = _without(anatomy, inserted.mask)
            break
    return placed


def _without(anatomy: Anatomy, mask: Tensor) -> Anatomy:
    """Return the anatomy with the masked lung voxels given away, so that nothing else is put there."""
    given = mask & in_lung(anatomy.labels)
    return replace(anatomy, labels=anatomy.labels.masked_fill(given, LABELS["body"]))


def structure_masks(
    anatomy: Anatomy, placed: Placed, structures: Mapping[str, tuple[str, ...]] = STRUCTURES
) -> dict[str, Tensor]:
    """Return name -> (Z, Y, X) bool of the anatomy; heart and aorta are as large as the findings made them."""
    masks = {name: region(anatomy, *labels) for name, labels in structures.items()}
    for finding, mask in zip(placed.findings, placed.masks, strict=True):
        if finding.kind in WHOLE_ORGAN:
            masks[WHOLE_ORGAN[finding.kind]] |= mask
    return masks


def by_side(finding: Finding, mask: Tensor) -> Sequence[tuple[Side, Tensor]]:
    """Return (side, mask) of a finding: both halves of one on both sides, the patient's right at low x.

    Args:
        finding: The finding.
        mask: (..., X) bool, its voxels, or its pixels in a frontal image.
    """
    if finding.side != "bilateral":
        return [(finding.side, mask)]
    left = torch.arange(mask.shape[-1], device=mask.device) >= mask.shape[-1] / 2
    return [("left", mask & left), ("right", mask & ~left)]
