"""Is this a scan that a model of chest CT knows? What is no CT at all is refused earlier (glint.io.hounsfield)."""

import numpy as np
from scipy import ndimage

from glint.io.volume import Volume

LUNG_HU = (-950.0, -600.0)
LUNG_ML = 200.0
"""A chest scan of which a child's lower third is seen still has more."""
SHORT_MM = 60.0


def domain_notes(scan: Volume) -> tuple[str, ...]:
    """Return warnings about a laid-out scan that is no chest CT, or hardly one.

    Lung is air of -950 to -600 HU that is thicker than two voxels: skin, bowel gas and the air of the room are not.
    """
    airy = (scan.hu > LUNG_HU[0]) & (scan.hu < LUNG_HU[1])
    if scan.valid is not None:
        airy &= scan.valid
    lung = ndimage.binary_opening(airy, structure=np.ones((2, 3, 3)))
    millilitres = float(lung.sum()) * float(np.prod(scan.spacing_mm)) / 1000
    notes: tuple[str, ...] = ()
    if millilitres < LUNG_ML:
        notes += (
            f"this does not look like a chest CT: {millilitres:.0f} ml of lung are visible; the model knows chest CT "
            "only, its answers mean nothing outside of that",
        )
    height = scan.chain.content.shape[0] * scan.spacing_mm[0]
    if height < SHORT_MM:
        notes += (f"the scan covers {height:.0f} mm of the patient's height only",)
    return notes
