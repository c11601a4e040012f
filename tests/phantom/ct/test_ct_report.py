"""CT reports: true of findings and of the part of the chest that was scanned, and two wordings without overlap."""

import re
from random import Random
from typing import Literal

import pytest

from glint.phantom.ct.schema import CT, CT_KINDS, CT_STRUCTURES
from glint.phantom.ct.visible import anatomy_claims, unseen
from glint.phantom.report import Report, describe, negate, prompts, write_report
from glint.phantom.schema import Finding
from glint.phantom.wording import load_wording, skeletons
from glint.text.semantics import read_sentence

Wording = Literal["ct_train", "ct_new"]
WORDINGS: tuple[Wording, ...] = ("ct_train", "ct_new")
WHOLE = dict.fromkeys(CT_STRUCTURES, 1.0)


def random_finding(kind: str, rng: Random) -> Finding:
    place = rng.choice(CT_KINDS[kind])
    side = place.split()[0] if place else rng.choice([side for side, _ in CT.sides[kind]])
    size = {"nodule": rng.uniform(6, 30), "mass": rng.uniform(31, 80)}.get(kind, 0.0)
    return Finding(kind, side, place, rng.choice(["small", "moderate", "large"]), size)  # type: ignore[arg-type]


def reports(count: int, wording: Wording) -> list[tuple[list[Finding], Report]]:
    rng = Random(3)
    made = []
    for _ in range(count):
        findings = [random_finding(kind, rng) for kind in rng.sample(list(CT_KINDS), rng.randint(0, 4))]
        made.append((findings, write_report(findings, rng, wording)))
    return made


@pytest.mark.parametrize("wording", WORDINGS)
def test_write_report__claims_each_finding_and_denies_none(wording: Wording) -> None:
    for findings, report in reports(300, wording):
        claimed = {k for c in report.claims if c.state != "absent" for k in c.kinds}
        assert claimed == {f.kind for f in findings}
        assert not {k for c in report.claims if c.state == "absent" and not c.side for k in c.kinds} & claimed
        assert report.text.split("IMPRESSION:")[1].strip()
        numbers = re.findall(r"(\d+(?:\.\d+)?) ?(?:mm|cm|milli|centi)", report.text)
        assert set(numbers) <= {t for f in findings for t in (f"{f.size_mm:.0f}", f"{f.size_mm / 10:.1f}")}


@pytest.mark.parametrize("wording", WORDINGS)
def test_write_report__sentences_are_clean_and_read_as_they_were_meant(wording: Wording) -> None:
    wrong = []
    for _, report in reports(300, wording):
        for claim in report.claims:
            assert re.fullmatch(r"[A-Z0-9][^{}@|]*\.", claim.sentence), claim
            assert "  " not in claim.sentence
            assert not re.search(r"\b(\w+) \1\b", claim.sentence, re.I), claim
            wrong += [claim] if read_sentence(claim.sentence).state != claim.state else []
    assert not wrong, wrong[:20]


@pytest.mark.parametrize("wording", WORDINGS)
@pytest.mark.parametrize("kind", CT_KINDS)
def test_queries__affirm_deny_and_name_the_side(kind: str, wording: Wording) -> None:
    rng = Random(8)
    assert len(prompts(kind, wording)) >= 4
    assert all(read_sentence(p).state == "present" for p in prompts(kind, wording))
    for _ in range(20):
        assert read_sentence(negate(kind, rng, wording)).state == "absent"
        finding = random_finding(kind, rng)
        sentence = describe(finding, rng, wording)
        assert read_sentence(sentence).state == "present", sentence
        for side, other in (("left", "right"), ("right", "left")):
            if finding.side == side:
                assert not re.search(rf"\b{other}\b|\b{other[0]}[uml]l\b", sentence, re.I), sentence


@pytest.mark.parametrize("wording", WORDINGS)
def test_load_wording__no_report_of_a_ct_speaks_of_a_radiograph(wording: Wording) -> None:
    assert not re.search(r"\bfilm|radiograph|x-ray", str(load_wording(wording)), re.I)


def test_wordings__share_no_frame_no_name_and_no_sentence() -> None:
    train, new = (load_wording(name) for name in WORDINGS)
    frames = []
    for book in (train, new):
        groups = [
            f for g in book["groups"].values() for style in ("short", "detail", "uncertain") for f in g[style]
        ]
        listed = [e["text"] for e in book["normal"] + book["normal_side"]] + book["normal_study"]
        anatomy = [f for part in book["anatomy_frames"].values() for f in part]
        frames.append({s for f in groups + listed + anatomy + book["negations"] for s in skeletons(f, book)})
    assert frames[0]
    assert not frames[0] & frames[1]
    names = [
        {
            n.lower()
            for e in b["kinds"].values()
            for group in (*e["names"].values(), e["absent"])
            for n in group
        }
        for b in (train, new)
    ]
    assert not names[0] & names[1]
    said = [{s for _, r in reports(400, name) for s in r.sentences} for name in WORDINGS]
    assert not said[0] & said[1]
    assert list(train["kinds"]) == list(new["kinds"]) == list(CT_KINDS)


@pytest.mark.parametrize("wording", WORDINGS)
def test_anatomy_claims__say_what_is_there_and_what_is_not(wording: Wording) -> None:
    names = load_wording(wording)["anatomy"]
    assert set(names) == set(CT_STRUCTURES)
    shares = WHOLE | dict.fromkeys(("liver", "spleen", "stomach"), 0.0) | {"heart": 0.2}
    told: set[str] = set()
    for seed in range(200):
        for claim in anatomy_claims(shares, Random(seed), wording):
            named = [n for n, words in names.items() if any(w in claim.sentence.lower() for w in words)]
            assert named, claim
            told |= set(named)
            assert "heart" not in named, "neither visible nor missing"
            # "left lower lobe of the lung" does not name the left lung; "aorta" is in "thoracic aorta".
            assert any((shares[name] == 0) == (claim.state == "absent") for name in named), claim
            assert read_sentence(claim.sentence).state == claim.state, claim
    assert told == set(CT_STRUCTURES) - {"heart"}


def test_unseen__nothing_is_said_about_what_the_scan_cannot_show() -> None:
    shares = WHOLE | {"heart": 0.3, "left lung": 0.4, "left lower lobe": 0.1}
    hidden = unseen(shares)
    assert {"cardiomegaly", "coronary_calcification", "pleural_effusion", "left"} <= hidden
    assert not {"aortic_dilation", "nodule", "right"} & hidden
    assert not unseen(WHOLE)
    finding = Finding("nodule", "right", "right lower lobe", "small", 8.0)
    for seed in range(200):
        report = write_report([finding], Random(seed), "ct_train", hidden)
        for claim in report.claims:
            assert not set(claim.kinds) & hidden
            assert claim.side != "left"
            assert not re.search(r"heart|pericardium|both lungs|left", claim.sentence, re.I), claim
