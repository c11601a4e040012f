import pytest
from hypothesis import given
from hypothesis import strategies as st

from glint.text.sides import mirrored


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Small left effusion, the LLL is clear.", "Small right effusion, the RLL is clear."),
        ("Right-sided pacemaker.", "Left-sided pacemaker."),
        ("RIGHT PNEUMOTHORAX.", "LEFT PNEUMOTHORAX."),
        (
            "The left heart border is lost; the right one is not.",
            "The right heart border is lost; the left one is not.",
        ),
        ("No pleural effusion.", "No pleural effusion."),
        ("Nothing is left bright.", "Nothing is right bright."),  # a word of another sense: harmless
        ("Mass in the right middle lobe.", None),
        ("Middle lobe collapse.", None),
        ("RML nodule.", None),
        ("rml nodule.", None),
        ("Lingular opacity.", None),
        ("L PICC.", None),
        ("Fracture of L1 on the left.", "Fracture of L1 on the right."),
    ],
)
def test_sides_change_places(text: str, expected: str | None) -> None:
    assert mirrored(text) == expected


words = st.sampled_from(
    ["left", "Right", "LUL", "rll", "effusion", "no", "and", "leftward", "lefts", "upright"]
)


@given(st.lists(words, min_size=1, max_size=8).map(" ".join))
def test_twice_mirrored_is_the_sentence_itself(text: str) -> None:
    once = mirrored(text)
    assert once is not None
    assert mirrored(once) == text
