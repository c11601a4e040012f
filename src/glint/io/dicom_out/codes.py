"""Codes for a query: the term of the standard's vocabulary that it names, or a private code with its text.

Matching is plain: the query is cut into words, and a term counts when all its words stand in the query one after the
other (a plural s does not matter). The longest term wins; findings go before devices, devices before organs. A query
that denies something names no finding, whatever words it holds. Vocabulary: context groups of DICOM PS3.16, as pydicom
has them, and a few SNOMED CT terms of pydicom's list that no chest group has.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts
from pydicom.sr.coding import Code

SCHEME = "99GLINT"
"""Our private coding scheme."""
FINDING_GROUPS = (6103, 6104, 6105, 6106)
"""Lines, opacities, lucencies and textures of the chest."""
FINDING_TERMS = (
    "PleuralEffusion",
    "PericardialEffusion",
    "Effusion",
    "Cardiomegaly",
    "PulmonaryEdema",
    "Edema",
    "Lymphadenopathy",
    "Fibrosis",
    "Cyst",
    "Thrombus",
    "Calcification",
)
DEVICE_GROUPS = (6138, 7157)
ORGAN_GROUPS = (4, 4031, 7155, 7192, 6109, 6110, 6111, 6112, 6113, 6114, 6116, 6117)
FILLING = frozenset(("a", "an", "the", "there", "is", "are", "this", "that", "of", "in", "on", "at", "it")) | {
    "shows", "seen", "visible", "left", "right", "both",
}  # fmt: skip
ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
OBJECT = Code("260787004", "SCT", "Physical object")
SPATIAL = Code("309825002", "SCT", "Spatial and Relational Concept")
DENIAL = re.compile(
    r"\b(?:no|not|without|absent|absence|free of|negative|clear|normal|resolved|unremarkable)\b"
)
PLURAL = re.compile(r"(?<=ss)es$|(?<=[a-z]{2}[^aeious])s$|(?<=[a-z]{2}e)s$")
MAX_MEANING = 64
"""Characters of a code's meaning (value representation LO)."""

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a query is about.

    Attributes:
        category: What sort of thing (context group 7150).
        code: The thing.
        site: Organ that the query names beside it, or None.
    """

    category: Code
    code: Code
    site: Code | None = None


def meaning(query: str) -> Meaning:
    """Return the codes of a query; private ones with its text when the vocabulary has no term for it."""
    words = _words(query)
    organ, rest = _longest(words, _organs())
    if not DENIAL.search(query.lower()):
        for terms, category in ((_findings(), ABNORMAL), (_devices(), OBJECT)):
            found, _ = _longest(words, terms)
            if found:
                return Meaning(category, found, organ)
        if organ and FILLING.issuperset(rest):
            return Meaning(ANATOMY, organ)
    digest = hashlib.sha256(query.encode()).hexdigest()
    return Meaning(SPATIAL, Code(f"Q{digest[:15].upper()}", SCHEME, shortened(query)), organ)


def shortened(text: str, limit: int = MAX_MEANING) -> str:
    """Return text that fits an element; an ellipsis shows that something was cut off."""
    # A backslash separates values.
    text = text.replace("\\", "/")
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _longest(words: Words, terms: dict[Words, Code]) -> tuple[Code | None, Words]:
    """Return the longest term in a query and the words beside it."""
    for length in range(len(words), 0, -1):
        for start in range(len(words) - length + 1):
            if found := terms.get(words[start : start + length]):
                return found, words[:start] + words[start + length :]
    return None, words


def _words(text: str) -> Words:
    """Return the words of a text in the singular, without what stands in brackets."""
    found = re.findall(r"[a-z0-9]+", re.sub(r"\(.*?\)", "", text.lower()))
    return tuple(PLURAL.sub("", re.sub("ies$", "y", word)) for word in found)


@cache
def _findings() -> dict[Words, Code]:
    extra = {_words(code.meaning): code for name in FINDING_TERMS if (code := _concept("SCT", name))}
    return extra | _terms(FINDING_GROUPS)


@cache
def _devices() -> dict[Words, Code]:
    return _terms(DEVICE_GROUPS)


@cache
def _organs() -> dict[Words, Code]:
    # Terms of DICOM's own in these groups are lines and borders of pictures.
    return {words: code for words, code in _terms(ORGAN_GROUPS).items() if code.scheme_designator == "SCT"}


def _terms(groups: tuple[int, ...]) -> dict[Words, Code]:
    return {_words(code.meaning): code for group in groups for code in _group(group)}


def _group(group: int) -> Iterator[Code]:
    for scheme, names in cid_concepts[group].items():
        for name in names:
            code = _concept(scheme, name, group)
            if code is not None:
                yield code


def _concept(scheme: str, name: str, group: int | None = None) -> Code | None:
    """Return a concept by its name in pydicom's list; one of several values by the group it is in."""
    for value, (text, groups) in concepts[scheme].get(name, {}).items():
        if group is None or group in groups:
            return Code(value, scheme, text)
    return None
