"""What breaks a CT model: the real CT of the demo as other scanners and other people might have delivered it.

python tools/vary_ct.py MODEL [--only NAME ...]

Truth follows every change. Compare with the first row; nothing here may be used to choose a model.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from glint.infer.real_ct import evaluate_real_ct, real_ct, truths
from glint.io.grid_chain import GridChain
from glint.io.regrid import regrid
from glint.io.volume import Volume
from glint.io.volume_steps import resample, to_canonical
from glint.io.voxel_grid import Triple, VoxelGrid
from glint.model.folder import load_model

AIR_HU = -1024.0
ENHANCED = ("heart", "aorta")


def made(volume: Volume, hu: NDArray[np.float32], grid: VoxelGrid | None = None) -> Volume:
    """Return a volume as if it had been read like this."""
    return replace(volume, hu=hu.astype(np.float32), valid=None, chain=GridChain.begin(grid or volume.grid))


def turned(volume: Volume, degrees: float) -> Volume:
    """Lay the patient obliquely: the grid is turned about the long axis and about the left-right axis."""
    angle = np.radians(degrees)
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    middle = volume.grid.to_lps(np.array([[(n - 1) / 2 for n in volume.grid.shape]]))[0]
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = turn, middle - turn @ middle
    grid = VoxelGrid(volume.grid.shape, move @ volume.grid.affine)
    return made(volume, regrid(volume.hu, volume.grid, grid, fill=AIR_HU), grid)


def cut(volume: Volume, start: tuple[float, float, float], stop: tuple[float, float, float]) -> Volume:
    """Keep a part of a canonical volume, in shares of its sides from feet to head, front to back, right to left."""
    volume = to_canonical(volume)
    low = [round(a * n) for a, n in zip(start, volume.grid.shape, strict=True)]
    high = [round(b * n) for b, n in zip(stop, volume.grid.shape, strict=True)]
    hu = volume.hu[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return made(volume, hu, volume.grid.box(_triple(low), _triple(hu.shape)))


def enhanced(volume: Volume, hu: float) -> Volume:
    """Add contrast medium to heart and aorta."""
    values = volume.hu.copy()
    for name, mask in truths(volume.grid):
        if name in ENHANCED:
            values[mask & (values > -50)] += hu
    return made(volume, values)


def with_arms(volume: Volume) -> Volume:
    """Put an arm (soft tissue around bone) on each side of the body, as far as the field of view goes."""
    volume = to_canonical(volume)
    values = volume.hu.copy()
    _, rows, columns = np.indices(values.shape, sparse=True)
    step = volume.spacing_mm[2]
    for column in (35 / step, values.shape[2] - 35 / step):
        distance = np.hypot(rows - values.shape[1] * 0.55, columns - column) * step
        values = np.where((distance < 35) & (values < -500), 40.0, values)
        values = np.where((distance < 11) & (values < 100), 600.0, values)
    return made(volume, values)


def mirrored(volume: Volume) -> Volume:
    """Exchange left and right, as a wrong affine or situs inversus does; truth does not follow."""
    axis = [0 if letter in "SI" else 1 if letter in "PA" else 2 for letter in volume.grid.orientation].index(
        2
    )
    return made(volume, np.flip(volume.hu, axis).copy())


def _triple(numbers: "list[int] | tuple[int, ...]") -> Triple:
    a, b, c = numbers
    return a, b, c


def _noise(volume: Volume) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 60, volume.hu.shape).astype(np.float32)


CHANGES: dict[str, Callable[[Volume], Volume]] = {
    "as it is": lambda v: v,
    "axes in another order (RAI)": lambda v: made(v, to_canonical(v, "RAI").hu, to_canonical(v, "RAI").grid),
    "turned by 10 degrees about two axes": lambda v: turned(v, 10),
    "turned by 20 degrees about two axes": lambda v: turned(v, 20),
    "slices of 5 mm": lambda v: _resampled(v, (5.0, v.spacing_mm[1], v.spacing_mm[2])),
    "voxels of 8 x 2 x 2 mm": lambda v: _resampled(v, (8.0, 2.0, 2.0)),
    "field of view: middle 65 % of rows and columns": lambda v: cut(v, (0, 0.17, 0.17), (1, 0.83, 0.83)),
    "field of view: upper half": lambda v: cut(v, (0.5, 0, 0), (1, 1, 1)),
    "field of view: lower half": lambda v: cut(v, (0, 0, 0), (0.5, 1, 1)),
    "noise of 60 HU": lambda v: made(v, v.hu + _noise(v)),
    "smooth kernel (2 mm)": lambda v: made(v, ndimage.gaussian_filter(v.hu, [2 / s for s in v.spacing_mm])),
    "contrast medium (+150 HU in heart and aorta)": lambda v: enhanced(v, 150),
    "arms down": with_arms,
    "left and right exchanged (truth is not)": mirrored,
}


def _resampled(volume: Volume, spacing_mm: tuple[float, float, float]) -> Volume:
    canonical = resample(to_canonical(volume), spacing_mm)
    return made(volume, canonical.hu, canonical.grid)


def main() -> None:
    """Print one row for every change."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="model folder, or the name of a packaged model")
    parser.add_argument("--only", nargs="+", choices=list(CHANGES), default=list(CHANGES))
    given = parser.parse_args()
    model, volume = load_model(given.model), real_ct()
    print("| scan | lungs | heart | liver | aorta | mass, Dice | mass, point inside | mass, score |")
    print("|---|--:|--:|--:|--:|--:|---|--:|")
    for name in given.only:
        answers, verdicts = evaluate_real_ct(model, CHANGES[name](volume))
        found = {verdict.name: verdict for verdict in verdicts}
        cells = [
            f"{found[part].dice:.2f}" if found[part].truth_ml > 0 else "-"
            for part in ("lungs", "heart", "liver", "aorta", "mass")
        ]
        inside = "-" if found["mass"].truth_ml == 0 else "yes" if found["mass"].hit else "no"
        print(f"| {name} | {' | '.join(cells)} | {inside} | {answers[0].score:.2f} |", flush=True)


if __name__ == "__main__":
    main()
