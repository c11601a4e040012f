"""Reading reports: sections, sentences, states, opposites. The gold sentences are in semantics_gold.yaml."""

from pathlib import Path
from random import Random

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from glint.phantom.report import write_report
from glint.phantom.schema import KINDS, Finding
from glint.text.clauses import analyse, state_at
from glint.text.sections import split_sentences
from glint.text.semantics import flip_polarity, read_sentence, sentences, split_report, without_denial

GOLD = yaml.safe_load(Path(__file__).with_name("semantics_gold.yaml").read_text(encoding="utf-8"))
STATES = [(text, state) for state, texts in GOLD["states"].items() for text in texts]


@pytest.mark.parametrize(("text", "state"), STATES)
def test_read_sentence__gold(text: str, state: str) -> None:
    sentence = read_sentence(text)
    assert sentence.state == ("absent" if state == "normal" else state)
    assert sentence.normal == (state == "normal")


@pytest.mark.parametrize(("text", "opposite"), GOLD["flips"])
def test_flip_polarity__gold(text: str, opposite: str | None) -> None:
    assert flip_polarity(text) == opposite


@pytest.mark.parametrize("text", [text for text, _ in STATES])
def test_flip_polarity__result_reads_as_the_opposite(text: str) -> None:
    flipped = flip_polarity(text)
    if flipped is not None:
        assert {read_sentence(text).state, read_sentence(flipped).state} == {"present", "absent"}


def test_state_at__each_finding_of_a_mixed_sentence_has_its_own_state() -> None:
    text = "Small right effusion without pneumothorax, but an opacity may represent pneumonia."
    analysis = analyse(text)
    states = {
        word: state_at(analysis, text.index(word))
        for word in ("effusion", "pneumothorax", "opacity", "pneumonia")
    }
    assert states == {
        "effusion": "present", "pneumothorax": "absent", "opacity": "present", "pneumonia": "uncertain"
    }  # fmt: skip


def test_split_report__headers_in_many_styles() -> None:
    for text in (
        "INDICATION: Rule out pneumonia.\nFINDINGS: Lungs are clear.\nIMPRESSION: Normal.",
        "History: cough\n\nFindings:\nLungs are clear.\n\nImpression:\nNormal.",
        "**Findings:** Lungs are clear.\n\n**Impression:** Normal.",
        "FINDINGS\nLungs are clear.\n\nCONCLUSION\nNormal.",
        "COMPARISON: None. FINDINGS: Lungs are clear. IMPRESSION: Normal.",
        "EXAM: CHEST\r\nFINDINGS:\r\nLungs are clear.\r\nIMPRESSION:\r\nNormal.",
        "INDICATION: Cough.\n\nPA AND LATERAL CHEST RADIOGRAPH: Lungs are clear.\n\nIMPRESSION: Normal.",
    ):
        sections = split_report(text)
        assert (sections.findings, sections.impression) == ("Lungs are clear.", "Normal."), text


def test_split_report__without_headers_is_all_findings() -> None:
    sections = split_report("Lungs are clear. No effusion.")
    assert (sections.findings, sections.impression) == ("Lungs are clear. No effusion.", "")
    assert split_report("") == split_report("  \n ")


def test_sentences__indication_is_not_read() -> None:
    assert [s.text for s in sentences("INDICATION: Pneumothorax?\nFINDINGS: Clear lungs.")] == [
        "Clear lungs."
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A 1.5 cm nodule. No effusion.", ["A 1.5 cm nodule.", "No effusion."]),
        ("Discussed with Dr. Smith. Clear.", ["Discussed with Dr. Smith.", "Clear."]),
        ("1. Effusion.\n2. Nodule.", ["Effusion.", "Nodule."]),
        ("1. Effusion. 2. Nodule.", ["Effusion.", "Nodule."]),
        ("1) Effusion\n2) Nodule", ["Effusion", "Nodule"]),
        ("- Effusion\n- Nodule", ["Effusion", "Nodule"]),
        (
            "There is a small\nright effusion. No\npneumothorax.",
            ["There is a small right effusion.", "No pneumothorax."],
        ),
        ("SMALL EFFUSION. NO PNEUMOTHORAX.", ["SMALL EFFUSION.", "NO PNEUMOTHORAX."]),
        ("Small effusion.No pneumothorax.", ["Small effusion.", "No pneumothorax."]),
        ("no effusion. no pneumothorax", ["no effusion.", "no pneumothorax"]),
        ("Pneumonia vs. atelectasis. Clear.", ["Pneumonia vs. atelectasis.", "Clear."]),
        ("Effusion at 3 p.m. was small.", ["Effusion at 3 p.m. was small."]),
        (" \n\n . ", []),
    ],
)
def test_split_sentences__hard_stops(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_sentences__any_text_is_read_without_error(text: str) -> None:
    for sentence in sentences(text):
        assert sentence.state in ("present", "absent", "uncertain", "changed")
        flip_polarity(sentence.text)


@pytest.mark.parametrize("wording", ["train", "new"])
def test_sentences__phantom_reports_read_as_they_were_meant(wording: str) -> None:
    rng = Random(3)
    wrong: list[tuple[str, str, str]] = []
    total = 0
    for _ in range(300):
        kinds = rng.sample(list(KINDS), rng.randint(0, 4))
        findings = [_finding(kind, rng) for kind in kinds]
        report = write_report(findings, rng, wording)
        read = sentences(report.text)
        assert [s.text for s in read] == list(report.sentences)
        for claim, sentence in zip(report.claims, read, strict=True):
            total += 1
            if claim.state != sentence.state:
                wrong.append((claim.sentence, claim.state, sentence.state))
    assert len(wrong) <= 0.002 * total, wrong[:10]


def _finding(kind: str, rng: Random) -> Finding:
    location = rng.choice(KINDS[kind])
    side = location.split()[0] if location else rng.choice(["left", "right"])
    size = {"nodule": rng.uniform(6, 30), "mass": rng.uniform(31, 80)}.get(kind, 0.0)
    severity = rng.choice(["small", "moderate", "large"])
    return Finding(kind, "midline" if kind == "cardiomegaly" else side, location, severity, size)


@pytest.mark.parametrize(
    ("text", "about", "denies"),
    [
        ("No pleural effusion.", "Pleural effusion.", True),
        ("A pneumothorax is not seen.", "A pneumothorax is seen.", True),
        ("Nothing suggests a mass.", "Nothing suggests a mass.", True),  # read, but not rewritten
        ("There is a mass.", "There is a mass.", False),
        ("Possible consolidation.", "Possible consolidation.", False),
        ("The lungs are clear.", "The lungs are clear.", False),  # a sentence of its own
    ],
)
def test_without_denial__what_a_sentence_is_about(text: str, about: str, denies: bool) -> None:
    assert without_denial(text) == (about, denies)
