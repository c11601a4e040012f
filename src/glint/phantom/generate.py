"""`glint phantom`: a whole data set of phantom X-rays on disk; how it is laid out is told in dataset.py."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glint.atomic import write_text
from glint.errors import UsageError
from glint.phantom.anatomy import sample_anatomy
from glint.phantom.base import Base, load_base
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
from glint.phantom.spots import lung_outlines, make_spots
from glint.phantom.study import PhantomStudy, make_study, set_up
from glint.phantom.write import write_dicom, write_mask

GENERATOR_VERSION = 4
"""Raise it when the same seed gives other studies."""
INVERTED_SHARE = 0.15
MOST_SPOTS = 64


@dataclass(frozen=True)
class Settings:
    """Everything that decides what the studies look like.

    Attributes:
        sizes: Split -> number of studies.
        seed: Seed of the whole set.
        size_px: Side of the square images.
        spots: Spot views that stand for each training image; 0 for the whole image.
        device: Torch device that deforms and renders.
    """

    sizes: dict[str, int]
    seed: int
    size_px: int
    spots: int = 0
    device: str = "cpu"


def generate(
    out: Path,
    *,
    train: int,
    val: int,
    test: int,
    seed: int = 0,
    workers: int = 1,
    size_px: int = 256,
    spots: int = 0,
    device: str = "cpu",
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
        size_px: Side of the images.
        spots: Spot views in place of each training image (docs/data.md); 0 for the whole image.
        device: Torch device.
        overwrite: Replace an earlier data set in `out`.
        progress: Called with (studies done, studies in all) after each patient.

    Raises:
        UsageError: A number is out of range.
        DataError: `out` exists and may not be replaced.
    """
    sizes = split_sizes(train, val, test, workers)
    if not 64 <= size_px <= 4096:
        raise UsageError(
            "the size of the images makes no sense", where=f"size_px={size_px}", expected="64 to 4096"
        )
    if not 0 <= spots <= MOST_SPOTS:
        raise UsageError(
            "the number of spot views makes no sense", where=f"spots={spots}", expected=f"0 to {MOST_SPOTS}"
        )
    settings = Settings(sizes, seed, size_px, spots, device)
    prepare_folder(out, overwrite)
    write_text(out / "dataset.json", json.dumps(_describe(settings), indent=2) + "\n")
    return make_all(out, sizes, workers, XrayMaker(out, settings), progress)


@dataclass(frozen=True)
class XrayMaker:
    """Makes the studies of a patient (see dataset.Maker)."""

    out: Path
    settings: Settings

    def base(self) -> Base:
        """Load the base volume for X-rays."""
        return load_base()

    def make(self, base: Base, patient: Patient) -> Rows:
        """Make and write all studies of one patient."""
        return make_patient(base, self.out, self.settings, patient)


def _describe(settings: Settings) -> dict[str, Any]:
    arguments = asdict(settings)
    arguments.pop("device")
    if not settings.spots:  # data sets without any keep the hash that they had before there were spots
        arguments.pop("spots")
    return describe("phantom-cxr", GENERATOR_VERSION, arguments)


def make_patient(base: Base, out: Path, settings: Settings, patient: Patient) -> Rows:
    """Make and write all studies of one patient."""
    anatomy_seed, series = patient_seeds(settings.seed, patient)
    anatomy = sample_anatomy(base, anatomy_seed, torch.device(settings.device))
    options = study_options(patient, "train", "new")
    spots = settings.spots if patient.split == "train" else 0
    if spots:
        options = replace(options, masks=True)
    rows = Rows()
    for setup_seed, studies in series:
        setup = set_up(anatomy, setup_seed, settings.size_px)
        lungs = lung_outlines(anatomy, setup) if spots else {}
        for index, seed in studies:
            study = make_study(anatomy, setup, seed, options)
            name = study_name(patient, index)
            # One more child of the study's seed: how it is stored has nothing to do with what it shows.
            inverted = bool(np.random.default_rng(seed.spawn(1)[0]).random() < INVERTED_SHARE)
            if not spots:
                rows.extend(_write_study(out, settings, patient, name, study, inverted))
            for number, spot in enumerate(make_spots(study, lungs, seed.spawn(spots), options.wording)):
                part = replace(
                    study, pixels=spot.pixels, findings=spot.findings, masks=(), report=spot.report
                )
                rows.extend(_write_study(out, settings, patient, f"{name}-{number:02d}", part, inverted))
    return rows


def _write_study(
    out: Path, settings: Settings, patient: Patient, name: str, study: PhantomStudy, inverted: bool
) -> Rows:
    image, report = f"images/{name}.dcm", f"reports/{name}.txt"
    exposure = study.exposure
    write_dicom(
        out / image,
        study.pixels.cpu().numpy(),
        study_id=name,
        patient_id=patient_id(patient),
        view=exposure.view,
        kvp=exposure.kvp,
        pixel_mm=study.pixel_mm,
        inverted=inverted,
        uid_seed=f"{settings.seed}/{settings.size_px}/{name}",
    )
    write_text(out / report, study.report.text)
    rows = Rows()
    rows.manifest.append(
        {
            "study_id": name,
            "patient_id": patient_id(patient),
            "split": patient.split,
            "image": image,
            "report": report,
            "view": exposure.view,
        }
    )
    rows.extend(
        write_study_masks(
            name,
            study.findings,
            study.masks,
            study.structures,
            ".png",
            lambda path, mask: write_mask(out / path, mask.cpu().numpy()),
        )
    )
    return rows
