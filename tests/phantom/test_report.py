"""Phantom reports: true, varied, reproducible, and two phrase books that share no sentence frame."""

import re
from random import Random
from typing import Literal

import pytest

from glint.errors import UsageError
from glint.phantom.report import Claim, Report, describe, negate, prompts, write_report
from glint.phantom.schema import KINDS, Finding
from glint.phantom.wording import finish, load_wording, skeletons
from glint.text.semantics import read_sentence

WORDINGS: tuple[Literal["train", "new"], ...] = ("train", "new")
OPPOSITE = {"left": "right", "right": "left"}


def random_finding(kind: str, rng: Random) -> Finding:
    location = rng.choice(KINDS[kind])
    side = location.split()[0] if location else rng.choice(["left", "right"])
    if kind in ("pleural_effusion", "hilar_enlargement") and rng.random() < 0.2:
        side = "bilateral"
    size = {"nodule": rng.uniform(6, 30), "mass": rng.uniform(31, 80)}.get(kind, 0.0)
    severity = rng.choice(["small", "moderate", "large"])
    return Finding(kind, "midline" if kind == "cardiomegaly" else side, location, severity, size)  # type: ignore[arg-type]


def random_findings(rng: Random) -> list[Finding]:
    """0 to 4 findings, the same kind sometimes twice, as on both sides."""
    return [random_finding(rng.choice(list(KINDS)), rng) for _ in range(rng.randint(0, 4))]


def reports(count: int, wording: Literal["train", "new"]) -> list[tuple[list[Finding], Report]]:
    rng = Random(11)
    return [
        (findings, write_report(findings, rng, wording))
        for findings in (random_findings(rng) for _ in range(count))
    ]


def names_in(sentence: str, wording: str) -> set[str]:
    """Read which kinds a sentence names, by their unmistakable names only."""
    found: set[str] = set()
    for kind, entry in load_wording(wording)["kinds"].items():
        names = [*entry["absent"], *(n for group in entry["names"].values() for n in group)]
        names = [n for n in names if n not in ("collapse", "pleural air", "nodular density")]
        if re.search(r"(?<!\w)(?:" + "|".join(map(re.escape, names)) + r")(?!\w)", sentence, re.IGNORECASE):
            found.add(kind)
    return found


def contradiction(claim: Claim, findings: list[Finding], wording: str) -> str:
    """Return why a sentence is not true of the findings, reading its text and not how it was made; "" if true."""
    shown = {f.kind for f in findings}
    state = read_sentence(claim.sentence).state
    sides = [
        s for s in ("left", "right") if re.search(rf"\b{s}\b|\b{s[0]}[uml]l\b", claim.sentence, re.IGNORECASE)
    ]
    for kind in names_in(claim.sentence, wording):
        of_kind = {side for f in findings if f.kind == kind for side in _sides(f)}
        if state == "absent" and not sides and kind in shown:
            return f"denies {kind}"
        if state == "absent" and sides and of_kind & set(sides):
            return f"denies {kind} on the {sides}"
        if state in ("present", "uncertain") and kind not in shown:
            return f"affirms {kind}"
        if (
            state == "present"
            and len(claim.kinds) == 1
            and sides
            and kind != "cardiomegaly"
            and not of_kind & set(sides)
        ):
            return f"affirms {kind} on the {sides}"
    return ""


def _sides(finding: Finding) -> set[str]:
    return {"left", "right"} if finding.side in ("bilateral", "midline") else {finding.side}


@pytest.mark.parametrize("wording", WORDINGS)
def test_write_report__no_sentence_contradicts_the_findings(wording: Literal["train", "new"]) -> None:
    for findings, report in reports(600, wording):
        for claim in report.claims:
            assert not contradiction(claim, findings, wording), (claim, findings)


@pytest.mark.parametrize("wording", WORDINGS)
def test_write_report__every_finding_but_no_other_is_claimed(wording: Literal["train", "new"]) -> None:
    for findings, report in reports(300, wording):
        claimed = {kind for claim in report.claims if claim.state != "absent" for kind in claim.kinds}
        assert claimed == {f.kind for f in findings}
        denied = {k for c in report.claims if c.state == "absent" and not c.side for k in c.kinds}
        assert not denied & claimed


@pytest.mark.parametrize("wording", WORDINGS)
def test_write_report__sizes_are_the_findings_own(wording: Literal["train", "new"]) -> None:
    for findings, report in reports(300, wording):
        allowed = {f"{f.size_mm:.0f}" for f in findings} | {f"{f.size_mm / 10:.1f}" for f in findings}
        for number in re.findall(r"(\d+(?:\.\d+)?) ?(?:mm|cm|milli|centi)", report.text):
            assert number in allowed, report.text


@pytest.mark.parametrize("wording", WORDINGS)
def test_write_report__text_is_clean(wording: Literal["train", "new"]) -> None:
    for _, report in reports(400, wording):
        assert report.text.startswith("FINDINGS: ")
        assert "\nIMPRESSION: " in report.text
        for sentence in report.sentences:
            assert re.fullmatch(r"[A-Z0-9][^{}@|]*\.", sentence), sentence
            assert "  " not in sentence
            assert not re.search(r"\b(\w+) \1\b|\b(?:a|an) (?:a|an)\b|\ba (?:[aeio])", sentence, re.I), (
                sentence
            )


def test_write_report__same_seed_same_report() -> None:
    findings = [random_finding(kind, Random(1)) for kind in ("nodule", "pleural_effusion")]
    texts = {write_report(findings, Random(5), "train").text for _ in range(3)}
    assert len(texts) == 1
    assert write_report(findings, Random(6), "train").text not in texts


def test_write_report__training_has_hundreds_of_forms_for_a_finding() -> None:
    rng = Random(2)
    for kind in KINDS:
        forms = {
            claim.sentence
            for _ in range(500)
            for claim in write_report([random_finding(kind, rng)], rng, "train").claims
            if claim.state != "absent"
        }
        assert len(forms) >= 150, (kind, len(forms))


def test_write_report__short_generic_sentences_and_headlines_are_in_training() -> None:
    rng = Random(4)
    for kind in KINDS:
        said = {
            s for _ in range(1500) for s in write_report([random_finding(kind, rng)], rng, "train").sentences
        }
        assert prompts(kind, "train")[0] in said, kind


def test_write_report__other_side_is_denied_sometimes() -> None:
    finding = Finding("pleural_effusion", "right", "", "small")
    claims = [c for seed in range(60) for c in write_report([finding], Random(seed), "train").claims]
    sided = [c for c in claims if c.state == "absent" and c.side]
    assert sided
    assert all(c.side == "left" for c in sided)


def all_frames(wording: str) -> set[str]:
    book = load_wording(wording)
    frames = [
        f for g in book["groups"].values() for style in ("short", "detail", "uncertain") for f in g[style]
    ]
    frames += book["pairs"] + book["negations"] + book["negations_side"] + book["negations_lung"]
    frames += [entry["text"] for entry in book["normal"] + book["normal_side"]] + book["normal_study"]
    return set().union(*(skeletons(frame, book) for frame in frames))


def all_words(wording: str, slot: str) -> set[str]:
    found: set[str] = set()
    for entry in load_wording(wording)["kinds"].values():
        if slot == "names":
            found |= {n.lower() for group in entry["names"].values() for n in group} | {
                n.lower() for n in entry["absent"]
            }
        elif slot == "prompts":
            found |= {entry["headline"].lower(), *(p.lower() for p in entry["prompts"])}
        else:
            found |= {word for words in entry.get(slot, {}).values() for word in words if word}
    return found


def test_wording__frames_of_the_two_books_are_disjoint() -> None:
    assert all_frames("train")
    assert not all_frames("train") & all_frames("new")


@pytest.mark.parametrize("slot", ["names", "sev", "degree", "extent", "prompts"])
def test_wording__names_and_adjectives_of_the_two_books_are_disjoint(slot: str) -> None:
    assert all_words("new", slot)
    assert not all_words("train", slot) & all_words("new", slot)


def test_write_report__new_wording_never_repeats_a_training_sentence() -> None:
    train = {s for _, report in reports(1500, "train") for s in report.sentences}
    new = {s for _, report in reports(500, "new") for s in report.sentences}
    assert not train & new


@pytest.mark.parametrize("wording", WORDINGS)
@pytest.mark.parametrize("kind", list(KINDS))
def test_queries__affirm_and_deny(kind: str, wording: Literal["train", "new"]) -> None:
    rng = Random(8)
    assert len(prompts(kind, wording)) >= 4
    assert all(read_sentence(p).state == "present" for p in prompts(kind, wording))
    for _ in range(20):
        assert read_sentence(negate(kind, rng, wording)).state == "absent"
        finding = random_finding(kind, rng)
        sentence = describe(finding, rng, wording)
        assert read_sentence(sentence).state == "present", sentence
        if finding.side in OPPOSITE:
            wrong_side = OPPOSITE[finding.side]
            assert not re.search(rf"\b{wrong_side}\b|\b{wrong_side[0]}[uml]l\b", sentence, re.IGNORECASE), (
                sentence
            )


def test_queries__unknown_kind_or_wording_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown finding"):
        prompts("gout", "train")
    with pytest.raises(UsageError, match="unknown wording"):
        load_wording("old")


@pytest.mark.parametrize(
    ("text", "article", "expected"),
    [
        ("there is @ opacity .", True, "There is an opacity."),
        ("@ LUL nodule", True, "An LUL nodule"),
        ("@ 8 mm nodule", True, "An 8 mm nodule"),
        ("@ 12 mm nodule", True, "A 12 mm nodule"),
        ("there is @ consolidation .", False, "There is consolidation."),
    ],
)
def test_finish__articles(text: str, article: bool, expected: str) -> None:
    assert finish(text, article) == expected
