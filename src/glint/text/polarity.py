"""Rewrites a simple sentence into its opposite: "No pleural effusion." <-> "Pleural effusion."

Only sentences of one clause with one well-known frame are rewritten. The caller checks the result by reading
it again (semantics.flip_polarity), so a rewrite that does not come out as the opposite is given up.
"""

import re
from collections.abc import Callable

_FLAGS = re.IGNORECASE
_BE = r"(?:is|are|was|were)"
_SEEN = (
    r"(?:seen|identified|noted|present|visuali[sz]ed|demonstrated|evident|appreciated|apparent|detected|visible|observed)"
)
_AMOUNT = (
    r"(?:(?:very|mildly|moderately|severely) )?(?:small|tiny|trace|minimal|minor|mild|moderate|large|extensive|massive|severe"
    r"|marked|slight|subtle|sizeable|moderate-sized|well-defined|dense|faint|dominant|bulky|discrete|definite|definitive"
    r"|convincing|obvious|stable|unchanged|persistent|redemonstrated|residual|new|borderline|any|some|a|an|the"
    r"|(?:about |approximately )?\d+(?:\.\d+)?(?:\s*x\s*\d+(?:\.\d+)?)*[ -]?(?:mm|cm))"
)
_LEADING_AMOUNTS = re.compile(rf"^(?:{_AMOUNT}(?:-to-| to |/|, | and )(?={_AMOUNT}\b)|{_AMOUNT}\s+)+", _FLAGS)
_NO_HEDGE = re.compile(r"^(?:definite|definitive|convincing|obvious|discrete|any|visible|radiographic|clear)\s+", _FLAGS)
_NOUN = (
    r"(?:effusions?|pneumothora(?:x|ces)|opacit(?:y|ies)|opacifications?|consolidations?|infiltrat(?:es?|ions?)|pneumonia"
    r"|atelectas[ie]s|nodules?|mass(?:es)?|lesions?|tumou?rs?|cardiomegaly|enlargement|ed?ema|congestion|fractures?"
    r"|emphysema|fibrosis|scarring|scars?|granulomas?|calcifications?|thickening|hernias?|lymphadenopathy|adenopathy"
    r"|fullness|prominence|deformit(?:y|ies)|catheters?|lines?|pacemakers?|tubes?|devices?|collapse|volume loss|fluid"
    r"|pneumomediastinum|pneumoperitoneum|hydrothorax|cavit(?:y|ies)|cysts?|bronchiectasis|abnormalit(?:y|ies)"
    r"|disease|process|air|gas|blunting|lucenc(?:y|ies)|clips|wires|scoliosis|kyphosis|attenuation|densit(?:y|ies)"
    r"|pacers?|generators?|PTX|GGO|CVC|oedema|elevation|tortuosity|widening|markings)"
)
_COUNT_NOUN = re.compile(
    r"(?:effusion|pneumothorax|opacity|infiltrate|nodule|mass|lesion|tumou?r|fracture|granuloma|hernia|deformity|catheter"
    r"|line|pacemaker|tube|device|cavity|cyst|abnormality|density|lucency|consolidation|process)$",
    _FLAGS,
)
_PLACE = r"(?:in|on|at|of|within|over|along|overlying|involving|throughout|bilaterally|posteriorly|anteriorly|laterally)"
_HEAD = re.compile(rf"^[\w/,\- ]*?\b{_NOUN}(?: (?:{_PLACE})\b[\w/,\- ]*)?$", _FLAGS)
_DEGREE = r"(?:(?:mildly|slightly|moderately|severely|markedly|massively|minimally|somewhat|grossly) )?"
_STATE_WORD = (
    r"(?:enlarged|tortuous|calcified|elevated|prominent|widened|flattened|hyperinflated|hyperexpanded|dilated|ectatic"
    r"|unfolded|blunted|obscured|displaced|deviated|thickened|increased|engorged|congested|collapsed|opacified|osteopenic)"
)
_NORMAL_WORD = r"(?:normal|unremarkable|clear|intact|sharp|within normal limits)(?: in (?:size|appearance|contour|caliber))?"
_FORBIDDEN = re.compile(
    r"\b(?:than|again|previous(?:ly)?|prior|interval|increas(?:ing)|decreas\w+|improv\w+|worsen\w+|resol\w+|change[ds]?"
    r"|status|history|other|additional|further|longer|compared|increase|low|should|recommend\w*|follow\w*|if|when|not only"
    r"|only|except|clinical\w*|correlat\w*|limit\w*|exam|view)\b|[;:?()]",
    _FLAGS,
)


def rewrite(text: str) -> str | None:
    """Return the opposite of a sentence, or None where no frame fits."""
    body = text.strip()
    stop = "." if body.endswith(".") else ""
    body = " ".join(body.rstrip(". ").split())
    if not body or _FORBIDDEN.search(body) or len(body.split()) > 22:
        return None
    shouting = body.isupper()
    for pattern, make in _FRAMES:
        match = pattern.match(body)
        if match:
            made = make(match)
            if made is None:
                return None
            made = made[:1].upper() + made[1:]
            return (made.upper() if shouting else made) + stop
    return None


def _affirm(phrase: str, article: bool) -> str:
    """Turn what was denied into what is affirmed: "A or B" -> "A and B", with an article where one is due."""
    phrase = _NO_HEDGE.sub("", phrase)
    single = not re.search(r",|\bor\b|\bnor\b|\band\b", phrase)
    phrase = re.sub(r"\b(?:or|nor)\b", "and", phrase, flags=_FLAGS)
    head = re.split(rf"\s(?:{_PLACE})\b", phrase)[0]
    if article and single and _COUNT_NOUN.search(head):
        return ("an " if phrase[:1].lower() in "aeio" else "a ") + _lower_first(phrase)
    return _lower_first(phrase)


def _deny(phrase: str) -> str | None:
    """Turn what was affirmed into what is denied: without its amount, "A and B" -> "A or B"."""
    bare = _LEADING_AMOUNTS.sub("", phrase)
    parts = [_LEADING_AMOUNTS.sub("", part) for part in re.split(r"\s+and\s+", bare)]
    if not all(_HEAD.match(part) for part in parts):
        return None
    return _lower_first(" or ".join(parts))


def _lower_first(phrase: str) -> str:
    first = phrase.split(" ", 1)[0]
    return phrase if first.isupper() and len(first) > 1 else phrase[:1].lower() + phrase[1:]


def _frame(pattern: str, make: Callable[[re.Match[str]], str | None]) -> tuple[
    re.Pattern[str], Callable[[re.Match[str]], str | None]
]:
    return re.compile(pattern + "$", _FLAGS), make


def _denied(before: str, after: str = "") -> Callable[[re.Match[str]], str | None]:
    """Make "before + what is denied + after", where {name} stands for a group of the match."""

    def make(match: re.Match[str]) -> str | None:
        phrase = _deny(match["x"])
        return None if phrase is None else before.format(**match.groupdict()) + phrase + after.format(**match.groupdict())

    return make


def _not_seen(match: re.Match[str]) -> str:
    affirmed = _affirm(match["x"], article=True)
    be = {"is": "are", "was": "were"}.get(match["be"], match["be"]) if re.search(r"\band\b", affirmed) else match["be"]
    return f"{affirmed} {be} {match['seen']}{match['rest'] or ''}"


def _tail(match: re.Match[str]) -> str:
    return match["rest"] or ""


_X = r"(?P<x>.+?)"
_REST = rf"(?P<rest>(?: {_PLACE}\b.*)?)"
_FRAMES = [
    # denied -> affirmed
    _frame(r"(?P<t>there (?:is|are|was|were)) (?:no|not any) (?P<e>evidence|signs?|suggestion) of " + _X,
           lambda m: f"{m['t']} {m['e'].lower()} of {_affirm(m['x'], article=False)}"),
    _frame(r"(?:no|without(?: any)?) (?P<e>evidence|signs?) of " + _X + rf"(?: {_BE} {_SEEN})?",
           lambda m: f"{m['e'].lower()} of {_affirm(m['x'], article=False)}"),
    _frame(r"(?P<t>there (?:is|are|was|were)) (?:no|not any) " + _X + rf"(?: {_SEEN})?",
           lambda m: f"{m['t']} {_affirm(m['x'], article=m['t'].endswith(('is', 'was')))}"),
    _frame(rf"no {_X} (?P<be>{_BE}|can be) (?P<seen>{_SEEN}){_REST}", _not_seen),
    _frame(rf"no {_X} {_SEEN}{_REST}", lambda m: _affirm(m["x"], article=False) + _tail(m)),
    _frame(rf"(?:no|without(?: any)?) {_X}", lambda m: _affirm(m["x"], article=False)),
    _frame(rf"negative for {_X}", lambda m: f"positive for {_affirm(m['x'], article=False)}"),
    _frame(rf"absence of {_X}", lambda m: f"presence of {_affirm(m['x'], article=False)}"),
    _frame(rf"(?P<s>(?:the |both )?(?:\w+ )?lungs?) (?:is|are) (?:clear|free) of {_X}",
           lambda m: f"{m['s']} show{'' if m['s'].lower().endswith('lungs') else 's'} {_affirm(m['x'], article=False)}"),
    _frame(rf"(?P<x>[\w,/\- ]+?) (?P<be>{_BE}) not (?P<seen>{_SEEN}){_REST}", _not_seen),
    _frame(rf"(?P<x>[\w,/\- ]+?) (?P<be>{_BE}) absent", lambda m: f"{m['x']} {m['be']} present"),
    _frame(rf"(?P<x>[\w/\- ]+?) (?P<be>{_BE}) not (?P<d>{_DEGREE}{_STATE_WORD}|{_NORMAL_WORD})",
           lambda m: f"{m['x']} {m['be']} {m['d']}"),
    _frame(r"(?P<x>the (?:image|study|radiograph|examination|film|chest)) does not (?P<v>show|demonstrate) (?P<y>.+)",
           lambda m: f"{m['x']} {m['v']}s {_affirm(m['y'], article=True)}"),
    _frame(r"we do not see (?P<y>.+)", lambda m: f"we see {_affirm(m['y'], article=True)}"),
    # affirmed -> denied
    _frame(rf"(?P<t>there {_BE}) (?P<e>evidence|signs?) of {_X}", lambda m: f"{m['t']} no {m['e']} of {_lower_first(m['x'])}"),
    _frame(rf"(?P<e>evidence|signs?) of {_X}", lambda m: f"no {m['e'].lower()} of {m['x']}"),
    _frame(rf"positive for {_X}", lambda m: f"negative for {m['x']}"),
    _frame(rf"presence of {_X}", _denied("absence of ")),
    _frame(rf"(?P<t>there {_BE}) {_X}", _denied("{t} no ")),
    _frame(rf"(?P<x>[\w/\- ]+?) (?P<be>{_BE}) (?P<seen>{_SEEN}){_REST}", _denied("no ", " {be} {seen}{rest}")),
    _frame(rf"(?P<x>[\w/\- ]+?) (?P<be>{_BE}) {_DEGREE}(?P<d>{_STATE_WORD})", lambda m: f"{m['x']} {m['be']} not {m['d']}"),
    _frame(rf"(?P<x>[\w/\- ]+?) (?P<be>{_BE}) (?P<d>{_NORMAL_WORD})", lambda m: f"{m['x']} {m['be']} not {m['d']}"),
    _frame(r"we see (?P<x>.+)", _denied("we do not see ")),
    _frame(r"(?P<s>the (?:image|study|radiograph)) shows (?P<x>.+)", _denied("{s} does not show ")),
    _frame(r"normal (?P<x>(?:heart|cardiac|mediastinal|cardiomediastinal|chest)[\w/\- ]*)", lambda m: f"abnormal {m['x']}"),
    _frame(r"abnormal (?P<x>(?:heart|cardiac|mediastinal|cardiomediastinal|chest)[\w/\- ]*)", lambda m: f"normal {m['x']}"),
    _frame(r"(?P<x>[\w/\- ]+)", _denied("no ")),
]
