"""The phrase books of the phantom's reports, and the small template language they are written in.

`wording_train.yaml` and `wording_new.yaml` hold the words; this file knows only how to fill a template:

* `{slot}` is replaced by a value of the context; rules of the phrase book are slots that
  are always available;
* `(one|of|these)` picks one alternative, groups may be nested and empty;
* `@` is the place of an article: "a", "an", or nothing before a mass noun or a plural.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from itertools import product
from random import Random
from typing import Any, Literal

import yaml

from glint.errors import UsageError

Book = Mapping[str, Any]
WordingName = Literal["train", "new", "ct_train", "ct_new"]
WORDINGS: tuple[WordingName, ...] = ("train", "new", "ct_train", "ct_new")
Context = Mapping[str, tuple[str, ...]]

_SLOT = re.compile(r"\{(\w+)\}")
_GROUP = re.compile(r"\(([^()]*)\)")
_VOWEL_SOUND = re.compile(r"(?:8|11\b|18\b|[aeio]|u(?!nil|niv|nif)|LUL\b|LLL\b|RUL\b|RML\b|RLL\b)", re.I)


@cache
def load_wording(name: str) -> Book:
    """Return a phrase book.

    Args:
        name: "train" or "new"; "ct_train" and "ct_new" are these two with what CT changes: entries of
            `wording_ct_*.yaml` replace those of the same name, groups, sides and rules are added, only the kinds
            that it lists are kept, in its order (empty ones as they were), and words of `instead` in what is kept
            are replaced.

    Raises:
        UsageError: There is no such phrase book.
    """
    if name not in WORDINGS:
        raise UsageError(f'unknown wording "{name}"', where="wording", expected=", ".join(WORDINGS))
    text = files("glint.phantom").joinpath(f"wording_{name}.yaml").read_text(encoding="utf-8")
    book: dict[str, Any] = yaml.safe_load(text)
    if not name.startswith("ct_"):
        return book
    plain = _reworded(load_wording(name.removeprefix("ct_")), book.pop("instead", {}))
    for part in ("groups", "sides", "rules"):
        book[part] = {**plain[part], **book.get(part, {})}
    book["kinds"] = {
        kind: {**plain["kinds"].get(kind, {}), **(own or {})} for kind, own in book["kinds"].items()
    }
    return {**plain, **book}


def _reworded(part: Any, instead: Mapping[str, str]) -> Any:
    """Return a part of a phrase book with words replaced."""
    if isinstance(part, Mapping):
        return {key: _reworded(value, instead) for key, value in part.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(part, list):
        return [_reworded(value, instead) for value in part]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(part, str):
        for word, other in instead.items():
            part = part.replace(word, other)
    return part


def slots(template: str) -> frozenset[str]:
    """Return the names of the slots that a template needs."""
    return frozenset(_SLOT.findall(template))


def fill(template: str, context: Context, rng: Random) -> str:
    """Fill a template: pick groups and slot values, keep "@" for `finish`."""
    return " ".join(_fill(template, context, rng).split())


def _fill(template: str, context: Context, rng: Random) -> str:
    def pick_slot(match: re.Match[str]) -> str:
        return _fill(rng.choice(context[match[1]]), context, rng)

    def pick_group(match: re.Match[str]) -> str:
        return rng.choice(match[1].split("|"))

    while _GROUP.search(template):
        template = _GROUP.sub(pick_group, template)
    return _SLOT.sub(pick_slot, template)


def finish(text: str, article: bool = True) -> str:
    """Resolve articles, spaces before punctuation and the first capital; see `resolve_articles`."""
    joined = re.sub(r"\s+([.,;:])", r"\1", resolve_articles(text, article))
    joined = re.sub(r",([.;])", r"\1", joined)  # ", {sev}." of a finding without a word for its severity
    joined = re.sub(r"\b(\w+) \1\b", r"\1", joined)  # "right lower lung" + "lung nodule"
    return joined[:1].upper() + joined[1:]


def resolve_articles(text: str, article: bool) -> str:
    """Replace every "@" by "a", "an" or nothing.

    Args:
        text: A filled template; "@" marks the place of an article.
        article: False for mass nouns and plurals, which take none.
    """
    words: list[str] = []
    parts = text.split()
    for index, word in enumerate(parts):
        if word != "@":
            words.append(word)
        elif article and index + 1 < len(parts):
            words.append("an" if _VOWEL_SOUND.match(parts[index + 1]) else "a")
    return " ".join(words)


def skeletons(template: str, book: Book) -> frozenset[str]:
    """Return every surface form of a sentence frame with its slots still open, for comparing phrase books."""
    for name, rule in book["rules"].items():
        template = template.replace(f"{{{name}}}", str(rule))
    pieces = re.split(r"\(([^()]*)\)", template)
    choices = [piece.split("|") if index % 2 else [piece] for index, piece in enumerate(pieces)]
    return frozenset(" ".join("".join(parts).split()).lower() for parts in product(*choices))
