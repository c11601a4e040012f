"""The list of studies: one Parquet file with paths relative to its own folder (docs/data.md).

Nothing else in that folder is read here: tables of findings and masks exist for evaluation only.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from glint.errors import DataError

COLUMNS = ("study_id", "split", "image", "report")
OPTIONAL = ("patient_id", "reconstructions")
FEW = 5  # names listed in a message before "and n more"


@dataclass(frozen=True, slots=True)
class Study:
    """One image, or several reconstructions of one scan, and its report.

    Attributes:
        study_id: Unique in the manifest.
        split: "train", "val", "test" or another name.
        image: File of the image; a CT scan may be a folder of DICOM slices.
        report: Text file of the report, UTF-8.
        patient_id: Whose study it is; the study's own id where the manifest does not say.
        reconstructions: Further images of the same CT scan, of which training shows one at a time.
    """

    study_id: str
    split: str
    image: Path
    report: Path
    patient_id: str
    reconstructions: tuple[Path, ...] = ()

    @property
    def images(self) -> tuple[Path, ...]:
        """The image and its further reconstructions."""
        return (self.image, *self.reconstructions)


def read_manifest(path: str | Path, split: str | None = None) -> list[Study]:
    """Return the studies of a manifest, in its order; of one split if given.

    Raises:
        DataError: No such file, not Parquet, a column missing or empty, a study listed twice, a path that leaves
            the folder of the manifest, an unknown split, or files that are not there (the first few and the count).
    """
    path = Path(path)
    rows = _read_rows(path)
    _check_unique(rows, path)
    studies = [
        Study(
            row["study_id"],
            row["split"],
            _inside(path, row["image"]),
            _inside(path, row["report"]),
            row["patient_id"],
            tuple(_inside(path, name) for name in row["reconstructions"]),
        )
        for row in rows
        if split in (None, row["split"])
    ]
    if not studies:
        present = ", ".join(sorted({row["split"] for row in rows})) or "none"
        raise DataError(
            f"the manifest has no study in split '{split}'", where=str(path), expected=f"one of: {present}"
        )
    missing = [str(f) for study in studies for f in (*study.images, study.report) if not f.exists()]
    if missing:
        raise DataError(
            f"{len(missing)} files of the manifest are missing: {few(missing)}",
            where=str(path),
            fix="copy the whole data set, or write the manifest again without these studies",
        )
    return studies


def few(names: list[str]) -> str:
    """Return the first names and how many more there are."""
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(names[:FEW]) + more


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the columns, one dictionary a study; "patient_id" falls back to the study's id."""
    if not path.is_file():
        raise DataError(
            "there is no manifest",
            where=str(path),
            expected="a Parquet file with columns " + ", ".join(COLUMNS),
            fix="`glint phantom --out DIR` makes a data set; docs/data.md says how to bring your own",
        )
    try:
        table: Any = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"cannot read the manifest: {error}", where=str(path), expected="a Parquet file"
        ) from error
    absent = [name for name in COLUMNS if name not in table.column_names]
    if absent:
        raise DataError(
            f"the manifest lacks the columns {', '.join(absent)}",
            where=str(path),
            expected=f"columns {', '.join(COLUMNS)}; found {', '.join(table.column_names)}",
        )
    if "reconstructions" in table.column_names and not pa.types.is_list(
        table.schema.field("reconstructions").type
    ):
        raise DataError(
            "the column 'reconstructions' does not hold lists",
            where=str(path),
            expected="a list of paths in each row (Parquet list<string>), empty or null where there is none",
        )
    optional = [name for name in OPTIONAL if name in table.column_names]
    rows: list[dict[str, Any]] = table.select([*COLUMNS, *optional]).to_pylist()
    empty = [str(i) for i, row in enumerate(rows) if any(row[name] in (None, "") for name in COLUMNS)]
    if empty:
        raise DataError(f"rows with empty cells: {few(empty)} (counted from 0)", where=str(path))
    return [
        {"patient_id": str(row.get("patient_id") or row["study_id"])}
        | {"reconstructions": [str(name) for name in row.get("reconstructions") or []]}
        | {name: str(row[name]) for name in COLUMNS}
        for row in rows
    ]


def _check_unique(rows: list[dict[str, Any]], path: Path) -> None:
    """Refuse a study that is listed twice: it could sit in two splits."""
    seen: set[str] = set()
    twice = [row["study_id"] for row in rows if row["study_id"] in seen or seen.add(row["study_id"])]
    if twice:
        raise DataError(f"studies listed more than once: {few(twice)}", where=str(path))


def _inside(manifest: Path, name: str) -> Path:
    """Return the absolute path of a relative name, which must stay in the folder of the manifest."""
    relative = PurePosixPath(name.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts or ":" in relative.parts[0]:
        raise DataError(
            f"the path '{name}' leaves the folder of the manifest",
            where=str(manifest),
            expected="paths relative to the manifest, without '..'",
        )
    return manifest.parent / relative
