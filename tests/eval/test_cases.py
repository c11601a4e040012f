"""Truth in, cases out; damaged truth is refused with its place."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glint.errors import DataError
from glint.eval.cases import (
    class_queries,
    data_hash,
    negated_queries,
    present,
    read_cases,
    sentence_query,
    union_mask,
)
from glint.phantom.report import prompts
from glint.phantom.schema import KINDS


@pytest.fixture
def own_truth(truth_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(truth_folder, tmp_path / "own"))


def change_truth(folder: Path, **cells: str) -> None:
    rows = pq.read_table(folder / "truth.parquet").to_pylist()
    for row in rows:
        row |= cells
    pq.write_table(pa.Table.from_pylist(rows), folder / "truth.parquet")


def test_read_cases__has_patients_findings_and_masks(truth_folder: Path) -> None:
    cases = read_cases(truth_folder, "test")
    assert len(cases) == 48
    assert len({case.patient_id for case in cases}) == 24
    assert present(cases, tuple(KINDS)).sum() == sum(len(case.findings) for case in cases) > 40
    case = next(case for case in cases if case.findings)
    kind = case.findings[0].finding.kind
    mask = union_mask(case, kind)
    assert mask is not None
    assert mask.sum() == 256
    absent = next(k for k in KINDS if all(f.finding.kind != k for f in case.findings))
    assert union_mask(case, absent) is None


def test_read_cases__limit_takes_the_first(truth_folder: Path) -> None:
    assert read_cases(truth_folder, "test", 5) == read_cases(truth_folder, "test")[:5]


def test_present__new_combinations_are_fewer(truth_folder: Path) -> None:
    combo, plain = (read_cases(truth_folder, split) for split in ("test_combo", "test"))
    kinds = tuple(KINDS)
    assert present(plain, kinds, new_combinations=True).sum() == 0
    only = present(combo, kinds, new_combinations=True)
    assert (only.sum(1) >= 1).all()
    assert only.sum() < present(combo, kinds).sum()


@pytest.mark.parametrize(
    ("cells", "words"),
    [({"kind": "dragon"}, "unknown finding"), ({"mask": "masks/gone.png"}, "mask"), ({"mask": ""}, "mask")],
)
def test_read_cases__damaged_truth_is_an_error(own_truth: Path, cells: dict[str, str], words: str) -> None:
    change_truth(own_truth, **cells)
    with pytest.raises(DataError, match=words):
        read_cases(own_truth, "test")


def test_read_cases__without_truth_is_an_error(own_truth: Path) -> None:
    (own_truth / "truth.parquet").unlink()
    with pytest.raises(DataError, match="no truth"):
        read_cases(own_truth, "test")


def test_queries__are_those_of_the_protocol(truth_folder: Path) -> None:
    for kind in KINDS:
        assert class_queries(kind, "train") == prompts(kind, "train")[:1]
        assert len(class_queries(kind, "new")) > 1
        assert not set(class_queries(kind, "new")) & set(prompts(kind, "train"))
        for wording in ("train", "new"):
            denials = negated_queries(kind, wording)
            assert denials[0].startswith("No ")
            assert denials == negated_queries(kind, wording)
    cases = read_cases(truth_folder, "test")
    case = next(case for case in cases if case.findings)
    assert sentence_query(case, 0, "train") == sentence_query(case, 0, "train")
    assert sentence_query(case, 0, "train") != sentence_query(case, 0, "new")


def test_data_hash__changes_with_a_pixel_and_a_label(own_truth: Path) -> None:
    before = data_hash(read_cases(own_truth, "test"))
    assert before == data_hash(read_cases(own_truth, "test"))
    change_truth(own_truth, severity="large")
    after = data_hash(read_cases(own_truth, "test"))
    assert before != after
    case = read_cases(own_truth, "test")[0]
    shutil.copy(read_cases(own_truth, "test")[1].image, case.image)
    assert data_hash(read_cases(own_truth, "test")) != after
