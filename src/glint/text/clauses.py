"""Finds which parts of a sentence are affirmed, denied, hedged or only compared (after NegEx and ConText).

    sentence -> cues and clause boundaries -> scopes -> state of every finding that is mentioned

A cue reaches to the end (or start) of its clause. Clauses end at words like "but", at "with", and at those commas
and "and"s that start something new rather than continue a list ("no effusion and small nodule", "no effusion,
the heart is large", but "no effusion, nodule, or mass").
"""

import re
from dataclasses import dataclass
from typing import Literal

from glint.text.cues import Vocabulary, vocabulary

State = Literal["present", "absent", "uncertain", "changed"]

_CONJUNCTION = re.compile(r",\s*|\band\s+|\bwith\b\s*")
_SEEN = re.compile(
    r"\b(?:is|are|was|were) (?:seen|identified|present|noted|appreciated|visuali[sz]ed|evident)\W*$"
)
_BEFORE_WITH = re.compile(
    r"(?:consistent|compatible|associated|keeping|concerning|agreement|correlat\w*|compared)\s*$"
)
_PRE: dict[str, State] = {"negation_pre": "absent", "uncertain_pre": "uncertain", "changed_pre": "changed"}
_POST: dict[str, State] = {"negation_post": "absent", "uncertain_post": "uncertain"}


@dataclass(frozen=True, slots=True)
class Scope:
    """The part [start, end) of a sentence that a cue of a kind at `cue` reaches."""

    start: int
    end: int
    state: State
    cue: int
    after: bool


@dataclass(frozen=True, slots=True)
class Mention:
    """A finding named in a sentence: its place [start, end) and its state; `clause` numbers the clauses."""

    start: int
    end: int
    text: str
    state: State
    clause: int


@dataclass(frozen=True, slots=True)
class Analysis:
    """Everything found in one sentence."""

    lowered: str
    edges: tuple[int, ...]
    scopes: tuple[Scope, ...]
    mentions: tuple[Mention, ...]
    cues: tuple[tuple[int, int, str], ...]


def analyse(sentence: str) -> Analysis:
    """Find cues, clauses, scopes and mentioned findings of one sentence."""
    words = vocabulary()
    lowered = sentence.lower().replace("’", "'")
    cues = tuple((m.start(), m.end(), str(m.lastgroup)) for m in words.cue.finditer(lowered))
    edges = _clause_edges(lowered, cues, words)
    scopes = tuple(_scopes(cues, edges))
    mentions: list[Mention] = []
    for match in words.finding.finditer(lowered):
        if any(start <= match.start() < end for start, end, _ in cues):
            continue  # "improvement of" is part of a cue, not a finding
        clause = sum(edge <= match.start() for edge in edges) - 1
        state = _state(match.start(), scopes)
        mentions.append(Mention(match.start(), match.end(), match[0], state, clause))
    return Analysis(lowered, edges, scopes, tuple(mentions), cues)


def state_at(analysis: Analysis, start: int) -> State:
    """Return the state of whatever stands at a place of the sentence."""
    return _state(start, analysis.scopes)


def _state(position: int, scopes: tuple[Scope, ...]) -> State:
    covering = [s for s in scopes if s.start <= position < s.end]
    if not covering:
        return "present"
    deciding = [s for s in covering if s.after]
    if deciding:  # "... cannot be excluded", "... is not seen": the verb decides, the nearest one first
        return min(deciding, key=lambda s: s.cue).state
    # The first cue rules: "no findings suspicious for X" denies X, "may not represent X" hedges it.
    return min(covering, key=lambda s: s.cue).state


def _scopes(cues: tuple[tuple[int, int, str], ...], edges: tuple[int, ...]) -> list[Scope]:
    scopes: list[Scope] = []
    for start, end, kind in cues:
        clause_start = max((e for e in edges if e <= start), default=0)
        clause_end = min((e for e in edges if e > start), default=10**9)
        if kind in _PRE:
            scopes.append(Scope(end, clause_end, _PRE[kind], start, False))
        elif kind in _POST:
            scopes.append(Scope(clause_start, start, _POST[kind], start, True))
    return scopes


def _clause_edges(text: str, cues: tuple[tuple[int, int, str], ...], words: Vocabulary) -> tuple[int, ...]:
    """Return the places where clauses start, 0 first."""
    edges = {0}
    for match in words.boundary.finditer(text):
        if not _inside(match.start(), cues):
            edges.add(match.start())
    for match in _CONJUNCTION.finditer(text):
        if _inside(match.start(), cues):
            continue
        cued = any(start < match.start() for start, _, _ in cues)
        if _starts_anew(match, text, words, cued):
            edges.add(match.start())
    return tuple(sorted(edges))


def _inside(position: int, cues: tuple[tuple[int, int, str], ...]) -> bool:
    return any(start < position < end for start, end, _ in cues)


def _starts_anew(match: re.Match[str], text: str, words: Vocabulary, cued: bool) -> bool:
    """Say whether a comma, "and" or "with" begins a new statement instead of continuing a list.

    Args:
        match: The comma or conjunction.
        text: The whole sentence in lower case.
        words: The vocabulary.
        cued: Whether a cue stands before it.
    """
    rest = text[match.end() :]
    segment = rest.split(",")[0]
    if match[0].startswith("with"):
        return not _BEFORE_WITH.search(text[: match.start()])
    if match[0].startswith("and") and re.match(r"(?:its|their|there)\b", rest):
        return True
    if match[0].startswith("and") and not (cued or words.verb.search(text[: match.start()])):
        return False  # "heart and lungs are normal"
    if match[0].startswith(",") and re.match(r"(?:or|nor)\b", rest):
        return False
    # A list that goes on to "or" is still the same list: "no small nodule, large mass, or effusion".
    if re.search(r"\b(?:or|nor)\b", segment if match[0].startswith("and") else rest):
        verb = words.verb.search(segment)
        return bool(verb and not _SEEN.search(segment) and "or" not in segment.split())
    if words.amount.match(rest):
        return True
    return bool(words.verb.search(segment)) and not _SEEN.search(segment)
