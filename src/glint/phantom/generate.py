"""`glint phantom`: a whole data set of phantom studies on disk, the same for any number of workers.

    seed -> split -> patient (one anatomy) -> set-up (exposure) -> studies (findings, noise, words)

Training patients have series: several studies of one set-up, which differ in their findings and in noise only. That
makes a study cheaper, and a background that comes with several findings tells of none. In the other splits
every study has a set-up of its own. Each level draws its seeds from (seed, split, index) alone, so splits share no
patient and the order of work does not matter. The manifest is written last: a folder without one is an interrupted
run.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glint.atomic import is_leftover, write_text
from glint.errors import DataError, UsageError
from glint.phantom.anatomy import sample_anatomy
from glint.phantom.base import Base, load_base
from glint.phantom.study import PhantomStudy, StudyOptions, make_study, set_up
from glint.phantom.write import (
    ANATOMY_COLUMNS,
    MANIFEST_COLUMNS,
    TRUTH_COLUMNS,
    write_dicom,
    write_mask,
    write_table,
)

GENERATOR_VERSION = 2
"""Raise it when the same seed gives other studies."""
SPLITS: tuple[str, ...] = ("train", "val", "test", "test_combo")
SERIES: dict[str, tuple[int, int]] = {"train": (2, 4)}
"""Split -> set-ups of a patient, studies of a set-up."""
SINGLE = (4, 1)
"""The same for all other splits."""
INVERTED_SHARE = 0.15
CONTENTS = (
    "images",
    "reports",
    "masks",
    "manifest.parquet",
    "truth.parquet",
    "anatomy.parquet",
    "dataset.json",
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Settings:
    """Everything that decides what the studies look like.

    Attributes:
        sizes: Split -> number of studies.
        seed: Seed of the whole set.
        size_px: Side of the square images.
        device: Torch device that deforms and renders.
    """

    sizes: dict[str, int]
    seed: int
    size_px: int
    device: str = "cpu"


@dataclass(frozen=True)
class Patient:
    """A unit of work: one anatomy and the studies made of it."""

    split: str
    number: int
    studies: tuple[int, ...]


@dataclass
class Rows:
    """Rows of the three tables."""

    manifest: list[dict[str, Any]] = field(default_factory=list)
    truth: list[dict[str, Any]] = field(default_factory=list)
    anatomy: list[dict[str, Any]] = field(default_factory=list)

    def extend(self, other: "Rows") -> None:
        """Append the rows of another patient."""
        self.manifest += other.manifest
        self.truth += other.truth
        self.anatomy += other.anatomy


def generate(
    out: Path,
    *,
    train: int,
    val: int,
    test: int,
    seed: int = 0,
    workers: int = 1,
    size_px: int = 256,
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
        device: Torch device.
        overwrite: Replace an earlier data set in `out`.
        progress: Called with (studies done, studies in all) after each patient.

    Raises:
        UsageError: A number is out of range.
        DataError: `out` exists and may not be replaced.
    """
    sizes = _sizes(train, val, test, workers=workers, size_px=size_px)
    settings = Settings(sizes, seed, size_px, device)
    _prepare(out, overwrite)
    write_text(out / "dataset.json", json.dumps(_describe(settings), indent=2) + "\n")
    load_base()  # made once here, so that workers only read it
    rows, total = Rows(), sum(sizes.values())
    for part in _run(out, settings, workers):
        rows.extend(part)
        if progress is not None:
            progress(len(rows.manifest), total)
    write_table(out / "truth.parquet", rows.truth, TRUTH_COLUMNS)
    write_table(out / "anatomy.parquet", rows.anatomy, ANATOMY_COLUMNS)
    write_table(out / "manifest.parquet", rows.manifest, MANIFEST_COLUMNS)
    return out / "manifest.parquet"


def _sizes(train: int, val: int, test: int, *, workers: int, size_px: int) -> dict[str, int]:
    """Return split -> number of studies; test_combo is a quarter of test."""
    if min(train, val, test) < 0 or train + val + test == 0 or workers < 1 or not 64 <= size_px <= 4096:
        raise UsageError(
            "the size of the data set makes no sense",
            where=f"train={train} val={val} test={test} workers={workers} size_px={size_px}",
            expected="at least one study, one worker, 64 to 4096 pixels",
        )
    return dict(zip(SPLITS, (train, val, test, max(1, round(test / 4)) if test else 0), strict=True))


def _prepare(out: Path, overwrite: bool) -> None:
    """Make an empty folder, or refuse. Only what an earlier run wrote is ever removed."""
    if out.exists() and not out.is_dir():
        raise DataError("the output is a file", where=str(out), expected="a new folder")
    found = sorted(out.iterdir()) if out.is_dir() else []
    existing = [path.name for path in found]
    if existing and not overwrite:
        raise DataError(
            "the output folder is not empty",
            where=str(out),
            expected="a new folder",
            fix="choose another --out, or add --overwrite to replace an earlier phantom data set",
        )
    strange = [path.name for path in found if path.name not in CONTENTS and not is_leftover(path)]
    if strange:
        raise DataError(
            "the output folder holds files that are not a phantom data set",
            where=str(out / strange[0]),
            fix="choose another --out",
        )
    # The manifest goes first: what is left of an interrupted run must not look complete.
    for name in ["manifest.parquet", *existing]:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)


def _describe(settings: Settings) -> dict[str, Any]:
    arguments = asdict(settings)
    arguments.pop("device")
    text = json.dumps({"version": GENERATOR_VERSION, **arguments}, sort_keys=True)
    return {
        "name": "phantom-cxr",
        "version": GENERATOR_VERSION,
        "arguments": arguments,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "notice": "Made studies: anatomy deformed from one public CT (LIDC-IDRI-0001, CC BY 3.0).",
    }


def patients(sizes: dict[str, int]) -> Iterator[Patient]:
    """Yield the units of work of all splits, in order."""
    for split, count in sizes.items():
        setups, shared = SERIES.get(split, SINGLE)
        each = setups * shared
        for number, first in enumerate(range(0, count, each)):
            yield Patient(split, number, tuple(range(first, min(first + each, count))))


def _run(out: Path, settings: Settings, workers: int) -> Iterable[Rows]:
    """Make all patients, in order, in this process or in `workers` others."""
    work = list(patients(settings.sizes))
    if workers == 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in a worker: sums must add up in the same order
        try:
            base = load_base()
            for patient in work:
                yield make_patient(base, out, settings, patient)
        finally:
            torch.set_num_threads(threads)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (out, settings)) as pool:
        yield from pool.map(_work, work)


_worker: dict[str, Any] = {}


def _start_worker(out: Path, settings: Settings) -> None:
    torch.set_num_threads(1)
    _worker.update(base=load_base(), out=out, settings=settings)


def _work(patient: Patient) -> Rows:
    return make_patient(_worker["base"], _worker["out"], _worker["settings"], patient)


def make_patient(base: Base, out: Path, settings: Settings, patient: Patient) -> Rows:
    """Make and write all studies of one patient."""
    split_number = SPLITS.index(patient.split)
    seeds = np.random.SeedSequence(settings.seed, spawn_key=(split_number, patient.number))
    setups, shared = SERIES.get(patient.split, SINGLE)
    anatomy_seeds, *children = seeds.spawn(1 + setups * (1 + shared))
    setup_seeds, study_seeds = children[:setups], children[setups:]
    anatomy_seed = int(anatomy_seeds.generate_state(1, np.uint64)[0] >> 1)
    anatomy = sample_anatomy(base, anatomy_seed, torch.device(settings.device))
    options = StudyOptions(
        wording="new" if patient.split.startswith("test") else "train",
        new_combination=patient.split == "test_combo",
        masks=patient.split != "train",
        structures=patient.split == "test",
    )
    rows = Rows()
    pairs = list(zip(patient.studies, study_seeds, strict=False))
    for first, setup_seed in zip(range(0, len(pairs), shared), setup_seeds, strict=False):
        setup = set_up(anatomy, setup_seed, settings.size_px)
        for index, seed in pairs[first : first + shared]:
            study = make_study(anatomy, setup, seed, options)
            name = f"{patient.split.replace('test_combo', 'combo')}-{index:06d}"
            # One more child of the study's seed: how it is stored has nothing to do with what it shows.
            inverted = np.random.default_rng(seed.spawn(1)[0]).random() < INVERTED_SHARE
            rows.extend(_write_study(out, settings, patient, name, study, bool(inverted)))
    return rows


def _write_study(
    out: Path, settings: Settings, patient: Patient, name: str, study: PhantomStudy, inverted: bool
) -> Rows:
    patient_id = f"{patient.split}-p{patient.number:05d}"
    image, report = f"images/{name}.dcm", f"reports/{name}.txt"
    exposure = study.exposure
    write_dicom(
        out / image,
        study.pixels.cpu().numpy(),
        study_id=name,
        patient_id=patient_id,
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
            "patient_id": patient_id,
            "split": patient.split,
            "image": image,
            "report": report,
            "view": exposure.view,
        }
    )
    for number, finding in enumerate(study.findings):
        mask = f"masks/{name}-{number}-{finding.kind}.png" if study.masks else ""
        if mask:
            write_mask(out / mask, study.masks[number].cpu().numpy())
        rows.truth.append({"study_id": name, **finding.to_dict(), "mask": mask})
    for structure, area in study.structures.items():
        mask = f"masks/{name}-{structure.replace(' ', '_')}.png"
        write_mask(out / mask, area.cpu().numpy())
        rows.anatomy.append({"study_id": name, "structure": structure, "mask": mask})
    return rows
