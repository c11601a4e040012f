"""Attenuation of a diagnostic X-ray beam by water-like tissue and bone mineral.

Mass attenuation coefficients, cm^2/g, are those of NIST (XCOM / ICRU-44), interpolated log-log. Thicknesses
are areal densities in g/cm^2.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

_KEV = (20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0)
_WATER = (0.8096, 0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707, 0.1505)
_BONE = (4.001, 1.331, 0.6655, 0.4242, 0.3148, 0.2229, 0.1855, 0.1480)
_ALUMINIUM = (3.441, 1.128, 0.5685, 0.3681, 0.2778, 0.2018, 0.1704, 0.1378)
_FILTER_G_CM2 = 0.25 * 2.699 + 0.2  # tube and added filtration, about 3 mm Al equivalent
_BIN_KEV = 10.0
BONE_FROM_HU, BONE_FULL_HU = 130.0, 1100.0


def _interpolate(table: tuple[float, ...], kev: float) -> float:
    """Return a coefficient at one energy, log-log between the table's points."""
    for (e0, v0), (e1, v1) in zip(
        zip(_KEV, table, strict=True), zip(_KEV[1:], table[1:], strict=True), strict=False
    ):
        if kev <= e1:
            share = (math.log(kev) - math.log(e0)) / (math.log(e1) - math.log(e0))
            return math.exp((1 - share) * math.log(v0) + share * math.log(v1))
    raise AssertionError("the spectrum stays inside the table")


@lru_cache(maxsize=64)
def spectrum(kvp: int) -> tuple[tuple[float, float, float], ...]:
    """Return (weight, mu water, mu bone) of each energy bin of a filtered Kramers spectrum.

    Weights are detected energy fractions (energy-integrating caesium iodide screen) and add up to 1.

    Args:
        kvp: Tube voltage, 50 to 140.
    """
    bins: list[tuple[float, float, float]] = []
    kev = 25.0
    while kev < kvp:
        fluence = (kvp - kev) / kev * math.exp(-_interpolate(_ALUMINIUM, kev) * _FILTER_G_CM2)
        absorbed = 1 - math.exp(-((60 / kev) ** 2.5))
        bins.append((fluence * absorbed * kev, _interpolate(_WATER, kev), _interpolate(_BONE, kev)))
        kev += _BIN_KEV
    total = sum(weight for weight, _, _ in bins)
    return tuple((weight / total, water, bone) for weight, water, bone in bins)


def densities(hu: Tensor) -> Tensor:
    """Split a volume into two materials.

    Args:
        hu: (Z, Y, X) float32, Hounsfield units.

    Returns:
        (2, Z, Y, X) g/cm^3 of water-like tissue and of bone.
    """
    scaled = hu * 1e-3
    # Above water, HU rise faster than density (calcium absorbs more than its mass).
    total = torch.minimum(1 + scaled, 1 + 0.6 * scaled).clamp_(min=0)
    share = ((hu - BONE_FROM_HU) / (BONE_FULL_HU - BONE_FROM_HU)).clamp_(0, 1)
    bone = share * total
    return torch.stack([total - bone, bone])


def transmission(areal: Tensor, kvp: int) -> Tensor:
    """Return the detected fraction of the beam behind (2, Y, X) g/cm^2 of water and bone: (Y, X) in 0..1."""
    water, bone = areal[0], areal[1]
    out = torch.zeros_like(water)
    for weight, mu_water, mu_bone in spectrum(kvp):
        out += weight * torch.exp(-(mu_water * water + mu_bone * bone))
    return out
