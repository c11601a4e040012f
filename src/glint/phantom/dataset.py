"""What every phantom data set has in common: splits, patients, tables, the output folder, and its workers.

    seed -> split -> patient (one anatomy) -> set-up (how it is imaged) -> studies (findings, noise, words)

Training patients have series: several studies of one set-up, which differ in their findings and in noise only. That
makes a study cheaper, and a background that comes with several findings tells of none. In the other splits
every study has a set-up of its own. Each level draws its seeds from (seed, split, index) alone, so splits share no
patient and the order of work does not matter. The manifest is written last: a folder without one is an interrupted
run.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from glint.atomic import is_leftover
from glint.errors import DataError, UsageError
from glint.phantom.base import Base
from glint.phantom.schema import Finding
from glint.phantom.study import StudyOptions
from glint.phantom.wording import WordingName
from glint.phantom.write import (
    ANATOMY_COLUMNS,
    MANIFEST_COLUMNS,
    TRUTH_COLUMNS,
    write_table,
)

SPLITS: tuple[str, ...] = ("train", "val", "test", "test_combo")
SERIES: dict[str, tuple[int, int]] = {"train": (2, 4)}
"""Split -> set-ups of a patient, studies of a set-up."""
SINGLE = (4, 1)
"""The same for all other splits."""
CONTENTS = (
    "images",
    "reports",
    "masks",
    "manifest.parquet",
    "truth.parquet",
    "anatomy.parquet",
    "dataset.json",
)

NOTICE = "Made studies: anatomy deformed from one public CT (LIDC-IDRI-0001, CC BY 3.0)."

Mask = TypeVar("Mask")
Progress = Callable[[int, int], None]
Seeds = np.random.SeedSequence


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


class Maker(Protocol):
    """Makes the studies of a patient; a value that travels to other processes."""

    def base(self) -> Base:
        """Load what all patients are made from."""
        ...

    def make(self, base: Base, patient: Patient) -> Rows:
        """Make and write all studies of one patient."""
        ...


def describe(name: str, version: int, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the content of dataset.json: what decides the studies, and a hash of it."""
    text = json.dumps({"version": version, **arguments}, sort_keys=True)
    return {
        "name": name,
        "version": version,
        "arguments": arguments,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "notice": NOTICE,
    }


def study_options(patient: Patient, seen: WordingName, unseen: WordingName) -> StudyOptions:
    """Return how the studies of a patient are made: words of training or of test, and what is kept for evaluation."""
    return StudyOptions(
        wording=unseen if patient.split.startswith("test") else seen,
        new_combination=patient.split == "test_combo",
        masks=patient.split != "train",
        structures=patient.split == "test",
    )


def patient_id(patient: Patient) -> str:
    """Return the made-up identity of a patient; studies of one anatomy share it."""
    return f"{patient.split}-p{patient.number:05d}"


def write_study_masks(
    name: str,
    findings: Sequence[Finding],
    masks: Sequence[Mask],
    structures: Mapping[str, Mask],
    suffix: str,
    write: Callable[[str, Mask], object],
) -> Rows:
    """Write the masks of a study by `write(path in the folder, mask)`; return its rows of truth and anatomy."""
    rows = Rows()
    for number, finding in enumerate(findings):
        mask = f"masks/{name}-{number}-{finding.kind}{suffix}" if masks else ""
        if mask:
            write(mask, masks[number])
        rows.truth.append({"study_id": name, **finding.to_dict(), "mask": mask})
    for structure, inside in structures.items():
        mask = f"masks/{name}-{structure.replace(' ', '_')}{suffix}"
        write(mask, inside)
        rows.anatomy.append({"study_id": name, "structure": structure, "mask": mask})
    return rows


def split_sizes(train: int, val: int, test: int, workers: int) -> dict[str, int]:
    """Return split -> number of studies; test_combo is a quarter of test.

    Raises:
        UsageError: A number is out of range.
    """
    if min(train, val, test) < 0 or train + val + test == 0 or workers < 1:
        raise UsageError(
            "the size of the data set makes no sense",
            where=f"train={train} val={val} test={test} workers={workers}",
            expected="at least one study, one worker",
        )
    return dict(zip(SPLITS, (train, val, test, max(1, round(test / 4)) if test else 0), strict=True))


def prepare_folder(out: Path, overwrite: bool) -> None:
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


def patients(sizes: dict[str, int]) -> Iterator[Patient]:
    """Yield the units of work of all splits, in order."""
    for split, count in sizes.items():
        setups, shared = SERIES.get(split, SINGLE)
        each = setups * shared
        for number, first in enumerate(range(0, count, each)):
            yield Patient(split, number, tuple(range(first, min(first + each, count))))


def patient_seeds(seed: int, patient: Patient) -> tuple[int, list[tuple[Seeds, list[tuple[int, Seeds]]]]]:
    """Return the seed of the anatomy, and for each set-up its seeds and its (study number, seeds)."""
    seeds = Seeds(seed, spawn_key=(SPLITS.index(patient.split), patient.number))
    setups, shared = SERIES.get(patient.split, SINGLE)
    anatomy_seeds, *children = seeds.spawn(1 + setups * (1 + shared))
    pairs = list(zip(patient.studies, children[setups:], strict=False))
    series = [(children[i], pairs[i * shared : (i + 1) * shared]) for i in range(setups)]
    anatomy = int(anatomy_seeds.generate_state(1, np.uint64)[0] >> 1)
    return anatomy, [(setup, studies) for setup, studies in series if studies]


def study_name(patient: Patient, number: int) -> str:
    """Return the name of a study, which its files share."""
    return f"{patient.split.replace('test_combo', 'combo')}-{number:06d}"


def make_all(
    out: Path,
    sizes: dict[str, int],
    workers: int,
    maker: Maker,
    progress: Progress | None,
    manifest_columns: tuple[str, ...] = MANIFEST_COLUMNS,
) -> Path:
    """Make all studies and write the tables; return the path of the manifest."""
    rows, done, work = Rows(), 0, list(patients(sizes))
    for patient, part in zip(work, _run(work, workers, maker), strict=True):
        rows.extend(part)
        done += len(patient.studies)
        if progress is not None:
            progress(done, sum(sizes.values()))
    write_table(out / "truth.parquet", rows.truth, TRUTH_COLUMNS)
    write_table(out / "anatomy.parquet", rows.anatomy, ANATOMY_COLUMNS)
    write_table(out / "manifest.parquet", rows.manifest, manifest_columns)
    return out / "manifest.parquet"


def _run(work: list[Patient], workers: int, maker: Maker) -> Iterable[Rows]:
    """Make all patients, in order, in this process or in `workers` others."""
    base = maker.base()  # made once here, so that workers only read it
    if workers == 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in a worker: sums must add up in the same order
        try:
            for patient in work:
                yield maker.make(base, patient)
        finally:
            torch.set_num_threads(threads)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (maker,)) as pool:
        yield from pool.map(_work, work)


_worker: dict[str, Any] = {}


def _start_worker(maker: Maker) -> None:
    torch.set_num_threads(1)
    _worker.update(base=maker.base(), maker=maker)


def _work(patient: Patient) -> Rows:
    return _worker["maker"].make(_worker["base"], patient)
