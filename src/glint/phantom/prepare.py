"""Make the base volume from the real CT: mass inpainted, contrast agent and table removed, resampled.

Axes (Z, Y, X): +X = patient left, +Y = posterior, +Z = superior.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull

from glint.phantom import cleaning, source
from glint.phantom.labels import BONES, LABELS, LUNG_LEFT, LUNG_RIGHT
from glint.phantom.source import AIR_HU

DEPTH_UNIT_MM = 0.5
COARSE_MM = 12.0  # grid of the helper fields

_MERGED = {
    "atrial_appendage_left": "heart",
    "kidney_left": "kidneys",
    "kidney_right": "kidneys",
    "portal_vein_and_splenic_vein": "liver",
}
_GREAT_VESSELS = ("brachiocephalic", "subclavian", "common_carotid")


@dataclass(frozen=True)
class BaseGrid:
    """How the real CT is resampled.

    Attributes:
        block_yx: Native voxels averaged into one.
        slice_mm: Distance of slices, about.
    """

    block_yx: tuple[int, int]
    slice_mm: float


XRAY_GRID = BaseGrid((5, 2), 1.6625)
"""Fine along x and z, coarse along y, which is integrated away."""
CT_GRID = BaseGrid((3, 3), 2.5)
"""Nearly cubic voxels, and the CT's own slices."""


@dataclass(frozen=True)
class Base:
    """The normal chest all patients are deformed from.

    Attributes:
        hu: (Z, Y, X) int16 Hounsfield units; -1000 outside the body.
        labels: (Z, Y, X) uint8, codes of LABELS.
        lung_depth_mm: (Z, Y, X) float32, distance to the surface of the own lung; 0 outside lungs.
        spacing_mm: (z, y, x).
        shell_mm: (2, Zc, Yc, Xc) float32 on a coarse grid with the same corners: (y, x) vector from the
            nearest point of the slice's skeleton hull; 0 inside it.
        dome: (2, Zc, Yc, Xc) float32 in [0, 1]: how much a point moves with the right, left hemidiaphragm.
        heart_centre: (z, y, x) voxel index.
        heart_radius_mm: Mean radius of the heart.
        origin_lps_mm: (x, y, z) of the centre of voxel (0, 0, 0), in the frame of the real CT.
    """

    hu: NDArray[np.int16]
    labels: NDArray[np.uint8]
    lung_depth_mm: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    shell_mm: NDArray[np.float32]
    dome: NDArray[np.float32]
    heart_centre: tuple[float, float, float]
    heart_radius_mm: float
    origin_lps_mm: tuple[float, float, float]


def make_base(grid: BaseGrid = XRAY_GRID) -> Base:
    """Make the base volume from the real files; see load_base."""
    hu_native, spacing, affine = source.read_ct()
    codes, _, _ = source.read_nifti("data/mask.nii.gz")
    labels_native = _merge_labels(codes.astype(np.uint8), source.read_structures())
    z, y, x = hu_native.shape
    votes = source.read_votes((z, y, x), float(affine[2, 3]), spacing[0])
    left = tuple(LABELS[name] for name in LUNG_LEFT)
    lobe = LABELS["lung_lower_lobe_left"]
    hu, labels_native = cleaning.inpaint_mass(
        hu_native.astype(np.float32), labels_native, votes >= 1, left, lobe, spacing
    )
    skeleton = np.isin(labels_native, [LABELS[name] for name in BONES])
    skeleton = ndimage.binary_dilation(skeleton, structure=np.ones((1, 3, 3)), iterations=2)
    hu = cleaning.remove_contrast(hu, skeleton)
    block_centre = np.array([(grid.block_yx[1] - 1) / 2, (grid.block_yx[0] - 1) / 2, 0, 1])
    origin = affine @ block_centre
    hu, labels, spacing = _resample(hu, labels_native, spacing, grid)
    body = cleaning.body_mask(hu)
    hu = _fill_abdomen(np.where(body, hu, AIR_HU).astype(np.float32), labels, body)
    labels = np.where(body & (labels == 0), LABELS["body"], np.where(body, labels, 0)).astype(np.uint8)
    return _derive(np.rint(hu).clip(-1024, 3071).astype(np.int16), labels, spacing, origin)


def _merge_labels(codes: NDArray[np.uint8], names: dict[int, str]) -> NDArray[np.uint8]:
    """Map the label map's codes to LABELS; what LABELS does not name becomes part of the body later."""
    table = np.zeros(256, dtype=np.uint8)
    for code, name in names.items():
        merged = _MERGED.get(name, name)
        if merged.startswith("rib_"):
            merged = "ribs_left" if "left" in merged else "ribs_right"
        elif merged.startswith("vertebrae_"):
            merged = "vertebrae"
        elif merged.startswith(_GREAT_VESSELS):
            merged = "great_vessels"
        table[code] = LABELS.get(merged, LABELS["air"])
    return table[codes]


def _resample(
    hu: NDArray[np.float32], labels: NDArray[np.uint8], spacing: cleaning.Spacing, grid: BaseGrid
) -> tuple[NDArray[np.float32], NDArray[np.uint8], cleaning.Spacing]:
    """Average blocks in the slice plane and interpolate slices (cubic: it keeps edges sharper)."""
    by, bx = grid.block_yx
    z, y, x = hu.shape
    y, x = y - y % by, x - x % bx
    blocks = hu[:, :y, :x].reshape(z, y // by, by, x // bx, bx).mean(axis=(2, 4))
    picked = labels[:, by // 2 : y : by, bx // 2 : x : bx]
    slices = round((z - 1) * spacing[0] / grid.slice_mm) + 1
    position = np.linspace(0, z - 1, slices)
    fine = ndimage.zoom(blocks, (slices / z, 1, 1), order=3, mode="nearest", grid_mode=False)
    nearest = picked[np.rint(position).astype(int)]
    return fine, nearest, ((z - 1) * spacing[0] / (slices - 1), spacing[1] * by, spacing[2] * bx)


def _fill_abdomen(
    hu: NDArray[np.float32], labels: NDArray[np.uint8], body: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Fill bowel gas below the lungs' domes, well inside the skin."""
    airy = np.isin(
        labels, [LABELS[name] for name in (*LUNG_LEFT, *LUNG_RIGHT, "trachea", "stomach", "esophagus")]
    )
    airy = ndimage.binary_dilation(airy, iterations=2)
    inside = ndimage.binary_erosion(body, structure=np.ones((1, 3, 3)), iterations=2)
    top = round(float(np.percentile(np.argwhere(labels == LABELS["liver"])[:, 0], 99)))
    inside[top + 5 :] = False
    return cleaning.fill_bowel_gas(hu, airy, inside)


def _derive(
    hu: NDArray[np.int16], labels: NDArray[np.uint8], spacing: cleaning.Spacing, origin: NDArray[np.float64]
) -> Base:
    """Crop y to the body and compute what the deformation and the findings need."""
    rows = np.nonzero((labels > 0).sum(axis=(0, 2)) > 400)[0]  # ignores the chin on the top slices
    keep = slice(max(int(rows[0]) - 4, 0), int(rows[-1]) + 5)  # room for a thicker habitus
    hu, labels = hu[:, keep].copy(), labels[:, keep].copy()
    depth = np.zeros(hu.shape, dtype=np.float32)
    for lobes in (LUNG_LEFT, LUNG_RIGHT):
        lung = np.isin(labels, [LABELS[name] for name in lobes])
        depth += ndimage.distance_transform_edt(lung, sampling=spacing)
    depth = np.minimum(np.rint(depth / DEPTH_UNIT_MM), 255) * DEPTH_UNIT_MM
    heart = np.argwhere(labels == LABELS["heart"])
    volume_mm3 = len(heart) * float(np.prod(spacing))
    hull = _skeleton_hull(labels)
    return Base(
        hu=hu,
        labels=labels,
        lung_depth_mm=depth.astype(np.float32),
        spacing_mm=spacing,
        shell_mm=_shell(hull, spacing),
        dome=_dome(hull, labels, spacing),
        heart_centre=tuple(heart.mean(axis=0).tolist()),
        heart_radius_mm=float((volume_mm3 * 0.75 / np.pi) ** (1 / 3)),
        origin_lps_mm=(float(origin[0]), float(origin[1] + keep.start * spacing[1]), float(origin[2])),
    )


def _skeleton_hull(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return, slice by slice, the convex hull of everything named (bones and organs)."""
    named = labels > LABELS["body"]
    hull = np.zeros(labels.shape, dtype=bool)
    for k, part in enumerate(named):
        points = np.argwhere(part)[:, ::-1]
        if len(points) < 10 or np.ptp(points, axis=0).min() < 2:
            continue
        canvas = Image.new("1", (part.shape[1], part.shape[0]))
        outline = points[ConvexHull(points).vertices]
        ImageDraw.Draw(canvas).polygon([(int(x), int(y)) for x, y in outline], fill=1, outline=1)
        hull[k] = np.asarray(canvas)
    return hull


def _coarse(field: NDArray[np.float32], spacing: cleaning.Spacing) -> NDArray[np.float32]:
    """Resample to the coarse helper grid, corners on corners."""
    shape = [round((n - 1) * s / COARSE_MM) + 1 for n, s in zip(field.shape, spacing, strict=True)]
    axes = [np.linspace(0, n - 1, m) for n, m in zip(field.shape, shape, strict=True)]
    at = np.meshgrid(*axes, indexing="ij")
    return ndimage.map_coordinates(field, at, order=1).astype(np.float32)


def _shell(hull: NDArray[np.bool_], spacing: cleaning.Spacing) -> NDArray[np.float32]:
    """Return the smooth (y, x) vector, mm, from the hull to each point outside it."""
    vectors = np.zeros((2, *hull.shape), dtype=np.float32)
    grid = np.indices(hull.shape[1:])
    for k, part in enumerate(hull):
        if part.any():
            nearest = ndimage.distance_transform_edt(
                ~part, sampling=spacing[1:], return_distances=False, return_indices=True
            )
            for axis in range(2):
                vectors[axis, k] = (grid[axis] - nearest[axis]) * spacing[1 + axis]
    sigma = [sigma_mm / s for sigma_mm, s in zip((12.0, 6.0, 6.0), spacing, strict=True)]
    return np.stack([_coarse(ndimage.gaussian_filter(v, sigma), spacing) for v in vectors])


def _dome(
    hull: NDArray[np.bool_], labels: NDArray[np.uint8], spacing: cleaning.Spacing
) -> NDArray[np.float32]:
    """Return the weights with which points follow the right and the left hemidiaphragm up and down."""
    z_mm = np.arange(hull.shape[0]) * spacing[0]
    inside = ndimage.distance_transform_edt(hull, sampling=(1e3, *spacing[1:])).astype(np.float32)
    interior = np.clip((inside - 8) / 25, 0, 1)  # the chest wall stays
    spine_x = np.argwhere(labels == LABELS["vertebrae"])[:, 2].mean()
    x_mm = (np.arange(hull.shape[2]) - spine_x) * spacing[2]
    fields: list[NDArray[np.float32]] = []
    for below, side in ((("liver",), -1), (("spleen", "stomach"), 1)):
        organ = np.isin(labels, [LABELS[name] for name in below])
        top_mm = float(np.percentile(np.argwhere(organ)[:, 0], 99.5)) * spacing[0]
        along_z = np.where(
            z_mm < top_mm, np.clip(z_mm / top_mm, 0, 1), np.clip(1 - (z_mm - top_mm) / 110, 0, 1)
        )
        along_x = 1 / (1 + np.exp(-side * x_mm / 12))
        weight = interior * (along_z**1.2)[:, None, None] * along_x
        sigma = [sigma_mm / s for sigma_mm, s in zip((8.0, 8.0, 8.0), spacing, strict=True)]
        fields.append(_coarse(ndimage.gaussian_filter(weight.astype(np.float32), sigma), spacing))
    return np.stack(fields)
