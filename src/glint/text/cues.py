"""Compiles cues.yaml: the vocabulary of negation, hedging, comparison and findings."""

import re
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

CUE_KINDS = ("pseudo", "uncertain_post", "changed_pre", "negation_post", "uncertain_pre", "negation_pre")
"""In order of precedence where two cues start at the same place."""


class Vocabulary:
    """The compiled patterns; every one works on lower-case text."""

    def __init__(self, data: dict[str, Any]) -> None:
        modifiers, organs = str(data["mod"]), str(data["organ"])
        groups: list[str] = []
        for kind in CUE_KINDS:
            patterns = (
                str(p).replace("{mod}", modifiers).replace("{organ}", organs) for p in data["cues"][kind]
            )
            groups.append(f"(?P<{kind}>{'|'.join(patterns)})")
        # A cue starts at a word (or at the colon of "pneumothorax: none") and ends at the end of one.
        self.cue = re.compile(rf"(?:(?<![\w-])|(?=: ))(?:{'|'.join(groups)})(?!\w)")
        self.boundary = re.compile("|".join(_word(p) for p in data["boundaries"]))
        self.amount = re.compile(rf"(?:and |with )?(?:{data['amounts']})\b")
        self.verb = re.compile(rf"\b(?:{data['verbs']})\b")
        self.normal = re.compile(rf"(?<![\w-])(?:{'|'.join(data['normal'])})(?!\w)")
        self.generic = re.compile(rf"\b(?:{data['generic']})$")
        self.change = re.compile(rf"\b(?:{data['change']})\b")
        self.finding = re.compile(rf"(?<![\w])(?:{'|'.join(data['findings'])})(?!\w)")


def _word(pattern: str) -> str:
    return rf"\b(?:{pattern})\b" if pattern[0].isalpha() or pattern[0] == "(" else f"(?:{pattern})"


@cache
def vocabulary() -> Vocabulary:
    """Return the vocabulary, compiled once."""
    text = files("glint.text").joinpath("cues.yaml").read_text(encoding="utf-8")
    return Vocabulary(yaml.safe_load(text))
