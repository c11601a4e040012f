"""Turns one finding into words: the slots it can fill, its noun, its sentences."""

from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from glint.phantom.schema import Finding
from glint.phantom.wording import Book, fill, finish, slots

Style = Literal["short", "detail", "uncertain"]


@dataclass(frozen=True, slots=True)
class Noun:
    """A name of a finding and its grammatical number: count ("an opacity"), mass ("fluid") or plural."""

    name: str
    number: str


def pick_noun(finding: Finding, book: Book, rng: Random) -> Noun:
    """Choose a name; plurals only for findings on both sides."""
    names: dict[str, list[str]] = book["kinds"][finding.kind]["names"]
    bilateral = finding.side == "bilateral"
    plurals = [Noun(name, "plural") for name in names.get("plural", [])]
    if bilateral and plurals:
        return rng.choice(plurals)
    singular = [Noun(name, number) for number in ("count", "mass") for name in names.get(number, [])]
    if bilateral:  # "bilateral opacity" would need an article: mass nouns read well on both sides
        singular = [noun for noun in singular if noun.number == "mass"] or singular
    return rng.choice(singular)


def context_of(finding: Finding, noun: Noun, book: Book) -> dict[str, tuple[str, ...]]:
    """Return every slot that this finding can fill; a slot it lacks is not in the dictionary."""
    entry: dict[str, Any] = book["kinds"][finding.kind]
    plural = noun.number == "plural"
    context: dict[str, tuple[str, ...]] = {name: (str(rule),) for name, rule in book["rules"].items()}
    context |= {"name": (noun.name,), "is": ("are" if plural else "is",), "s": ("" if plural else "s",)}
    for slot in ("sev", "degree", "extent"):
        if finding.severity in entry.get(slot, {}):
            words: list[str] = entry[slot][finding.severity]
            context[slot] = (*words, "") if slot == "sev" else tuple(words)
    for slot in ("vague", "course"):
        if slot in entry:
            context[slot] = tuple(entry[slot])
    if finding.side in ("left", "right"):
        context["lr"] = (finding.side,)
    for slot, values in book["sides"].items():
        if finding.side in values:
            context[slot] = tuple(values[finding.side])
    for slot, words in book["lobes"].get(finding.location, {}).items():
        context[slot] = tuple(words)
    if finding.size_mm > 0:
        millimetres, centimetres = f"{finding.size_mm:.0f}", f"{finding.size_mm / 10:.1f}"
        context |= {"mm": (millimetres,), "cm": (centimetres,), "size": tuple(book["size"])}
    return context


def frames_for(style: Style, finding: Finding, book: Book) -> list[str]:
    """Return the sentence frames of a style whose slots this finding can fill."""
    group: dict[str, list[str]] = book["groups"][book["kinds"][finding.kind]["group"]]
    available = context_of(finding, Noun("", "count"), book).keys()
    return [frame for frame in group[style] if slots(frame) <= available]


def describe_with(style: Style, finding: Finding, rng: Random, book: Book) -> str:
    """Return one sentence about a finding in a style."""
    noun = pick_noun(finding, book, rng)
    frame = rng.choice(frames_for(style, finding, book))
    text = fill(frame, context_of(finding, noun, book), rng)
    return finish(text, article=noun.number == "count")


def noun_phrase(finding: Finding, noun: Noun, rng: Random, book: Book) -> str:
    """Return "@ small right pleural effusion"-like words, "@" marking the article."""
    group: dict[str, Any] = book["groups"][book["kinds"][finding.kind]["group"]]
    return fill(str(group["phrase"]), context_of(finding, noun, book), rng)
