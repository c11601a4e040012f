from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glint.data.manifest import read_manifest
from glint.errors import DataError


def rewrite(manifest: Path, **columns: object) -> None:
    rows = pq.read_table(manifest).to_pylist()
    for name, value in columns.items():
        rows[0][name] = value
    pq.write_table(pa.Table.from_pylist(rows), manifest)


def test_read_manifest__returns_studies_of_a_split(pairs_manifest: Path):
    assert len(read_manifest(pairs_manifest)) == 56
    val = read_manifest(pairs_manifest, "val")
    assert [study.study_id for study in val] == [f"val{i:03d}" for i in range(10)]
    assert val[0].image == pairs_manifest.parent / "images" / "val000.png"


def test_read_manifest__missing_files_are_counted_and_named(own_manifest: Path):
    for i in range(7):
        (own_manifest.parent / "images" / f"train{i:03d}.png").unlink()
    with pytest.raises(DataError, match=r"7 files .*train000\.png.* and 2 more"):
        read_manifest(own_manifest, "train")
    assert len(read_manifest(own_manifest, "val")) == 4


@pytest.mark.parametrize(
    "path", ["../outside.png", "/etc/passwd", "images/../../x.png", "C:\\x.png", "..\\x.png"]
)
def test_read_manifest__path_outside_its_folder_is_refused(own_manifest: Path, path: str):
    rewrite(own_manifest, image=path)
    with pytest.raises(DataError, match="leaves the folder"):
        read_manifest(own_manifest)


def test_read_manifest__lists_missing_columns(own_manifest: Path):
    pq.write_table(pa.table({"study_id": ["a"], "image": ["a.png"]}), own_manifest)
    with pytest.raises(DataError, match="lacks the columns split, report"):
        read_manifest(own_manifest)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"study_id": "train001"}, "more than once: train001"),
        ({"report": None}, "empty cells: 0"),
    ],
)
def test_read_manifest__bad_rows(own_manifest: Path, columns: dict[str, object], message: str):
    rewrite(own_manifest, **columns)
    with pytest.raises(DataError, match=message):
        read_manifest(own_manifest)


def test_read_manifest__no_file_no_parquet_no_split(own_manifest: Path):
    with pytest.raises(DataError, match="no manifest"):
        read_manifest(own_manifest.parent / "none.parquet")
    with pytest.raises(DataError, match="no study in split 'dev'"):
        read_manifest(own_manifest, "dev")
    own_manifest.write_text("not parquet")
    with pytest.raises(DataError, match="cannot read the manifest"):
        read_manifest(own_manifest)
