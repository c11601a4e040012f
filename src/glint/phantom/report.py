"""Writes the report of a phantom study: FINDINGS and IMPRESSION, true by construction.

    findings -> claims (sentence, state, what it is about) -> text

Every sentence is made from the list of findings, never from the image, so it says what was inserted.
Which findings are described how, which absent findings are negated and in which order is drawn from `rng`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from glint.errors import UsageError
from glint.phantom.phrases import Noun, describe_with, frames_for, noun_phrase, pick_noun
from glint.phantom.schema import Finding
from glint.phantom.wording import Book, WordingName, fill, finish, load_wording, resolve_articles

State = Literal["present", "absent", "uncertain"]

_OPPOSITE = {"left": "right", "right": "left"}
_DEVICES = ("central_venous_catheter", "pacemaker")
UNCERTAIN_PROBABILITY = 0.12
SHORT_PROBABILITY = 0.3
PAIR_PROBABILITY = 0.25


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence and what it was made from.

    Attributes:
        sentence: The text.
        state: What it says about `kinds`.
        kinds: Kinds of finding that the sentence is about; empty for normal statements.
        side: Side that the sentence speaks of, or "" for the whole chest.
    """

    sentence: str
    state: State
    kinds: tuple[str, ...] = ()
    side: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A report and the claims it consists of. Training may read `text` and `sentences`, never `claims`."""

    text: str
    claims: tuple[Claim, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """Return all sentences in reading order."""
        return tuple(claim.sentence for claim in self.claims)


def write_report(
    findings: Sequence[Finding],
    rng: Random,
    wording: WordingName,
    unseen: frozenset[str] = frozenset(),
    others: Sequence[Claim] = (),
) -> Report:
    """Write one report.

    Args:
        findings: What was inserted; may be empty (a normal study).
        rng: Source of all choices.
        wording: "train", or "new" for sentences that no training report contains; "ct_train" and "ct_new".
        unseen: Kinds, and sides, of which this image cannot tell; nothing normal is said about them.
        others: Further claims for the findings section, e.g. on anatomy.
    """
    book = load_wording(wording)
    hedged = frozenset(f for f in findings if f.kind not in _DEVICES and rng.random() < UNCERTAIN_PROBABILITY)
    body = _finding_claims(findings, hedged, rng, book) + _absence_claims(findings, unseen, rng, book)
    body += others
    rng.shuffle(body)
    body += _normal_claims(findings, unseen, rng, book)
    if not body:
        body = _study_claims(findings, rng, book)
    impression = _impression(findings, hedged, rng, book)
    text = f"FINDINGS: {' '.join(c.sentence for c in body)}\nIMPRESSION: {_layout(impression, rng)}\n"
    return Report(text, tuple(body + impression))


def describe(finding: Finding, rng: Random, wording: WordingName) -> str:
    """Return one sentence that says what a finding is and where: a query for grounding."""
    return describe_with("detail", finding, rng, load_wording(wording))


def negate(kind: str, rng: Random, wording: WordingName) -> str:
    """Return a sentence that denies a kind of finding: contradicts every study that shows it."""
    book = load_wording(wording)
    return _negation((rng.choice(_kind(book, kind)["absent"]),), "negations", {}, rng, book)


def prompts(kind: str, wording: WordingName) -> tuple[str, ...]:
    """Return class-level queries, the headline first."""
    entry = _kind(load_wording(wording), kind)
    return (entry["headline"], *entry["prompts"])


def _kind(book: Book, kind: str) -> dict[str, Any]:
    if kind not in book["kinds"]:
        raise UsageError(f'unknown finding "{kind}"', where="kind", expected=", ".join(book["kinds"]))
    return book["kinds"][kind]


def _finding_claims(
    findings: Sequence[Finding], hedged: frozenset[Finding], rng: Random, book: Book
) -> list[Claim]:
    """Describe every finding once: in detail, shortly, hedged, or together with another one."""
    claims: list[Claim] = []
    plain = [f for f in findings if f not in hedged]
    rng.shuffle(plain)
    if len(plain) >= 2 and rng.random() < PAIR_PROBABILITY:
        one, two = plain.pop(), plain.pop()
        claims.append(Claim(_pair(one, two, rng, book), "present", (one.kind, two.kind)))
    for finding in plain:
        style = "short" if rng.random() < SHORT_PROBABILITY else "detail"
        text = describe_with(style, finding, rng, book)
        claims.append(Claim(text, "present", (finding.kind,), finding.side))
    for finding in findings:
        if finding in hedged:
            text = describe_with("uncertain", finding, rng, book)
            claims.append(Claim(text, "uncertain", (finding.kind,), finding.side))
    return claims


def _pair(one: Finding, two: Finding, rng: Random, book: Book) -> str:
    nouns: list[Noun] = [pick_noun(f, book, rng) for f in (one, two)]
    context = {name: (str(rule),) for name, rule in book["rules"].items()}
    for slot, finding, noun in zip(("one", "two"), (one, two), nouns, strict=True):
        phrase = noun_phrase(finding, noun, rng, book)
        context[slot] = (phrase.replace("@ ", ""),)
        context["a_" + slot] = (resolve_articles(phrase, noun.number == "count"),)
    context["is"] = ("are" if nouns[0].number == "plural" else "is",)
    return finish(fill(rng.choice(book["pairs"]), context, rng))


def _negation(
    names: Sequence[str], frames: str, context: dict[str, tuple[str, ...]], rng: Random, book: Book
) -> str:
    """Fill a negation frame with one name or a list of names."""
    listed = names[0]
    if len(names) == 2:
        listed = f"{names[0]} or {names[1]}"
    elif len(names) > 2:
        listed = ", ".join(names[:-1]) + rng.choice([", or ", " or "]) + names[-1]
    plural = names[-1].endswith("s") and not names[-1].endswith(("sis", "ss", "gas"))
    rules = {name: (str(rule),) for name, rule in book["rules"].items()}
    filled = {**rules, **context, "list": (listed,), "one": (names[0],), "are": ("are" if plural else "is",)}
    usable = [f for f in book[frames] if len(names) == 1 or "{list}" in f]
    return finish(fill(rng.choice(usable), filled, rng))


def _absence_claims(
    findings: Sequence[Finding], unseen: frozenset[str], rng: Random, book: Book
) -> list[Claim]:
    """Deny some absent findings, alone or in lists, and some findings on their healthy side."""
    shown = {f.kind for f in findings} | unseen
    candidates = _denial_order([k for k in book["kinds"] if k not in shown], rng)
    claims: list[Claim] = []
    for _ in range(rng.choice([0, 1, 1, 2, 2, 3])):
        length = rng.choice([1, 1, 2, 2, 3])
        kinds, candidates = tuple(candidates[:length]), candidates[length:]
        if kinds:
            inside_lungs = all(book["kinds"][kind]["group"] == "lung" for kind in kinds)
            frames = "negations_lung" if inside_lungs and rng.random() < 0.4 else "negations"
            names = [rng.choice(_kind(book, kind)["absent"]) for kind in kinds]
            claims.append(Claim(_negation(names, frames, {}, rng, book), "absent", kinds))
    joint = [entry for entry in book["joint_absent"] if not shown & set(entry["kinds"])]
    if joint and rng.random() < 0.3:
        entry = rng.choice(joint)
        text = _negation((rng.choice(entry["names"]),), "negations", {}, rng, book)
        claims.append(Claim(text, "absent", tuple(entry["kinds"])))
    return claims + _side_claims(findings, unseen, rng, book)


def _denial_order(kinds: Sequence[str], rng: Random) -> list[str]:
    """Shuffle, with what real reports deny most (effusion, pneumothorax) early and devices late."""
    weight = {"pleural_effusion": 4.0, "pneumothorax": 4.0, "central_venous_catheter": 0.2, "pacemaker": 0.2}
    return sorted(kinds, key=lambda kind: rng.expovariate(weight.get(kind, 1.0)))


def _side_claims(findings: Sequence[Finding], unseen: frozenset[str], rng: Random, book: Book) -> list[Claim]:
    """Deny a one-sided finding on the other side, or call the other side normal."""
    claims: list[Claim] = []
    for finding in findings:
        healthy = _OPPOSITE.get(finding.side, "")
        affected = {f.kind for f in findings if f.side in (healthy, "bilateral")}
        if not healthy or healthy in unseen or finding.kind in affected or rng.random() > 0.25:
            continue
        context = {slot: tuple(values[healthy]) for slot, values in book["sides"].items()}
        context["lr"] = (healthy,)
        normal = [entry for entry in book["normal_side"] if finding.kind in entry["kinds"]]
        normal = [entry for entry in normal if not (affected | unseen) & set(entry["kinds"])]
        if normal and rng.random() < 0.4:
            text = finish(fill(rng.choice(normal)["text"], context, rng))
            claims.append(Claim(text, "absent", (), healthy))
        else:
            name = rng.choice(_kind(book, finding.kind)["absent"])
            text = _negation((name,), "negations_side", context, rng, book)
            claims.append(Claim(text, "absent", (finding.kind,), healthy))
    return claims


def _normal_claims(
    findings: Sequence[Finding], unseen: frozenset[str], rng: Random, book: Book
) -> list[Claim]:
    """Say what is normal: only statements that no finding of this study contradicts."""
    shown = {f.kind for f in findings}
    true = [entry for entry in book["normal"] if not (shown | unseen) & set(entry["kinds"])]
    count = min(len(true), rng.choice([0, 1, 1, 2] if shown else [1, 2, 3]))
    return [Claim(finish(fill(entry["text"], {}, rng)), "absent") for entry in rng.sample(true, count)]


def _study_claims(findings: Sequence[Finding], rng: Random, book: Book) -> list[Claim]:
    if any(f.kind not in _DEVICES for f in findings):
        return []
    return [Claim(finish(fill(rng.choice(book["normal_study"]), {}, rng)), "absent")]


def _impression(
    findings: Sequence[Finding], hedged: frozenset[Finding], rng: Random, book: Book
) -> list[Claim]:
    """Sum up: every finding that is not a device, again in other words, or that the study is normal."""
    claims = _study_claims(findings, rng, book)
    for finding in findings:
        if finding.kind in _DEVICES and rng.random() < 0.6:
            continue
        if finding in hedged:
            text = describe_with("uncertain", finding, rng, book)
            claims.append(Claim(text, "uncertain", (finding.kind,), finding.side))
            continue
        style = "short" if frames_for("short", finding, book) and rng.random() < 0.5 else "detail"
        text = describe_with(style, finding, rng, book)
        claims.append(Claim(text, "present", (finding.kind,), finding.side))
    return claims


def _layout(claims: Sequence[Claim], rng: Random) -> str:
    """Join the impression: running text, or a numbered list."""
    if len(claims) > 1 and rng.random() < 0.5:
        return "\n" + "\n".join(f"{i}. {claim.sentence}" for i, claim in enumerate(claims, 1))
    return " ".join(claim.sentence for claim in claims)
