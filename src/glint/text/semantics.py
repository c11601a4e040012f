"""Reads any radiology report: its sentences, and whether each affirms or denies.

    sentences("FINDINGS: Small right effusion. No pneumothorax.")
    -> [Sentence("Small right effusion.", "present", False), Sentence("No pneumothorax.", "absent", False)]

Rules only, no model: see cues.yaml for the words and clauses.py for how far they reach. Training reads
polarity from here (a denied finding is nowhere in the image) and builds contradictions with `flip_polarity`.
"""

from dataclasses import dataclass
from functools import lru_cache

from glint.text.clauses import Analysis, State, analyse, state_at
from glint.text.cues import vocabulary
from glint.text.polarity import rewrite
from glint.text.sections import Sections, split_report, split_sentences

__all__ = [
    "Sections",
    "Sentence",
    "State",
    "flip_polarity",
    "read_sentence",
    "sentences",
    "split_report",
    "without_denial",
]

_PRIORITY: tuple[State, ...] = ("present", "uncertain", "absent", "changed")
_OPPOSITE: dict[State, State] = {"present": "absent", "absent": "present"}


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a report.

    Attributes:
        text: The sentence on one line, without its item number.
        state: "present": affirms at least one finding; "uncertain": affirms only with a hedge; "absent": denies
            findings or says that something is normal; "changed": compares only, so presence is not known.
        normal: Says that an organ or the study is normal, rather than denying a certain finding.
    """

    text: str
    state: State
    normal: bool


def sentences(text: str) -> list[Sentence]:
    """Return the sentences of findings and impression, in order; plain text without headers is taken whole."""
    sections = split_report(text)
    parts = split_sentences(sections.findings) + split_sentences(sections.impression)
    return [read_sentence(part) for part in parts]


def read_sentence(text: str) -> Sentence:
    """Judge one sentence."""
    analysis = analyse(text)
    state = _sentence_state(analysis)
    return Sentence(text, state, state == "absent" and _is_normal(analysis))


def flip_polarity(text: str) -> str | None:
    """Return the opposite of a simple sentence: "No X." -> "X.", "Small right X." -> "No right X."

    Precision before coverage: hedged, mixed, comparing and long sentences give None, and so does every rewrite
    that does not read as the opposite.
    """
    analysis = analyse(text)
    before = _sentence_state(analysis)
    states = {m.state for m in analysis.mentions}
    if before not in _OPPOSITE or len(analysis.edges) > 1 or len(states) > 1 or len(analysis.cues) > 1:
        return None
    flipped = rewrite(text)
    if flipped is None or _sentence_state(analyse(flipped)) != _OPPOSITE[before]:
        return None
    return flipped


@lru_cache(maxsize=100_000)
def without_denial(text: str) -> tuple[str, bool]:
    """Return what a sentence is about, and whether it denies it: "No X." -> ("X.", True), "X." -> ("X.", False).

    A denial that cannot be rewritten safely stays as it is, and a statement that something is normal is none.
    """
    sentence = read_sentence(text)
    if sentence.state != "absent" or sentence.normal:
        return text, False
    return flip_polarity(text) or text, True


def _sentence_state(analysis: Analysis) -> State:
    if not analysis.mentions:
        return _state_without_findings(analysis)
    # "An opacity may represent pneumonia" hedges as a whole: the hedge colours its clause.
    hedged = {m.clause for m in analysis.mentions if m.state == "uncertain"}
    states: set[State] = {
        "uncertain" if m.clause in hedged and m.state == "present" else m.state for m in analysis.mentions
    }
    return next(state for state in _PRIORITY if state in states)


def _state_without_findings(analysis: Analysis) -> State:
    words, kinds = vocabulary(), {kind for _, _, kind in analysis.cues}
    normal = list(words.normal.finditer(analysis.lowered))
    if any(_affirmed(analysis, m.start()) for m in normal):
        return "absent"
    if normal and any(state_at(analysis, m.start()) == "uncertain" for m in normal):
        return "uncertain"
    if "pseudo" in kinds or "changed_pre" in kinds or words.change.search(analysis.lowered):
        return "changed"
    if not normal and kinds & {"negation_pre", "negation_post"}:
        return "absent"
    return "uncertain" if kinds & {"uncertain_pre", "uncertain_post"} else "present"


def _affirmed(analysis: Analysis, start: int) -> bool:
    """Say whether a word is affirmed and not itself part of a cue ("clear of")."""
    inside_cue = any(first <= start < last for first, last, _ in analysis.cues)
    return not inside_cue and state_at(analysis, start) == "present"


def _is_normal(analysis: Analysis) -> bool:
    """Say whether an absent sentence states normality: a normal organ, or no abnormality of any kind."""
    words = vocabulary()
    if any(_affirmed(analysis, m.start()) for m in words.normal.finditer(analysis.lowered)):
        return True
    if not analysis.mentions:  # "No acute findings."
        return bool(words.generic.search(analysis.lowered.rstrip(" .")))
    return all(words.generic.match(m.text) for m in analysis.mentions)
