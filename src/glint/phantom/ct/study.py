"""One phantom CT study: findings placed where the scan sees them, scanned, masked and reported."""

from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glint.io.regrid import regrid
from glint.phantom.anatomy import Anatomy
from glint.phantom.ct.findings import CT_INSERTERS
from glint.phantom.ct.scanner import Scanner, covered, scan, volume_grid
from glint.phantom.ct.schema import CT, CT_STRUCTURES
from glint.phantom.ct.visible import anatomy_claims, share_inside, unseen, visible_shares
from glint.phantom.findings import Inserted
from glint.phantom.placing import Placed, place_findings, structure_masks
from glint.phantom.report import Report, write_report
from glint.phantom.sample import sample_findings
from glint.phantom.schema import Finding
from glint.phantom.study import StudyOptions

ENOUGH_SEEN = 0.7
"""Least share of a finding that the scan covers; what is seen less is not inserted at all."""
MOST_SHARED = 0.1
"""Largest share of a finding that an earlier one may cover."""


@dataclass(frozen=True)
class CTStudy:
    """A scan with its report and its truth.

    Attributes:
        hu: (Z, Y, X) int16 on `scanner.grid`.
        scanner: How it was made.
        findings: What it shows.
        masks: (Z, Y, X) bool per finding; empty unless masks were asked for.
        structures: Name -> (Z, Y, X) bool of visible anatomy; empty unless asked for.
        report: The report, true by construction.
    """

    hu: NDArray[np.int16]
    scanner: Scanner
    findings: tuple[Finding, ...]
    masks: tuple[NDArray[np.bool_], ...]
    structures: dict[str, NDArray[np.bool_]]
    report: Report


def make_ct_study(
    anatomy: Anatomy, scanner: Scanner, seeds: np.random.SeedSequence, options: StudyOptions
) -> CTStudy:
    """Make one study.

    Args:
        anatomy: The patient.
        scanner: How this patient is scanned, drawn without knowing of findings.
        seeds: The study's own randomness.
        options: Wording ("ct_train" or "ct_new") and which masks to make.
    """
    sample, position, words = (int(s) for s in seeds.generate_state(3, np.uint64) >> 1)
    block = covered(anatomy, scanner)

    def refuses(inserted: Inserted, placed: Placed) -> bool:
        return share_inside(inserted.mask, block) < ENOUGH_SEEN or overlaps(inserted, placed)

    wanted = sample_findings(_generator(sample), force_held_out=options.new_combination, catalogue=CT)
    placed = place_findings(anatomy, wanted, _generator(position), CT_INSERTERS, refuses)
    shares = visible_shares(anatomy, block)
    rng = Random(words)
    others = anatomy_claims(shares, rng, options.wording)
    report = write_report(placed.findings, rng, options.wording, unseen(shares), others)
    masks = tuple(finding_on_scan(anatomy, mask, scanner) for mask in placed.masks) if options.masks else ()
    structures = structure_masks(anatomy, placed, CT_STRUCTURES) if options.structures else {}
    on_scan = {name: structure_on_scan(anatomy, mask, scanner) for name, mask in structures.items()}
    return CTStudy(
        hu=scan(anatomy, placed, scanner, seeds.spawn(1)[0]),
        scanner=scanner,
        findings=placed.findings,
        masks=masks,
        structures={name: mask for name, mask in on_scan.items() if mask.any()},
        report=report,
    )


def overlaps(inserted: Inserted, placed: Placed) -> bool:
    """Return whether a finding lies to a good part where an earlier one does."""
    small = MOST_SHARED * int(inserted.mask.sum())
    return any(int((inserted.mask & mask).sum()) > small for mask in placed.masks)


def finding_on_scan(anatomy: Anatomy, mask: Tensor, scanner: Scanner) -> NDArray[np.bool_]:
    """Bring a finding to the grid of the scan: voxels that are half full, or half as full as the fullest is."""
    share = regrid(mask.cpu().numpy(), volume_grid(anatomy), scanner.grid, fill=0.0)
    return share >= 0.5 * min(1.0, float(share.max()))


def structure_on_scan(anatomy: Anatomy, mask: Tensor, scanner: Scanner) -> NDArray[np.bool_]:
    """Bring a structure to the grid of the scan by nearest voxels, whose axes run along the scan's."""
    step = volume_grid(anatomy).steps_from(scanner.grid)
    values = mask.cpu().numpy()
    for axis, count in enumerate(scanner.grid.shape):
        index = np.rint(step[axis, axis] * np.arange(count) + step[axis, 3]).astype(int)
        picked = values.take(index.clip(0, values.shape[axis] - 1), axis=axis)
        outside = (index < 0) | (index >= values.shape[axis])
        picked[(slice(None),) * axis + (outside,)] = False
        values = picked
    return values


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
