"""The page holds everything it shows and nothing that runs."""

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np

from glint.infer.examples import Question
from glint.infer.page import Section, hit, render_page
from glint.infer.predict import predict
from glint.io.radiograph import radiograph_from_array

EVIL = "<script>alert('x')</script> & \"quoted\""


class Tags(HTMLParser):
    """Collects tags and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.seen.append((tag, dict(attrs)))


def page(model: Any, losses: list[tuple[int, float]]) -> str:
    image = radiograph_from_array(np.random.default_rng(0).random((64, 64)))
    answers = predict(model, image, [EVIL, "b"])
    questions = (Question(EVIL, "present", np.ones((64, 64), bool)), Question("b", "absent"))
    return render_page("T<i>tle", [Section(EVIL, EVIL, answers, questions, EVIL)], losses)


def test_page__is_self_contained_and_escaped(model: Any) -> None:
    html = page(model, [(1, 3.0), (2, 2.0)])
    tags = Tags()
    tags.feed(html)
    names = {tag for tag, _ in tags.seen}
    assert not names & {"script", "link", "iframe", "i", "object", "form"}
    assert {"table", "svg"} <= names
    sources = [attributes["src"] or "" for tag, attributes in tags.seen if tag == "img"]
    assert len(sources) == 2
    assert all(source.startswith("data:image/") for source in sources)
    assert not any(name.startswith("on") for _, attributes in tags.seen for name in attributes)
    assert not re.search(r"https?://", html)
    assert "not a medical device" in html


def test_page__without_training_has_no_curve(model: Any) -> None:
    assert "<svg" not in page(model, [])


def test_hit__looks_into_the_true_mask(model: Any) -> None:
    pixels = np.full((64, 64), 0.1)
    pixels[8:24, 8:24] = 1.0
    (answer,) = predict(model, radiograph_from_array(pixels), ["a"])
    assert answer.point_px is not None
    mask = pixels > 0.5
    assert hit(answer, Question("a", "present", mask)) == "yes"
    assert hit(answer, Question("a", "present", ~mask)) == "no"
    assert hit(answer, Question("a", "absent")) == ""
