"""One self-contained HTML page: tables, overlays as data URIs, a training curve. No script, nothing fetched.

All text is escaped; a policy in the page forbids everything but its own style and pictures.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from PIL import Image

from glint.infer.examples import Question
from glint.io.picture import overlay
from glint.results import Answer, Answers

PANEL_PX = 640
NOTICE = (
    "Research software, not a medical device. The model was trained on X-rays computed from the CT of one "
    "patient, with findings and reports made by program; it was not validated on patients."
)
LEGEND = (
    "Orange: heat map, the more opaque the higher. Cyan: mask (map above the threshold). Yellow: box. "
    "White cross: point. Green: true outline, where it is known."
)
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 0 auto; padding: 1rem; }
.notice { border-left: .3rem solid #d9822b; padding: .2rem .8rem; }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: .8rem; }
figure { margin: 0; }
img { width: 100%; height: auto; display: block; background: #121214; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #8886; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
pre { white-space: pre-wrap; font: inherit; border-left: .2rem solid #8886; padding-left: .8rem; }
svg { max-width: 40rem; width: 100%; }
"""


@dataclass(frozen=True)
class Section:
    """One image on the page.

    Attributes:
        title: Heading.
        text: What it is.
        answers: What the model says.
        questions: The true answers, in the same order; empty when nobody knows.
        report: Text shown below, or "".
    """

    title: str
    text: str
    answers: Answers
    questions: tuple[Question, ...] = ()
    report: str = ""


@dataclass(frozen=True)
class ScanSection:
    """One CT on the page: a table, and all answers in one picture.

    Attributes:
        title: Heading.
        text: What it is.
        heads: Of the table.
        rows: Of the table, a row a query.
        picture: Three planes through each point.
        notes: What a reader should know.
    """

    title: str
    text: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    picture: Image.Image
    notes: tuple[str, ...] = ()


def render_page(
    title: str, sections: Sequence[Section | ScanSection], losses: Sequence[tuple[int, float]] = ()
) -> str:
    """Return the page.

    Args:
        title: Heading of the page.
        sections: One an image.
        losses: (step, loss) of a training run; its curve is left out when there are fewer than two.
    """
    body = "".join(_section(s) if isinstance(s, Section) else _scan_section(s) for s in sections)
    body += _training(losses) if len(losses) > 1 else ""
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta http-equiv='Content-Security-Policy' "
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f"<p class='notice'>{escape(NOTICE)}</p><p>{escape(LEGEND)}</p>{body}</body></html>\n"
    )


def _section(section: Section) -> str:
    truths: list[Question | None] = [*section.questions] or [None] * len(section.answers)
    pairs = list(zip(section.answers, truths, strict=True))
    notes = "".join(f"<p>Note: {escape(note)}.</p>" for note in section.answers.radiograph.notes)
    report = f"<h3>Report</h3><pre>{escape(section.report)}</pre>" if section.report else ""
    return (
        f"<h2>{escape(section.title)}</h2><p>{escape(section.text)}</p>{notes}"
        f"{_table(pairs, known=bool(section.questions))}<div class='row'>"
        + "".join(_figure(section.answers, answer, question) for answer, question in pairs)
        + f"</div>{report}"
    )


def _scan_section(section: ScanSection) -> str:
    notes = "".join(f"<p>Note: {escape(note)}.</p>" for note in section.notes)
    lines = [
        "<tr>"
        + "".join(_cell(text, head=n == 0, left=column == 0) for column, text in enumerate(row))
        + "</tr>"
        for n, row in enumerate([section.heads, *section.rows])
    ]
    return (
        f"<h2>{escape(section.title)}</h2><p>{escape(section.text)}</p>{notes}"
        f"<div class='wide'><table>{''.join(lines)}</table></div>"
        f"<figure><img alt='CT with the answers' src='{data_uri(section.picture)}'></figure>"
    )


def _table(pairs: Sequence[tuple[Answer, Question | None]], *, known: bool) -> str:
    heads = [
        "query",
        "truth",
        "score",
        "point [x, y]",
        "in the finding",
        "box [x0, y0, x1, y1]",
        "mask, pixels",
    ]
    hidden = set() if known else {"truth", "in the finding"}
    shown = [number for number, head in enumerate(heads) if head not in hidden]
    rows = [heads, *(_cells(answer, question) for answer, question in pairs)]
    lines = [
        "<tr>" + "".join(_cell(row[number], head=index == 0, left=number < 2) for number in shown) + "</tr>"
        for index, row in enumerate(rows)
    ]
    return f"<div class='wide'><table>{''.join(lines)}</table></div>"


def _cells(answer: Answer, question: Question | None) -> list[str]:
    return [
        answer.query,
        question.truth if question else "",
        f"{answer.score:.3f}",
        ", ".join(map(str, answer.point_px or ())),
        hit(answer, question),
        ", ".join(map(str, answer.box_xyxy_px or ())),
        "" if answer.mask_area_px is None else f"{answer.mask_area_px:,}",
    ]


def hit(answer: Answer, question: Question | None) -> str:
    """Return "yes" or "no": does the point lie in the true mask? "" when there is none."""
    if question is None or question.mask is None or answer.point_px is None:
        return ""
    x, y = answer.point_px
    return "yes" if question.mask[y, x] else "no"


def _cell(text: str, *, head: bool, left: bool) -> str:
    tag, style = ("th" if head else "td"), ("" if left else " class='n'")
    return f"<{tag}{style}>{escape(text)}</{tag}>"


def _figure(answers: Answers, answer: Answer, question: Question | None) -> str:
    panel = replace(answer.panel(question.mask if question else None), caption="")
    picture = overlay(answers.radiograph.pixels, [panel], max_side_px=PANEL_PX)
    alt = escape(f"X-ray with the answer to: {answer.query}", quote=True)
    caption = f"{escape(answer.query)}<br>score {answer.score:.2f}"
    return f"<figure><img alt='{alt}' src='{data_uri(picture)}'><figcaption>{caption}</figcaption></figure>"


def data_uri(picture: Image.Image) -> str:
    """Return a picture as a JPEG data URI."""
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _training(losses: Sequence[tuple[int, float]]) -> str:
    """Return the loss curve as inline SVG."""
    steps, values = zip(*losses, strict=True)
    low, high = min(values), max(values)
    span, last = (high - low) or 1.0, max(steps)
    points = " ".join(
        f"{40 + 540 * step / last:.1f},{20 + 140 * (high - value) / span:.1f}" for step, value in losses
    )
    return (
        "<h2>A short training run</h2><p>Another, tiny model, trained during the demo on a few new phantom studies: "
        f"its loss went from {values[0]:.2f} to {values[-1]:.2f} in {last} steps. It is not kept.</p>"
        "<svg viewBox='0 0 600 190' role='img' aria-label='training loss by step'>"
        f"<polyline fill='none' stroke='#d9822b' stroke-width='3' points='{points}'/>"
        f"<g font-size='13' fill='currentColor'><text x='0' y='24'>{high:.2f}</text>"
        f"<text x='0' y='164'>{low:.2f}</text><text x='40' y='184'>step 0</text>"
        f"<text x='540' y='184'>{last}</text></g></svg>"
    )
