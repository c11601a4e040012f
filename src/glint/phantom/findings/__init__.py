"""Findings that can be painted into an anatomy: a closed registry, one small function a kind.

`insert` never changes its input and returns None when the anatomy has no room for the finding.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from glint.phantom.anatomy import Anatomy
from glint.phantom.findings.common import LOBE_LABELS, Inserted, lung, region
from glint.phantom.findings.devices import insert_catheter, insert_pacemaker
from glint.phantom.findings.heart import insert_cardiomegaly
from glint.phantom.findings.hila import hilum_mm, insert_hilar_enlargement
from glint.phantom.findings.nodules import insert_nodule
from glint.phantom.findings.opacities import insert_atelectasis, insert_consolidation, insert_ground_glass
from glint.phantom.findings.pleura import insert_effusion, insert_pneumothorax
from glint.phantom.schema import Finding

__all__ = ["INSERTERS", "INSERTION_ORDER", "Inserted", "Inserter", "can_host", "insert"]

Inserter = Callable[[Tensor, Anatomy, Finding, torch.Generator], Inserted | None]

# Organs and pleura first, then lung tissue, then small things, then devices that lie over everything.
INSERTERS: dict[str, Inserter] = {
    "cardiomegaly": insert_cardiomegaly,
    "pleural_effusion": insert_effusion,
    "pneumothorax": insert_pneumothorax,
    "ground_glass": insert_ground_glass,
    "consolidation": insert_consolidation,
    "atelectasis": insert_atelectasis,
    "hilar_enlargement": insert_hilar_enlargement,
    "mass": insert_nodule,
    "nodule": insert_nodule,
    "pacemaker": insert_pacemaker,
    "central_venous_catheter": insert_catheter,
}
INSERTION_ORDER = tuple(INSERTERS)


def insert(
    anatomy_hu: Tensor, anatomy: Anatomy, finding: Finding, generator: torch.Generator
) -> Inserted | None:
    """Return the volume with one more finding, or None when there is no room for it.

    Args:
        anatomy_hu: (Z, Y, X) volume so far, Hounsfield units; left unchanged.
        anatomy: Labels and lung depth that say where things are.
        finding: What to insert.
        generator: Source of every random choice.
    """
    return INSERTERS[finding.kind](anatomy_hu, anatomy, finding, generator)


def can_host(anatomy: Anatomy, finding: Finding) -> bool:
    """Return whether the structures that the finding needs are there at all."""
    if finding.location:
        return bool(region(anatomy, LOBE_LABELS[finding.location]).any())
    if finding.kind == "hilar_enlargement":
        return hilum_mm(anatomy, finding.side) is not None
    if finding.kind == "cardiomegaly":
        return bool(region(anatomy, "heart").any())
    if finding.kind in ("central_venous_catheter", "pacemaker"):
        return bool(region(anatomy, "superior_vena_cava").any())
    sides = ("left", "right") if finding.side == "bilateral" else (finding.side,)
    return all(bool(lung(anatomy, side).any()) for side in sides)
