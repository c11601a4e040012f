"""Evaluation cases from a phantom data set: images, masks and the queries that are put to them.

This is the only reader of truth.parquet; training never imports it. Masks are read when a case is measured, so
that a thousand studies need no memory to speak of.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from glint.data.manifest import read_manifest
from glint.errors import DataError
from glint.eval.subject import CXR, Mask, Subject, Wording
from glint.phantom.report import describe, negate, prompts
from glint.phantom.schema import Finding
from glint.phantom.wording import load_wording

NUM_NEGATIONS = 3
TRUTH_COLUMNS = ("study_id", "kind", "side", "location", "severity", "size_mm", "mask")


@dataclass(frozen=True, slots=True)
class TrueFinding:
    """A finding that is in the image.

    Attributes:
        finding: What it is.
        mask: The file of its mask.
        new_combination: Whether no training study shows this kind at this place.
    """

    finding: Finding
    mask: Path
    new_combination: bool


@dataclass(frozen=True, slots=True)
class Case:
    """One study with its truth.

    Attributes:
        study_id: Its name.
        patient_id: Whose it is.
        image: Its file.
        report: Its report, which evaluation does not read.
        findings: What it shows.
        structures: Name -> file of the mask, of visible anatomy; empty where the data set says nothing.
        subject: The evaluation it belongs to.
    """

    study_id: str
    patient_id: str
    image: Path
    report: Path
    findings: tuple[TrueFinding, ...]
    structures: Mapping[str, Path]
    subject: Subject = CXR


def read_cases(folder: Path, split: str, limit: int = 0, subject: Subject = CXR) -> list[Case]:
    """Return the cases of a split in manifest order, the first `limit` of them if that is not 0.

    Raises:
        DataError: Manifest or truth is missing or broken, or a finding has no mask.
    """
    manifest = folder / "manifest.parquet"
    studies = read_manifest(manifest, split)
    patients = {row["study_id"]: row.get("patient_id") for row in _rows(manifest)}
    truth: dict[str, list[TrueFinding]] = {study.study_id: [] for study in studies}
    for row in _truth(folder, subject):
        if row["study_id"] in truth:
            truth[row["study_id"]].append(_true_finding(folder, row, subject))
    anatomy: dict[str, dict[str, Path]] = {}
    table = folder / "anatomy.parquet"
    for row in _rows(table) if subject.volumes and table.is_file() else ():
        anatomy.setdefault(row["study_id"], {})[row["structure"]] = folder / row["mask"]
    return [
        Case(
            s.study_id,
            patients[s.study_id] or s.study_id,  # without patients every study counts as its own
            s.image,
            s.report,
            tuple(truth[s.study_id]),
            anatomy.get(s.study_id, {}),
            subject,
        )
        for s in (studies[:limit] if limit else studies)
    ]


def split_names(folder: Path) -> set[str]:
    """Return the splits that a data set has."""
    return {study.split for study in read_manifest(folder / "manifest.parquet")}


def _truth(folder: Path, subject: Subject) -> list[dict[str, Any]]:
    path = folder / "truth.parquet"
    if not path.is_file():
        raise DataError(
            "the data set has no truth to evaluate against",
            where=str(path),
            expected=f"truth.parquet, as `{subject.command}` writes it",
            fix=f"evaluate on a folder made by `{subject.command} --out DIR`",
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


def _true_finding(folder: Path, row: dict[str, Any], subject: Subject) -> TrueFinding:
    where = f"truth.parquet, study {row['study_id']}"
    if row["kind"] not in subject.kinds:
        raise DataError(
            f'unknown finding "{row["kind"]}" for {subject.name}',
            where=where,
            expected=", ".join(subject.kinds),
        )
    mask = folder / str(row["mask"] or "")
    if not mask.is_file():
        raise DataError(f"the mask of a {row['kind']} is missing", where=f"{where}: {row['mask']}")
    finding = Finding(
        row["kind"], row["side"], row["location"] or "", row["severity"], float(row["size_mm"] or 0.0)
    )
    return TrueFinding(finding, mask, finding.combination in subject.held_out)


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
    masks = [case.subject.read_mask(f.mask) for f in case.findings if f.finding.kind == kind]
    return np.logical_or.reduce(masks) if masks else None


def class_queries(kind: str, wording: Wording, subject: Subject = CXR) -> tuple[str, ...]:
    """Return the class-level queries: the one headline prompt, or every phrasing that training never contained."""
    found = prompts(kind, subject.books[wording])
    return found[:1] if wording == "train" else found


def negated_queries(kind: str, wording: Wording, subject: Subject = CXR) -> tuple[str, ...]:
    """Return "No {finding}." and a few other denials of a kind."""
    book = subject.books[wording]
    name: str = load_wording(book)["kinds"][kind]["absent"][0]
    rng = Random(f"{kind}/{wording}")
    others = [negate(kind, rng, book) for _ in range(NUM_NEGATIONS - 1)]
    return tuple(dict.fromkeys([f"No {name}.", *others]))


def sentence_query(case: Case, number: int, wording: Wording) -> str:
    """Return the sentence that describes finding `number` of a case; always the same for the same study."""
    rng = Random(f"{case.study_id}/{number}/{wording}")
    return describe(case.findings[number].finding, rng, case.subject.books[wording])


def data_hash(cases: Sequence[Case]) -> str:
    """Return a sha256 over what is evaluated: ids, findings, bytes of images and masks."""
    digest = hashlib.sha256()
    for case in cases:
        findings = [f.finding.to_dict() for f in case.findings]
        digest.update(json.dumps([case.study_id, case.patient_id, findings], sort_keys=True).encode())
        for path in (case.image, *(f.mask for f in case.findings), *case.structures.values()):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
