"""Codes: a term of the vocabulary only where the query is about it."""

import pytest

from glint.io.dicom_out.codes import ABNORMAL, ANATOMY, OBJECT, SPATIAL, meaning


@pytest.mark.parametrize(
    ("query", "category", "code", "site"),
    [
        ("There is a left pleural effusion.", ABNORMAL, "60046008", None),
        ("pneumothorax", ABNORMAL, "36118008", None),
        ("Several pulmonary nodules.", ABNORMAL, "27925004", None),
        ("There are masses.", ABNORMAL, "4147007", None),
        ("Ground-glass opacities are seen.", ABNORMAL, "112120", None),
        ("There is a nodule in the right lung.", ABNORMAL, "27925004", "39607008"),
        ("an endotracheal tube", OBJECT, "26412008", None),
        ("the liver", ANATOMY, "10200004", None),
        ("left lung", ANATOMY, "39607008", None),
    ],
)
def test_known__has_the_code_of_the_standard(
    query: str, category: object, code: str, site: str | None
) -> None:
    what = meaning(query)
    assert (what.category, what.code.value) == (category, code)
    assert (what.site.value if what.site else None) == site


@pytest.mark.parametrize(
    "query",
    ["No pneumothorax.", "There is no pleural effusion.", "rib fracture", "The heart is enlarged.", "a grey thing",
     "massive", "lungs without nodules", "x" * 500],
)  # fmt: skip
def test_unknown_or_denied__has_a_private_code_with_the_text(query: str) -> None:
    what = meaning(query)
    assert (what.category, what.code.scheme_designator) == (SPATIAL, "99GLINT")
    assert len(what.code.value) <= 16
    assert what.code.meaning[:60] == query[:60]
    assert len(what.code.meaning) <= 64


def test_private__codes_differ_with_the_text() -> None:
    assert len({meaning(f"thing {n}").code.value for n in range(200)}) == 200
