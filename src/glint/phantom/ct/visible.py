"""What a scan covers: which anatomy a report may call visible or not, and of which findings it can tell."""

from functools import lru_cache
from random import Random

import torch
from torch import Tensor

from glint.phantom.anatomy import Anatomy
from glint.phantom.ct.schema import CT_STRUCTURES, NEEDS
from glint.phantom.labels import LABELS
from glint.phantom.report import Claim
from glint.phantom.wording import WordingName, fill, finish, load_wording

MOST, MANY, FEW = 0.85, 0.5, 0.001
"""Shares of a structure: enough to judge it, enough to call it visible, and so little that it is not."""

Block = tuple[slice, slice, slice]


def share_inside(mask: Tensor, block: Block) -> float:
    """Return which share of a (Z, Y, X) mask lies in a block of voxels; 0 for an empty mask."""
    whole = int(mask.sum())
    return int(mask[block].sum()) / whole if whole else 0.0


def visible_shares(anatomy: Anatomy, block: Block) -> dict[str, float]:
    """Return structure -> share that the scan covers; 0 for one that the patient lacks."""
    seen = _voxels(anatomy.labels[block])
    return {name: seen[name] / whole if whole else 0.0 for name, whole in whole_voxels(anatomy).items()}


@lru_cache(maxsize=1)
def whole_voxels(anatomy: Anatomy) -> dict[str, int]:
    """Return structure -> voxels of all of it; counted once a patient, however many blocks are looked at."""
    return _voxels(anatomy.labels)


def _voxels(labels: Tensor) -> dict[str, int]:
    counts = torch.bincount(labels.flatten(), minlength=256).tolist()
    return {name: sum(counts[LABELS[code]] for code in codes) for name, codes in CT_STRUCTURES.items()}


def unseen(shares: dict[str, float]) -> frozenset[str]:
    """Return the kinds, and the sides, of which a scan cannot tell because the anatomy is not all there."""
    kinds = {kind for kind, needs in NEEDS.items() if min(shares[name] for name in needs) < MOST}
    sides = {side for side in ("left", "right") if shares[f"{side} lung"] < MOST}
    return frozenset(kinds | sides)


def anatomy_claims(
    shares: dict[str, float],
    rng: Random,
    wording: WordingName,
    *,
    present: tuple[int, ...] = (1, 2, 3),
    absent: tuple[int, ...] = (0, 1, 2),
) -> list[Claim]:
    """Say of some structures that they are visible, and of some that they are not.

    The words name structures of the scan as a whole, never places: a report is no mask.

    Args:
        shares: Structure -> share that is seen.
        rng: Chooses structures and words.
        wording: Which book of words.
        present: How many visible structures to name: one of these numbers, as far as there are so many.
        absent: How many structures to miss.
    """
    book = load_wording(wording)
    rules = {name: (str(rule),) for name, rule in book["rules"].items()}
    claims: list[Claim] = []
    for state, most, names in (
        ("present", rng.choice(present), [n for n, share in shares.items() if share >= MANY]),
        ("absent", rng.choice(absent), [n for n, share in shares.items() if share < FEW]),
    ):
        for name in rng.sample(names, min(most, len(names))):
            frame = rng.choice(book["anatomy_frames"][state])
            text = finish(fill(frame, {**rules, "structure": tuple(book["anatomy"][name])}, rng))
            claims.append(Claim(text, "present" if state == "present" else "absent"))
    return claims
