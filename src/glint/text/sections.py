"""Cuts a report into its sections and these into sentences, whatever its style."""

import re
from dataclasses import dataclass

_KINDS = {
    "findings": r"findings?(?:\s*(?:and|/|&)\s*impressions?)?|report|observations?|result[s]?|description"
    r"|(?:chest|lungs?|x-?ray) findings",
    "impression": r"impressions?|conclusions?|opinion|summary|assessment|interpretation|diagnosis|final diagnosis",
    "other": r"indications?|(?:clinical|patient|brief)?\s*(?:history|information|indication|data|question|details"
    r"|statement)|reason for (?:exam(?:ination)?|study|the exam)|comparisons?|techniques?|exam(?:ination)?s?|exam type"
    r"|study|procedure"
    r"|recommendations?(?: and follow[- ]?up)?|notifications?|views?|protocol|attestation|wet read|addendum|date|signed"
    r"|dictated by|electronically signed(?: by)?|final report|comment[s]?|contrast|dose",
}
_HEADER = re.compile(
    r"(?:^|(?<=[.\n])[ \t]*)[ \t]*(?:\*\*|#{1,4} ?|__)?[ \t]*(?:"
    + "|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _KINDS.items())
    + r")[ \t]*(?:\*\*|__)?[ \t]*(?::(?:\*\*)?|(?=\r?\n|$)|[ \t]-[ \t])[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
# "PA AND LATERAL CHEST RADIOGRAPH: The aorta ...": the title of the exam opens the findings.
_EXAM_TITLE = re.compile(
    r"^[ \t]*(?=[^:\n]{0,80}\b(?:chest|radiograph|x-?ray|portable|lateral|views?|cxr|ct)\b)[A-Z][^:\n.]{2,80}:[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_ABBREVIATION = re.compile(
    r"(?:dr|drs|mr|mrs|ms|prof|st|vs|e\.g|i\.e|approx|no|fig|etc|ca|resp|incl|a\.m|p\.m|jr|sr|inc|dept|cf)$"
)
_ITEM = re.compile(r"(?:^|(?<=\s))(?:\(?\d{1,2}[.)]|[-*•])\s+(?=\S)")
_END = re.compile(r"[.!?]+[\"')\]]*(?=\s|$)|[.!?](?=[A-Z][a-z])")
_LAST_WORD = re.compile(r"(\S+)$")


@dataclass(frozen=True, slots=True)
class Sections:
    """The two parts of a report that say what was seen; "" where a report has none."""

    findings: str
    impression: str


def split_report(text: str) -> Sections:
    """Find findings and impression by their headers; a report without headers is all findings."""
    text = re.sub(r"\r\n?|<br\s*/?>", "\n", text, flags=re.IGNORECASE)
    headers = list(_HEADER.finditer(text))
    if not headers:
        return Sections(text.strip(), "")
    parts: dict[str, list[str]] = {"findings": [], "impression": [], "other": []}
    ends = [h.start() for h in headers[1:]] + [len(text)]
    for header, end in zip(headers, ends, strict=True):
        parts[str(header.lastgroup)].append(text[header.end() : end].strip())
    if not any(parts["findings"]):
        parts["findings"] = _untitled_findings(text[: headers[0].start()], parts["other"])
    return Sections(
        "\n\n".join(filter(None, parts["findings"])), "\n\n".join(filter(None, parts["impression"]))
    )


def _untitled_findings(before: str, others: list[str]) -> list[str]:
    """Find findings that have no header of their own: after the exam's title, or before the impression."""
    for block in others:
        title = _EXAM_TITLE.search(block)
        if title and block[title.end() :].strip():
            return [block[title.end() :].strip()]
    paragraphs = [block.split("\n\n", 1)[1].strip() for block in others if "\n\n" in block]
    found = [p for p in paragraphs if len(p) > 40]
    return found[-1:] or ([before.strip()] if before.strip() else [])


def split_sentences(text: str) -> list[str]:
    """Split running text, lists and wrapped lines into sentences; numbers of list items are dropped."""
    found: list[str] = []
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:\(?\d{1,2}[.)]|[-*•])\s)", text):
        found += _split_block(" ".join(block.split()))
    return found


def _split_block(block: str) -> list[str]:
    pieces: list[str] = []
    start = 0
    for match in _END.finditer(block):
        if _is_end(block, start, match):
            pieces.append(block[start : match.end()])
            start = match.end()
    pieces.append(block[start:])
    cleaned = (
        _ITEM.sub("", piece.strip(), count=1) if _ITEM.match(piece.strip()) else piece.strip()
        for piece in pieces
    )
    return [piece for piece in cleaned if re.search(r"[A-Za-z]{2}", piece)]


def _is_end(block: str, start: int, match: re.Match[str]) -> bool:
    """Say whether a full stop ends a sentence rather than an abbreviation, an initial or an item number."""
    if match[0][0] != ".":
        return True
    before = _LAST_WORD.search(block[start : match.start()])
    word = before[1].lower().lstrip("(") if before else ""
    rest = block[match.end() :].lstrip()
    if word == "no":  # "No. 2" but "... no."
        return not rest[:1].isdigit()
    if _ABBREVIATION.match(word):
        return False
    if word.isdigit() and not block[start : match.start()].strip("( " + word):
        return False  # "1." opens a list item
    return not (
        len(word) == 1 and word.isalpha() and before is not None and before[1].isupper() and word not in "lr"
    )
