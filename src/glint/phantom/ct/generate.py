"""`glint phantom-ct`: a whole data set of phantom CT on disk; how it is laid out is told in phantom/dataset.py."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from glint.atomic import write_text
from glint.errors import UsageError
from glint.io.volume_nifti import write_nifti
from glint.phantom.anatomy import sample_anatomy
from glint.phantom.base import CT_GRID, Base, load_base
from glint.phantom.ct.closeup import SIDES_MM, Sides, make_close_ups
from glint.phantom.ct.scanner import sample_scanner
from glint.phantom.ct.study import CTStudy, make_ct_study
from glint.phantom.dataset import (
    Patient,
    Progress,
    Rows,
    describe,
    make_all,
    patient_id,
    patient_seeds,
    prepare_folder,
    split_sizes,
    study_name,
    study_options,
    write_study_masks,
)

GENERATOR_VERSION = 5
"""Raise it when the same seed gives other studies."""
MANIFEST_COLUMNS = ("study_id", "patient_id", "split", "image", "report", "phase")
FINEST_MM, COARSEST_MM = 1.0, 12.0
MOST_CLOSE_UPS = 64
SMALLEST_MM = 30.0


@dataclass(frozen=True)
class Settings:
    """Everything that decides what the studies look like.

    Attributes:
        sizes: Split -> number of studies.
        seed: Seed of the whole set.
        spacing_mm: Nominal distance of voxels.
        close_ups: Small blocks of the trunk that stand for each training scan; 0 for the whole scan.
        close_up_mm: Their shortest and longest side.
    """

    sizes: dict[str, int]
    seed: int
    spacing_mm: float
    close_ups: int
    close_up_mm: Sides


def generate_ct(
    out: Path,
    *,
    train: int,
    val: int,
    test: int,
    seed: int = 0,
    workers: int = 1,
    spacing_mm: float = 3.0,
    close_ups: int = 0,
    close_up_mm: Sides = SIDES_MM,
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
        close_ups: Small blocks of the trunk that stand for each training scan (docs/data.md); 0 for the whole scan.
        close_up_mm: Their shortest and longest side.
        overwrite: Replace an earlier data set in `out`.
        progress: Called with (studies done, studies in all) after each patient.

    Raises:
        UsageError: A number is out of range.
        DataError: `out` exists and may not be replaced.
    """
    sizes = split_sizes(train, val, test, workers)
    _check(spacing_mm, close_ups, close_up_mm)
    settings = Settings(sizes, seed, spacing_mm, close_ups, close_up_mm)
    prepare_folder(out, overwrite)
    write_text(
        out / "dataset.json",
        json.dumps(describe("phantom-ct", GENERATOR_VERSION, asdict(settings)), indent=2) + "\n",
    )
    return make_all(out, sizes, workers, CTMaker(out, settings), progress, MANIFEST_COLUMNS)


def _check(spacing_mm: float, close_ups: int, close_up_mm: Sides) -> None:
    if not FINEST_MM <= spacing_mm <= COARSEST_MM:
        raise UsageError(
            "the spacing of voxels makes no sense",
            where=f"spacing={spacing_mm:g}",
            expected=f"{FINEST_MM:g} to {COARSEST_MM:g} mm",
        )
    if not 0 <= close_ups <= MOST_CLOSE_UPS:
        raise UsageError(
            "the number of close-ups makes no sense",
            where=f"close_ups={close_ups}",
            expected=f"0 to {MOST_CLOSE_UPS}",
        )
    if not SMALLEST_MM <= close_up_mm[0] <= close_up_mm[1]:
        raise UsageError(
            "the sides of close-ups make no sense",
            where=f"close_up_mm={close_up_mm[0]:g} {close_up_mm[1]:g}",
            expected=f"the shortest, {SMALLEST_MM:g} mm at least, and the longest",
        )


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
        options = study_options(patient, "ct_train", "ct_new")
        close_ups = self.settings.close_ups if patient.split == "train" else 0
        rows = Rows()
        for setup_seeds, studies in series:
            scanner = sample_scanner(anatomy, self.settings.spacing_mm, setup_seeds)
            for number, seeds in studies:
                name = study_name(patient, number)
                if close_ups:
                    made = make_close_ups(
                        anatomy, scanner, seeds, options, close_ups, self.settings.close_up_mm
                    )
                    named = {f"{name}-{index:02d}": study for index, study in enumerate(made)}
                else:
                    named = {name: make_ct_study(anatomy, scanner, seeds, options)}
                for title, study in named.items():
                    rows.extend(_write_study(self.out, patient, title, study))
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
            "patient_id": patient_id(patient),
            "split": patient.split,
            "image": image,
            "report": report,
            "phase": study.scanner.phase,
        }
    )
    rows.extend(
        write_study_masks(
            name,
            study.findings,
            study.masks,
            study.structures,
            ".nii.gz",
            lambda path, mask: write_nifti(out / path, mask, grid),
        )
    )
    return rows
