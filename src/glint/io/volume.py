"""Read a CT volume (NIfTI, NRRD or DICOM; file, folder or archive) to HU in a known place; the content decides.

The array of a volume has the axes of its file, slowest first, so that masks come back onto the scan's own voxels;
`glint.io.volume_steps` turns, resamples and crops, and remembers the way back. The frame is told in voxel_grid.py.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glint.errors import DataError
from glint.io.grid_chain import GridChain
from glint.io.hounsfield import hounsfield
from glint.io.limits import MAX_VOLUME_FILE_BYTES, check_readable
from glint.io.sources import Source, is_archive, unpacked_head
from glint.io.voxel_grid import VoxelGrid


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a volume comes from; nothing in here comes from a text field of a header.

    Attributes:
        source: The file or folder, as it was named.
        format: "NIfTI", "NRRD" or "DICOM".
        modality: "CT" when the file says so, "" when it does not say.
        notes: What a reader should know, e.g. that padding was found.
    """

    source: Path
    format: str
    modality: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RawVolume:
    """What a file holds, before its values are checked.

    Attributes:
        values: (Z, Y, X) float32, rescaled as the header says. Owned: it may be changed.
        grid: Where the voxels are.
        valid: (Z, Y, X) bool, False where the header says that there are no data; None: all valid.
        modality: "CT" or "".
        notes: What the reader did.
    """

    values: NDArray[np.float32]
    grid: VoxelGrid
    valid: NDArray[np.bool_] | None = None
    modality: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Volume:
    """A CT in Hounsfield units.

    Attributes:
        hu: (Z, Y, X) float32; padding is air.
        valid: (Z, Y, X) bool, False where the scanner saw nothing; None when all voxels are valid.
        provenance: Where it comes from.
        chain: The grids it was on: the scan's own first, the present one last.
    """

    hu: NDArray[np.float32]
    valid: NDArray[np.bool_] | None
    provenance: Provenance
    chain: GridChain = field(repr=False)

    @property
    def grid(self) -> VoxelGrid:
        """Where the voxels are now."""
        return self.chain.current

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4): array index (z, y, x, 1) -> LPS millimetres (x, y, z, 1)."""
        return self.grid.affine

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """(z, y, x), along the array axes."""
        return self.grid.spacing_mm


def read_volume(
    path: str | Path, *, series: str = "", fill_gaps: bool = False, add_hu: float = 0.0
) -> Volume:
    """Read a CT volume in this process; the content decides what a file is, not its name.

    For files from elsewhere, `glint.io.untrusted.read_volume` does the same in a process with limits.

    Args:
        path: NIfTI (.nii, .nii.gz), NRRD or enhanced DICOM file, or a folder or archive (ZIP, tar) with DICOM series.
        series: Which series of several: its number or alias in the list that the error shows, or its UID.
        fill_gaps: Interpolate missing and damaged slices and uneven distances of a DICOM series instead of refusing
            it. The volume then has a regular grid, and masks are on that grid.
        add_hu: Added to all values, for files that are known to be shifted (rescaled twice, or not at all).

    Raises:
        DataError: Missing, damaged, too large, several series, geometry that is not clear, or no CT in HU.
    """
    path = Path(path)
    # pydicom and nibabel load only here: importing this module stays cheap.
    if path.is_dir() or is_archive(path):
        from glint.io.volume_dicom import choose_scan, read_scan

        chosen, notes = choose_scan(path, series, fill_gaps=fill_gaps)
        if chosen.kind == "CT":
            raw, kind = read_scan(chosen, str(path), fill_gaps=fill_gaps), "DICOM"
        else:
            raw, kind = _read_file(chosen.slices[0].source)
        raw = replace(raw, notes=raw.notes + notes)
    else:
        check_readable(path, "a NIfTI or NRRD file", "scan", MAX_VOLUME_FILE_BYTES)
        raw, kind = _read_file(Source.of(path))
    checked = hounsfield(raw.values, raw.valid, str(path), add_hu)
    provenance = Provenance(path, kind, raw.modality, raw.notes + checked.notes)
    return Volume(checked.hu, checked.valid, provenance, GridChain.begin(raw.grid))


def _read_file(source: Source) -> tuple[RawVolume, str]:
    """Read one file, or say what it is instead of a volume."""
    head = unpacked_head(source, 352)
    # Size of the header of NIfTI-1 and -2, then their magic: Analyze has the first without the second.
    if head[344:347] in (b"n+1", b"ni1") or head[4:7] in (b"n+2", b"ni2"):
        from glint.io.volume_nifti import read_nifti

        return read_nifti(source), "NIfTI"
    if head.startswith(b"NRRD"):
        from glint.io.volume_nrrd import read_nrrd

        return read_nrrd(source), "NRRD"
    expected, fix = "a NIfTI or NRRD file, or a folder or archive (ZIP, tar) of DICOM slices", ""
    what = "this is not a volume that GLINT can read"
    if head[128:132] == b"DICM":
        from glint.io.volume_dicom import read_enhanced

        return read_enhanced(source), "DICOM"
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff")):
        what = "a picture was given where a volume is needed"
    elif head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c"):
        what, fix = "an Analyze file does not say which side is left", "convert the scan to NIfTI again"
    raise DataError(what, where=source.shown, expected=expected, fix=fix)
