"""Rewrites a simple sentence into its opposite: "No pleural effusion." <-> "Pleural effusion."

Only sentences of one clause with one well-known frame are rewritten. The caller checks the result by reading
it again (semantics.flip_polarity), so a rewrite that does not come out as the opposite is given up.
"""

import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files

import yaml

_FLAGS = re.IGNORECASE
_BE = r"(?:is|are|was|were)"


@cache
def _words(name: str) -> str:
    """Return a word list of polarity.yaml as one group of alternatives."""
    text = files("glint.text").joinpath("polarity.yaml").read_text(encoding="utf-8")
    lists: dict[str, str] = yaml.safe_load(text)
    return "(?:" + "|".join(lists[name].split(" | ")) + ")"


_SEEN, _PLACE, _STATE_WORD = _words("seen"), _words("places"), _words("states")
_NORMAL_WORD = _words("normal") + "(?: in (?:size|appearance|contour|caliber))?"
_DEGREE = "(?:" + _words("degrees") + " )?"
_MEASURE = r"(?:(?:about |approximately )?\d+(?:\.\d+)?(?:\s*x\s*\d+(?:\.\d+)?)*[ -]?(?:mm|cm))"
_AMOUNT = rf"(?:(?:{_words('degrees')} )?{_words('amounts')}|{_MEASURE})"
_LEADING_AMOUNTS = re.compile(rf"^(?:{_AMOUNT}(?:-to-| to |/|, | and )(?={_AMOUNT}\b)|{_AMOUNT}\s+)+", _FLAGS)
_NO_HEDGE = re.compile(rf"^{_words('no_hedges')}\s+", _FLAGS)
_COUNT_NOUN = re.compile(_words("count_nouns") + "$", _FLAGS)
_HEAD = re.compile(rf"^[\w/,\- ]*?\b{_words('nouns')}(?: (?:{_PLACE})\b[\w/,\- ]*)?$", _FLAGS)
_ARTICLE = re.compile(r"(?:an?|the)\s", _FLAGS)
_VERB = re.compile(rf"\b{_words('verbs')}\b", _FLAGS)
_FORBIDDEN = re.compile(rf"\b{_words('forbidden')}\b|_{{2,}}|[;:?()]", _FLAGS)


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
    if article and single and _COUNT_NOUN.search(head) and not _ARTICLE.match(phrase):
        return ("an " if phrase[:1].lower() in "aeio" else "a ") + _lower_first(phrase)
    return _lower_first(phrase)


def _deny(phrase: str) -> str | None:
    """Turn what was affirmed into what is denied: without its amount, "A and B" -> "A or B"."""
    if _VERB.search(phrase):
        return None  # not a mere noun phrase
    bare = _LEADING_AMOUNTS.sub("", phrase)
    parts = [_LEADING_AMOUNTS.sub("", part) for part in re.split(r"\s+and\s+", bare)]
    if not all(_HEAD.match(part) for part in parts):
        return None
    return _lower_first(" or ".join(parts))


def _lower_first(phrase: str) -> str:
    first = phrase.split(" ", 1)[0]
    return phrase if first.isupper() and len(first) > 1 else phrase[:1].lower() + phrase[1:]


def _frame(
    pattern: str, make: Callable[[re.Match[str]], str | None]
) -> tuple[re.Pattern[str], Callable[[re.Match[str]], str | None]]:
    return re.compile(pattern + "$", _FLAGS), make


def _denied(before: str, after: str = "") -> Callable[[re.Match[str]], str | None]:
    """Make "before + what is denied + after", where {name} stands for a group of the match."""

    def make(match: re.Match[str]) -> str | None:
        phrase = _deny(match["x"])
        return (
            None
            if phrase is None
            else before.format(**match.groupdict()) + phrase + after.format(**match.groupdict())
        )

    return make


def _not_seen(match: re.Match[str]) -> str:
    affirmed = _affirm(match["x"], article=True)
    be = (
        {"is": "are", "was": "were"}.get(match["be"], match["be"])
        if re.search(r"\band\b", affirmed)
        else match["be"]
    )
    return f"{affirmed} {be} {match['seen']}{match['rest'] or ''}"


def _tail(match: re.Match[str]) -> str:
    return match["rest"] or ""


_X = r"(?P<x>.+?)"
_REST = rf"(?P<rest>(?: {_PLACE}\b.*)?)"
_FRAMES = [
    # denied -> affirmed
    _frame(
        r"(?P<t>there (?:is|are|was|were)) (?:no|not any) (?P<e>evidence|signs?|suggestion) of " + _X,
        lambda m: f"{m['t']} {m['e'].lower()} of {_affirm(m['x'], article=False)}",
    ),
    _frame(
        r"(?:no|without(?: any)?) (?P<e>evidence|signs?) of " + _X + rf"(?: {_BE} {_SEEN})?",
        lambda m: f"{m['e'].lower()} of {_affirm(m['x'], article=False)}",
    ),
    _frame(
        r"(?P<t>there (?:is|are|was|were)) (?:no|not any) " + _X + rf"(?: {_SEEN})?",
        lambda m: f"{m['t']} {_affirm(m['x'], article=m['t'].endswith(('is', 'was')))}",
    ),
    _frame(rf"no {_X} (?P<be>{_BE}|can be) (?P<seen>{_SEEN}){_REST}", _not_seen),
    _frame(rf"no {_X} {_SEEN}{_REST}", lambda m: _affirm(m["x"], article=False) + _tail(m)),
    _frame(rf"(?:no|without(?: any)?) {_X}", lambda m: _affirm(m["x"], article=False)),
    _frame(rf"negative for {_X}", lambda m: f"positive for {_affirm(m['x'], article=False)}"),
    _frame(rf"absence of {_X}", lambda m: f"presence of {_affirm(m['x'], article=False)}"),
    _frame(
        rf"(?P<s>(?:the |both )?(?:\w+ )?lungs?) (?:is|are) (?:clear|free) of {_X}",
        lambda m: (
            f"{m['s']} show{'' if m['s'].lower().endswith('lungs') else 's'} {_affirm(m['x'], article=False)}"
        ),
    ),
    _frame(rf"(?P<x>[\w,/\- ]+?) (?P<be>{_BE}) not (?P<seen>{_SEEN}){_REST}", _not_seen),
    _frame(rf"(?P<x>[\w,/\- ]+?) (?P<be>{_BE}) absent", lambda m: f"{m['x']} {m['be']} present"),
    _frame(
        rf"(?P<x>[\w/\- ]+?) (?P<be>{_BE}) not (?P<d>{_DEGREE}{_STATE_WORD}|{_NORMAL_WORD})",
        lambda m: f"{m['x']} {m['be']} {m['d']}",
    ),
    _frame(
        r"(?P<x>the (?:image|study|radiograph|examination|film|chest)) does not (?P<v>show|demonstrate) (?P<y>.+)",
        lambda m: f"{m['x']} {m['v']}s {_affirm(m['y'], article=True)}",
    ),
    _frame(r"we do not see (?P<y>.+)", lambda m: f"we see {_affirm(m['y'], article=True)}"),
    # affirmed -> denied
    _frame(
        rf"(?P<t>there {_BE}) (?P<e>evidence|signs?) of {_X}",
        lambda m: f"{m['t']} no {m['e']} of {_lower_first(m['x'])}",
    ),
    _frame(rf"(?P<e>evidence|signs?) of {_X}", lambda m: f"no {m['e'].lower()} of {m['x']}"),
    _frame(rf"positive for {_X}", lambda m: f"negative for {m['x']}"),
    _frame(rf"presence of {_X}", _denied("absence of ")),
    _frame(rf"(?P<t>there {_BE}) {_X}", _denied("{t} no ")),
    _frame(
        rf"(?P<x>[\w/\- ]+?) (?P<be>{_BE}) (?P<seen>{_SEEN}){_REST}", _denied("no ", " {be} {seen}{rest}")
    ),
    _frame(
        rf"(?P<x>[\w/\- ]+?) (?P<be>{_BE}) {_DEGREE}(?P<d>{_STATE_WORD})",
        lambda m: f"{m['x']} {m['be']} not {m['d']}",
    ),
    _frame(
        rf"(?P<x>[\w/\- ]+?) (?P<be>{_BE}) (?P<d>{_NORMAL_WORD})",
        lambda m: f"{m['x']} {m['be']} not {m['d']}",
    ),
    _frame(r"we see (?P<x>.+)", _denied("we do not see ")),
    _frame(r"(?P<s>the (?:image|study|radiograph)) shows (?P<x>.+)", _denied("{s} does not show ")),
    _frame(
        r"normal (?P<x>(?:heart|cardiac|mediastinal|cardiomediastinal|chest)(?: [\w/\-]+){0,3})",
        lambda m: f"abnormal {m['x']}",
    ),
    _frame(
        r"abnormal (?P<x>(?:heart|cardiac|mediastinal|cardiomediastinal|chest)(?: [\w/\-]+){0,3})",
        lambda m: f"normal {m['x']}",
    ),
    _frame(r"(?P<x>[\w/\- ]+)", _denied("no ")),
]
