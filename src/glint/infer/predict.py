"""Answer queries on one radiograph: letterbox, one encode, maps back to the native grid."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glint.config.schema import GlintConfig
from glint.errors import UsageError
from glint.infer.maps import box_around, native_map, peak_point, smoothing_of
from glint.io.letterbox import letterbox
from glint.io.radiograph import Radiograph
from glint.results import Answer, Answers, Task

Grid = NDArray[np.float32]
MAX_QUERIES = 256
MAX_QUERY_CHARACTERS = 500


class Prediction(Protocol):
    """What a model answers: scores, maps and evidence in [0, 1], and the token grid."""

    @property
    def scores_SB(self) -> Tensor: ...  # noqa: D102, N802
    @property
    def maps_SBP(self) -> Tensor: ...  # noqa: D102, N802
    @property
    def evidence_SBP(self) -> Tensor: ...  # noqa: D102, N802
    @property
    def grid(self) -> tuple[int, ...]: ...  # noqa: D102


class Model(Protocol):
    """What inference needs of a model; glint.model.glint.GlintModel is one."""

    @property
    def cfg(self) -> GlintConfig: ...  # noqa: D102

    def predict(self, images: Tensor, valid: Tensor | None, queries: list[str]) -> Prediction:
        """Score and localise S queries on B images of shape (B, 1, Y, X) in [0, 1]."""
        ...


def check_queries(queries: Sequence[str]) -> list[str]:
    """Return the queries without outer blanks.

    Raises:
        UsageError: None, too many, or one that is empty, too long or holds control characters.
    """
    if isinstance(queries, str):
        raise UsageError("the queries are one text", expected="a list of texts", fix=f"write [{queries!r}]")
    if not queries:
        raise UsageError("there is no query", expected="at least one text", fix='add -q "There is ..."')
    if len(queries) > MAX_QUERIES:
        raise UsageError(f"{len(queries)} queries are too many", expected=f"at most {MAX_QUERIES} at once")
    cleaned: list[str] = []
    for number, query in enumerate(queries, start=1):
        where = f"query {number}"
        text = query.strip()
        if not text:
            raise UsageError("a query is empty", where=where, expected="a text such as 'There is a nodule.'")
        if len(text) > MAX_QUERY_CHARACTERS:
            raise UsageError(
                f"a query has {len(text)} characters",
                where=where,
                expected=f"at most {MAX_QUERY_CHARACTERS}: a sentence, not a report",
                fix="ask sentence by sentence",
            )
        if not text.isprintable():
            raise UsageError(
                "a query holds control characters", where=where, expected="plain text in one line"
            )
        cleaned.append(text)
    return cleaned


def check_threshold(threshold: float) -> None:
    """Refuse a mask threshold outside of 0 to 1.

    Raises:
        UsageError: Out of range.
    """
    if not 0 < threshold < 1:
        raise UsageError(
            f"the threshold is {threshold}",
            where="threshold",
            expected="a number between 0 and 1 (0.5 is fixed)",
        )


def predict(
    model: Model,
    radiograph: Radiograph,
    queries: Sequence[str],
    *,
    task: Task = "segment",
    threshold: float = 0.5,
    model_name: str = "",
    device: str = "cpu",
) -> Answers:
    """Answer queries on one radiograph; the image is encoded once however many queries there are.

    Args:
        model: The model.
        radiograph: The image.
        queries: Free texts.
        task: "classify" gives scores; "ground" and "segment" give points, boxes and masks, too.
        threshold: Mask = map > threshold.
        model_name: How the answers name the model.
        device: Where the model is.

    Raises:
        UsageError: Bad queries or threshold.
    """
    texts = check_queries(queries)
    check_threshold(threshold)
    size = model.cfg.data.size_px
    square, fit = letterbox(radiograph.pixels, size)
    stride = token_stride(model, size)
    images = torch.from_numpy(square)[None, None].to(device)
    valid = None if stride is None else torch.from_numpy(fit.valid_patches(stride))[None].to(device)
    with torch.inference_mode():
        found = model.predict(images, valid, texts)
    maps, evidence = (
        part.float().cpu()[:, 0].reshape(len(texts), *found.grid).numpy()
        for part in (found.maps_SBP, found.evidence_SBP)
    )
    scores = found.scores_SB.float().cpu()[:, 0].tolist()
    smoothing = smoothing_of(model.cfg.align.spread)
    points = [None if task == "classify" else peak_point(weight, fit, smoothing) for weight in evidence]
    results = tuple(
        _answer(text, score, native_map(grid, fit), point, threshold)
        for text, score, grid, point in zip(texts, scores, maps, points, strict=True)
    )
    return Answers(task, str(radiograph.source), model_name, threshold, results, radiograph)


def token_stride(model: Model, size_px: int) -> int | None:
    """Return the pixels per token of a model's image encoder, or None when it does not say."""
    patch = getattr(getattr(model, "vision", None), "patch", None)
    return patch[-1] if isinstance(patch, tuple) and size_px % patch[-1] == 0 else None


def _answer(text: str, score: float, heat: Grid, point: tuple[int, int] | None, threshold: float) -> Answer:
    """Make mask and box of a map on the native grid (Y, X); a classification, which has no point, needs none."""
    if point is None:
        return Answer(text, score, heat=heat)
    mask = heat > threshold
    return Answer(text, score, point, box_around(heat, point), int(mask.sum()), mask, heat)
