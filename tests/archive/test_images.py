"""Which images of a study are asked about, and what is said of the others."""

import pytest
from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage

from glint.archive.client import Instance
from glint.archive.images import select
from glint.errors import DataError


def objects(series: str, count: int, modality: str, sop_class: str = "") -> list[Instance]:
    return [Instance("1.2", series, f"{series}.{n:04d}", modality, sop_class) for n in range(count)][::-1]


STUDY = [
    *objects("5", 9, "CT", CTImageStorage),
    *objects("5.9", 1, "CT", SecondaryCaptureImageStorage),
    *objects("4", 2, "CT", CTImageStorage),
    *objects("3", 30, "CT", SecondaryCaptureImageStorage),
    *objects("2", 2, "DX"),
    *objects("1", 1, "CR"),
    *objects("6", 12, "MR"),
    *objects("7", 1, "SEG"),
]


@pytest.mark.parametrize(
    ("radiographs", "scans", "asked", "said"),
    [
        (True, True, ["1", "2", "2", "5"], ["fewer than 8 slices"]),
        (True, False, ["1", "2", "2"], ["CT: there is no model"]),
        (False, True, ["5"], ["radiographs: there is no model", "fewer than 8 slices"]),
    ],
)
def test_select__takes_what_a_model_reads(
    radiographs: bool, scans: bool, asked: list[str], said: list[str]
) -> None:
    images, left = select(STUDY, radiographs=radiographs, scans=scans)
    assert [image.instances[0].series for image in images] == asked
    assert [len(image.instances) for image in images] == [9 if image.is_scan else 1 for image in images]
    assert all(words in reason for words, reason in zip(said, left, strict=True))
    assert select(STUDY[::-1], radiographs=radiographs, scans=scans) == (images, left)


def test_select__more_than_a_study_has_is_refused() -> None:
    for found, words in (
        (objects("1", 101, "CR"), "101 radiographs"),
        (objects("1", 4097, "CT"), "4097 slices"),
        ([item for n in range(21) for item in objects(str(n), 8, "CT")], "21 CT series"),
    ):
        with pytest.raises(DataError, match=words):
            select(found, radiographs=True, scans=True)


def test_select__nothing_of_a_study_without_images() -> None:
    assert select(objects("6", 12, "MR"), radiographs=True, scans=True) == ([], [])
