"""One study, thousands of queries: scores as they stream by, the best kept, maps of those only."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from glint.errors import UsageError
from glint.ops.chunked import maps
from glint.ops.pool import Kernel, gated_pool
from glint.ops.reference import GateInputs, Pool


@dataclass(frozen=True, slots=True)
class TopQueries:
    """The K best queries of a study, best first; K is smaller than asked for if there were fewer queries.

    Attributes:
        index: (K,) int64 places in the stream.
        scores: (K,) pooled similarity.
        mass: (K,) gate mass in patches.
        gate: (K, P) gates.
        cosine: (K, P) cosines of query and patch.
    """

    index: Tensor
    scores: Tensor
    mass: Tensor
    gate: Tensor
    cosine: Tensor


@torch.inference_mode()
def top_queries(
    study: GateInputs,
    stream: Iterable[tuple[Tensor, Tensor]],
    count: int,
    pool: Pool = "null",
    kernel: Kernel = "fastest",
) -> TopQueries:
    """Score a stream of queries on one study; memory depends on `count` and on one part of the stream only.

    Args:
        study: One image (B = 1) and the scalars; its text and queries are not looked at.
        stream: Parts (text (n, D), queries (n, G)) of any n. A score of NaN counts as the best: it is not hidden.
        count: K, at least 1. Equal scores: the earlier query.
        pool: As in `gated_pool`.
        kernel: As in `gated_pool`.

    Raises:
        UsageError: If there is not exactly one image, count is not positive, or inputs do not fit.
    """
    if len(study.patches) != 1 or count < 1:
        raise UsageError(
            f"{len(study.patches)} images and the best {count} queries", expected="1 image, 1 query"
        )
    best = replace(study, text=study.text[:0], queries=study.queries[:0])
    scores, mass = (part[:, 0] for part in gated_pool(best, pool, kernel))
    index = torch.zeros(0, dtype=torch.int64, device=scores.device)
    seen = 0
    for text, queries in stream:
        new_scores, new_mass = (
            part[:, 0] for part in gated_pool(replace(study, text=text, queries=queries), pool, kernel)
        )
        places = torch.arange(seen, seen + len(text), device=index.device)
        seen += len(text)
        scores, mass, index = (
            torch.cat(pair) for pair in ((scores, new_scores), (mass, new_mass), (index, places))
        )
        keep = scores.argsort(descending=True, stable=True)[:count]
        best = replace(
            best, text=torch.cat((best.text, text))[keep], queries=torch.cat((best.queries, queries))[keep]
        )
        scores, mass, index = scores[keep], mass[keep], index[keep]
    return TopQueries(index, scores, mass, *maps(best, slice(None), 0))
