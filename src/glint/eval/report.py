"""Results of models as JSON-ready numbers: tracks with intervals, gaps within a model, differences between models."""

from collections.abc import Sequence
from typing import Any

from glint.eval import metrics, stats
from glint.eval.anatomy import STRUCTURES
from glint.eval.cases import present
from glint.eval.tracks import Evaluated, Splits, Track

COMPARED = ("auroc", "pointing", "dice_fixed", "dice_val", "miou_fixed", "contradiction")
GAPS = (
    ("new wording", "standard"),
    ("new combinations", "standard"),
    ("new combinations only", "standard, same kinds"),
    ("sentences, new wording", "sentences"),
)


def report_model(result: Evaluated, splits: Splits) -> dict[str, Any]:
    """Return the JSON-ready results of one model."""
    kinds = result.test.kinds
    scores = result.test.answers["train"].scores[:, :, 0]
    return {
        "name": result.name,
        "source": result.source,
        "seconds": round(result.seconds, 1),
        "thresholds_from_val": result.thresholds.to_dict(kinds),
        "tracks": {title: _report_track(track) for title, track in result.tracks.items()},
        "gaps": _gaps(result.tracks),
        "reliability": _reliability(metrics.reliability(scores, result.test.present)),
        "findings": {
            split: dict(zip(kinds, present(cases, kinds).sum(0).tolist(), strict=True))
            for split, cases in splits.cases.items()
        },
        "structures": _structures(result),
    }


def _structures(result: Evaluated) -> dict[str, int]:
    found = result.test.anatomy
    return {} if found is None else dict(zip(STRUCTURES, found.shown.sum(0).tolist(), strict=True))


def _report_track(track: Track) -> dict[str, Any]:
    kinds = track.kinds
    shown = track.columns["macro"]
    return {
        metric: {
            **{name: stats.interval(each).to_dict() for name, each in track.averages(metric).items()},
            "per_finding": {kinds[k]: stats.interval(values[:, k]).to_dict() for k in shown},
        }
        for metric, values in track.metrics.items()
    }


def _reliability(found: metrics.Reliability) -> dict[str, Any]:
    return {
        "mean_score": [stats.finite(v) for v in found.centres],
        "observed": [stats.finite(v) for v in found.observed],
        "count": found.counts,
        "ece": stats.finite(found.ece),
        "brier": stats.finite(found.brier),
    }


def _gaps(tracks: dict[str, Track]) -> list[dict[str, Any]]:
    """Return how much each changed track differs from its reference, within one model."""
    return [
        {"track": changed, "reference": reference, "metric": metric, "average": average, **gap.to_dict()}
        for changed, reference in GAPS
        if changed in tracks and reference in tracks
        for metric, average, gap in _differences(tracks[changed], tracks[reference])
    ]


def compare(first: Evaluated, others: Sequence[Evaluated]) -> list[dict[str, Any]]:
    """Return paired differences first minus other on shared resamples."""
    return [
        {
            "model": first.name,
            "against": other.name,
            "track": title,
            "metric": metric,
            "average": average,
            **gap.to_dict(),
        }
        for other in others
        for title, track in first.tracks.items()
        if title != "standard, same kinds"
        for metric, average, gap in _differences(track, other.tracks[title])
    ]


def _differences(one: Track, two: Track) -> list[tuple[str, str, stats.Difference]]:
    return [
        (metric, average, stats.difference(mine, two.averages(metric)[average]))
        for metric in COMPARED
        if metric in one.metrics and metric in two.metrics
        for average, mine in one.averages(metric).items()
    ]
