"""`glint phantom-ct`: a whole data set of phantom CT on disk; how it is laid out is told in phantom/dataset.py."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from glint.atomic import write_text
from glint.errors import UsageError
from glint.io.volume_nifti import write_nifti
from glint.phantom.anatomy import sample_anatomy
from glint.phantom.base import CT_GRID, Base, load_base
from glint.phantom.ct.scanner import sample_scanner
from glint.phantom.ct.study import CTStudy, make_ct_study
from glint.phantom.dataset import (
    Patient,
    Progress,
    Rows,
    make_all,
    patient_seeds,
    prepare_folder,
    split_sizes,
    study_name,
)
from glint.phantom.study import StudyOptions

GENERATOR_VERSION = 1
"""Raise it when the same seed gives other studies."""
MANIFEST_COLUMNS = ("study_id", "patient_id", "split", "image", "report", "phase")
FINEST_MM, COARSEST_MM = 1.0, 12.0


@dataclass(frozen=True)
class Settings:
    """Everything that decides what the studies look like.

    Attributes:
        sizes: Split -> number of studies.
        seed: Seed of the whole set.
        spacing_mm: Nominal distance of voxels.
    """

    sizes: dict[str, int]
    seed: int
    spacing_mm: float


def generate_ct(
    out: Path,
    *,
    train: int,
    val: int,
    test: int,
    seed: int = 0,
    workers: int = 1,
    spacing_mm: float = 3.0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a data set and return the path of its manifest.

    Args:
        out: Folder to create.
        train: Number of training studies.
        val: Number of validation studies.
        test: Number of test studies; a quarter as many more show new combinations (test_combo).
        seed: Seed of everything.
        workers: Processes; the result does not depend on it.
        spacing_mm: Nominal distance of voxels; each scanner has its own near it. Detail ends at 2.5 mm, the
            slices of the CT that all patients come from.
        overwrite: Replace an earlier data set in `out`.
        progress: Called with (studies done, studies in all) after each patient.

    Raises:
        UsageError: A number is out of range.
        DataError: `out` exists and may not be replaced.
    """
    sizes = split_sizes(train, val, test, workers)
    if not FINEST_MM <= spacing_mm <= COARSEST_MM:
        raise UsageError(
            "the spacing of voxels makes no sense",
            where=f"spacing={spacing_mm:g}",
            expected=f"{FINEST_MM:g} to {COARSEST_MM:g} mm",
        )
    settings = Settings(sizes, seed, spacing_mm)
    prepare_folder(out, overwrite)
    write_text(out / "dataset.json", json.dumps(_describe(settings), indent=2) + "\n")
    return make_all(out, sizes, workers, CTMaker(out, settings), progress, MANIFEST_COLUMNS)


def _describe(settings: Settings) -> dict[str, Any]:
    arguments = asdict(settings)
    text = json.dumps({"version": GENERATOR_VERSION, **arguments}, sort_keys=True)
    return {
        "name": "phantom-ct",
        "version": GENERATOR_VERSION,
        "arguments": arguments,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "notice": "Made studies: anatomy deformed from one public CT (LIDC-IDRI-0001, CC BY 3.0).",
    }


@dataclass(frozen=True)
class CTMaker:
    """Makes the studies of a patient (see dataset.Maker)."""

    out: Path
    settings: Settings

    def base(self) -> Base:
        """Load the base volume for CT."""
        return load_base(grid=CT_GRID)

    def make(self, base: Base, patient: Patient) -> Rows:
        """Make and write all studies of one patient."""
        anatomy_seed, series = patient_seeds(self.settings.seed, patient)
        anatomy = sample_anatomy(base, anatomy_seed)
        options = StudyOptions(
            wording="ct_new" if patient.split.startswith("test") else "ct_train",
            new_combination=patient.split == "test_combo",
            masks=patient.split != "train",
            structures=patient.split == "test",
        )
        rows = Rows()
        for setup_seeds, studies in series:
            scanner = sample_scanner(anatomy, self.settings.spacing_mm, setup_seeds)
            for number, seeds in studies:
                study = make_ct_study(anatomy, scanner, seeds, options)
                rows.extend(_write_study(self.out, patient, study_name(patient, number), study))
        return rows


def _write_study(out: Path, patient: Patient, name: str, study: CTStudy) -> Rows:
    """Write scan, report and masks of one study, and return its rows."""
    grid = study.scanner.grid
    image, report = f"images/{name}.nii.gz", f"reports/{name}.txt"
    write_nifti(out / image, study.hu, grid)
    write_text(out / report, study.report.text)
    rows = Rows()
    rows.manifest.append(
        {
            "study_id": name,
            "patient_id": f"{patient.split}-p{patient.number:05d}",
            "split": patient.split,
            "image": image,
            "report": report,
            "phase": study.scanner.phase,
        }
    )
    for number, finding in enumerate(study.findings):
        mask = f"masks/{name}-{number}-{finding.kind}.nii.gz" if study.masks else ""
        if mask:
            write_nifti(out / mask, study.masks[number], grid)
        rows.truth.append({"study_id": name, **finding.to_dict(), "mask": mask})
    for structure, inside in study.structures.items():
        mask = f"masks/{name}-{structure.replace(' ', '_')}.nii.gz"
        write_nifti(out / mask, inside, grid)
        rows.anatomy.append({"study_id": name, "structure": structure, "mask": mask})
    return rows
