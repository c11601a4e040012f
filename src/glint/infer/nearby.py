"""The score of the best place of a scan, from maps of its patches.

The score of a model is a mean over the open patches of an image and a null answer of mass eps0 (model/align.py). A
scan has tens of thousands of patches, and in all of them together what is open a little drowns a small finding. So
every place has the score of what is near it, with a Gaussian w of 1 at the place itself; the best is that of the scan:

    score_p = (sum_r w_pr e_r + eps0 null) / (eps0 + sum_r w_pr g_r)        score = max over valid p of score_p

g gate, e evidence g relu(c), null the score of a closed gate. Chosen on validation scans of the phantom
(docs/decisions.md). Axes: S queries, (Zp, Yp, Xp) patches.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]

NEAR_PATCHES = 1.5
"""Standard deviation of w: 15 mm in patches of 10 mm. 1 to 2.5 are alike."""
REACH = 6
"""Patches at which w ends: four standard deviations, where it is 0.0003."""


def best_place(gate: Floats, evidence: Floats, null: Floats, eps0: float, valid: NDArray[np.bool_]) -> Floats:
    """Return (S,) scores.

    Args:
        gate: (S, Zp, Yp, Xp) g.
        evidence: (S, Zp, Yp, Xp) e.
        null: (S,).
        eps0: Patches that the null answer weighs.
        valid: (Zp, Yp, Xp) False where no place is.
    """
    scores = (sum_nearby(evidence) + eps0 * null[:, None, None, None]) / (eps0 + sum_nearby(gate))
    best: Floats = np.where(valid, scores, -np.inf).reshape(len(scores), -1).max(1)
    return best


def sum_nearby(maps: Floats) -> Floats:
    """Return sums of maps (S, Zp, Yp, Xp) weighted with w around every place; there is nothing outside."""
    apart = np.arange(-REACH, REACH + 1)
    bell = np.exp(-0.5 * (apart / NEAR_PATCHES) ** 2)
    for axis in (1, 2, 3):
        maps = ndimage.correlate1d(maps, bell, axis, mode="constant")
    return maps
