"""Evaluation cases from a phantom data set: images, masks and the queries that are put to them.

This is the only reader of truth.parquet; training never imports it. Masks are read when a case is measured, so
that a thousand studies need no memory to speak of.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from glint.data.manifest import read_manifest
from glint.errors import DataError
from glint.phantom.report import describe, negate, prompts
from glint.phantom.schema import HELD_OUT_COMBINATIONS, KINDS, Finding
from glint.phantom.wording import load_wording

Wording = Literal["train", "new"]
Mask = NDArray[np.bool_]
NUM_NEGATIONS = 3
TRUTH_COLUMNS = ("study_id", "kind", "side", "location", "severity", "size_mm", "mask")


@dataclass(frozen=True, slots=True)
class TrueFinding:
    """A finding that is in the image, with the file of its mask."""

    finding: Finding
    mask: Path

    @property
    def new_combination(self) -> bool:
        """Say whether no training study shows this kind at this place."""
        return self.finding.combination in HELD_OUT_COMBINATIONS


@dataclass(frozen=True, slots=True)
class Case:
    """One study with its truth."""

    study_id: str
    patient_id: str
    image: Path
    report: Path
    findings: tuple[TrueFinding, ...]


def read_mask(path: Path) -> Mask:
    """Return a mask (Y, X).

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("L")) > 127
    except OSError as error:
        raise DataError("cannot read the mask", where=str(path), expected="an 8-bit grey PNG") from error


def read_cases(folder: Path, split: str, limit: int = 0) -> list[Case]:
    """Return the cases of a split in manifest order, the first `limit` of them if that is not 0.

    Raises:
        DataError: Manifest or truth is missing or broken, or a finding has no mask.
    """
    manifest = folder / "manifest.parquet"
    studies = read_manifest(manifest, split)
    patients = {row["study_id"]: row.get("patient_id") for row in _rows(manifest)}
    truth: dict[str, list[TrueFinding]] = {study.study_id: [] for study in studies}
    for row in _truth(folder):
        if row["study_id"] in truth:
            truth[row["study_id"]].append(_true_finding(folder, row))
    return [
        # Without patients every study counts as its own.
        Case(s.study_id, patients[s.study_id] or s.study_id, s.image, s.report, tuple(truth[s.study_id]))
        for s in (studies[:limit] if limit else studies)
    ]


def split_names(folder: Path) -> set[str]:
    """Return the splits that a data set has."""
    return {study.split for study in read_manifest(folder / "manifest.parquet")}


def _truth(folder: Path) -> list[dict[str, Any]]:
    path = folder / "truth.parquet"
    if not path.is_file():
        raise DataError(
            "the data set has no truth to evaluate against",
            where=str(path),
            expected="truth.parquet, as `glint phantom` writes it",
            fix="evaluate on a folder made by `glint phantom --out DIR`",
        )
    rows = _rows(path)
    absent = [name for name in TRUTH_COLUMNS if rows and name not in rows[0]]
    if absent:
        raise DataError(f"truth.parquet lacks the columns {', '.join(absent)}", where=str(path))
    return rows


def _rows(path: Path) -> list[dict[str, Any]]:
    table: Any = pq.ParquetFile(path).read()
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _true_finding(folder: Path, row: dict[str, Any]) -> TrueFinding:
    where = f"truth.parquet, study {row['study_id']}"
    if row["kind"] not in KINDS:
        raise DataError(f'unknown finding "{row["kind"]}"', where=where, expected=", ".join(KINDS))
    mask = folder / str(row["mask"] or "")
    if not mask.is_file():
        raise DataError(f"the mask of a {row['kind']} is missing", where=f"{where}: {row['mask']}")
    finding = Finding(
        row["kind"], row["side"], row["location"] or "", row["severity"], float(row["size_mm"] or 0.0)
    )
    return TrueFinding(finding, mask)


def present(cases: Sequence[Case], kinds: Sequence[str], *, new_combinations: bool = False) -> Mask:
    """Return (N, K): which kinds each case shows; with `new_combinations`, only at places unseen in training."""
    shown = [
        {f.finding.kind for f in case.findings if f.new_combination or not new_combinations} for case in cases
    ]
    return np.array([[kind in names for kind in kinds] for names in shown], dtype=bool).reshape(
        len(cases), len(kinds)
    )


def union_mask(case: Case, kind: str) -> Mask | None:
    """Return the union of the masks of a kind, or None when the case does not show it."""
    masks = [read_mask(f.mask) for f in case.findings if f.finding.kind == kind]
    return np.logical_or.reduce(masks) if masks else None


def class_queries(kind: str, wording: Wording) -> tuple[str, ...]:
    """Return the class-level queries: the one headline prompt, or every phrasing that training never contained."""
    return prompts(kind, "train")[:1] if wording == "train" else prompts(kind, "new")


def negated_queries(kind: str, wording: Wording) -> tuple[str, ...]:
    """Return "No {finding}." and a few other denials of a kind."""
    name: str = load_wording(wording)["kinds"][kind]["absent"][0]
    rng = Random(f"{kind}/{wording}")
    others = [negate(kind, rng, wording) for _ in range(NUM_NEGATIONS - 1)]
    return tuple(dict.fromkeys([f"No {name}.", *others]))


def sentence_query(case: Case, number: int, wording: Wording) -> str:
    """Return the sentence that describes finding `number` of a case; always the same for the same study."""
    rng = Random(f"{case.study_id}/{number}/{wording}")
    return describe(case.findings[number].finding, rng, wording)


def data_hash(cases: Sequence[Case]) -> str:
    """Return a sha256 over what is evaluated: ids, findings, bytes of images and masks."""
    digest = hashlib.sha256()
    for case in cases:
        findings = [f.finding.to_dict() for f in case.findings]
        digest.update(json.dumps([case.study_id, case.patient_id, findings], sort_keys=True).encode())
        for path in (case.image, *(f.mask for f in case.findings)):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
