"""The images of the demo: a phantom patient that no training split contains, and a real radiograph.

Neither is chosen by what the model says about it: the phantom is the first one of a fixed seed that shows at
least two findings.
"""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from glint.atomic import write_text
from glint.errors import DataError
from glint.phantom.anatomy import sample_anatomy
from glint.phantom.base import load_base
from glint.phantom.report import prompts
from glint.phantom.study import PhantomStudy, StudyOptions, make_study, set_up
from glint.phantom.write import write_dicom
from glint.text.semantics import flip_polarity

RG1_SHA256 = "3561020824868615a93a51078671b3ff73bb2578c966f76def99b4d982897e75"
RG1_HOME = ("data_store", "data", "RG1_UNCI.dcm")
RG1_QUERIES = (
    "There is a mass.",
    "There is a nodule.",
    "There is a pleural effusion.",
    "There is a pneumothorax.",
    "The heart is enlarged.",
)
DEMO_SEED = 20_260_603
"""Data sets draw their anatomies from spawned seeds, so no study of any data set has this one."""
DEMO_SIZE_PX = 256
ABSENT_SHOWN = 2
DEVICES = ("central_venous_catheter", "pacemaker")
ATTEMPTS = 20


@dataclass(frozen=True)
class Question:
    """A query with its true answer.

    Attributes:
        query: The text.
        truth: "present", "absent" or "contradicts the image".
        mask: (Y, X) bool, where it is; None when it is nowhere.
    """

    query: str
    truth: str
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Example:
    """A phantom X-ray on disk with questions whose answers are known."""

    image: Path
    report: str
    questions: tuple[Question, ...]


def real_radiograph() -> Path:
    """Return the path of the radiograph RG1 in the installed package pydicom-data, which is not imported.

    Raises:
        DataError: The package is missing, or the file is not the pinned one.
    """
    fix = "pip install --no-deps pydicom-data==1.0.0 (or: make setup)"
    spec = importlib.util.find_spec(RG1_HOME[0])
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "the data package pydicom-data, which holds the radiograph RG1, is not installed", fix=fix
        )
    path = Path(next(iter(spec.submodule_search_locations))).joinpath(*RG1_HOME[1:])
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != RG1_SHA256:
        raise DataError(
            "the radiograph RG1 is missing or changed",
            where=str(path),
            expected=f"sha256 {RG1_SHA256}",
            fix=fix,
        )
    return path


def phantom_example(folder: Path) -> Example:
    """Make a new phantom patient, write its X-ray and report into a folder, and ask about it.

    Raises:
        DataError: The data packages of the phantom are missing.
    """
    study = _first_with_findings()
    image = folder / "phantom.dcm"
    write_dicom(
        image,
        study.pixels.numpy(),
        study_id="demo",
        patient_id="demo",
        view=study.exposure.view,
        kvp=study.exposure.kvp,
        pixel_mm=study.pixel_mm,
        inverted=True,
        uid_seed=f"demo/{DEMO_SEED}",
    )
    write_text(folder / "phantom-report.txt", study.report.text)
    return Example(image, study.report.text, tuple(_questions(study)))


def _first_with_findings() -> PhantomStudy:
    """Return the first study of the demo's seed with two findings that are not devices."""
    anatomy_seed, setup_seed, *seeds = np.random.SeedSequence(DEMO_SEED).spawn(2 + ATTEMPTS)
    anatomy = sample_anatomy(
        load_base(), int(anatomy_seed.generate_state(1, np.uint64)[0] >> 1), torch.device("cpu")
    )
    setup = set_up(anatomy, setup_seed, DEMO_SIZE_PX)
    options = StudyOptions(wording="new", masks=True)
    study = make_study(anatomy, setup, seeds[0], options)
    for seed in seeds[1:]:
        if sum(finding.kind not in DEVICES for finding in study.findings) >= 2:
            break
        study = make_study(anatomy, setup, seed, options)
    return study


def _questions(study: PhantomStudy) -> list[Question]:
    """Ask for everything that is there, for its opposite once, and for some of what is not there."""
    kinds = [finding.kind for finding in study.findings]
    masks = [mask.numpy() for mask in study.masks]
    asked = [
        Question(prompts(kind, "train")[0], "present", mask) for kind, mask in zip(kinds, masks, strict=True)
    ]
    opposite = flip_polarity(asked[0].query) if asked else None
    if opposite:
        asked.append(Question(opposite, "contradicts the image"))
    absent = [
        kind for kind in ("pleural_effusion", "pneumothorax", "mass", "consolidation") if kind not in kinds
    ]
    return asked + [Question(prompts(kind, "train")[0], "absent") for kind in absent[:ABSENT_SHOWN]]
