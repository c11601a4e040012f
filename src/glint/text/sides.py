"""A sentence as it would read if the patient were mirrored: left and right change places.

mirrored("Small left effusion, the LLL is clear.") -> "Small right effusion, the RLL is clear."
"""

import re

_LEFT_RIGHT = {"left": "right", "leftward": "rightward", "lul": "rul", "lll": "rll", "lt": "rt"}
_OTHER = _LEFT_RIGHT | {right: left for left, right in _LEFT_RIGHT.items()}
_SIDE = re.compile(rf"\b(?:{'|'.join(_OTHER)})\b", re.IGNORECASE)
# Without a counterpart on the other side, or a mirrored patient by itself. A lone "L" may be a side or a vertebra.
_ONE_SIDED = re.compile(
    r"\b(?:(?i:middle lobe|RML|lingula\w*|dextro\w*|levo\w*|situs|minor fissure|azygos|stomach|gastric|liver|hepatic|"
    r"spleen|splenic)|R|L)\b"
)


def mirrored(text: str) -> str | None:
    """Return a sentence for the mirrored image, or None where that is not safe (the right lung's middle lobe)."""
    if _ONE_SIDED.search(text):
        return None
    return _SIDE.sub(_swap, text)


def _swap(match: re.Match[str]) -> str:
    word = match[0]
    other = _OTHER[word.lower()]
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
