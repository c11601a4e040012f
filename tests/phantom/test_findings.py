"""Findings painted into a plain made-up chest: where they are, what they change, that they can be seen."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glint.phantom.anatomy import Anatomy
from glint.phantom.findings import INSERTERS, Inserted, can_host, insert
from glint.phantom.findings.common import LOBE_LABELS, box_of, lung, ramp, region, smooth_noise
from glint.phantom.findings.devices import draw_tube, smooth_path
from glint.phantom.labels import LABELS
from glint.phantom.schema import KINDS, Finding
from glint.phantom.xray import calibrate, project_mask, render, sample_exposure

SPACING_MM = (3.0, 4.0, 3.0)
SHAPE = (90, 60, 110)


def _ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> torch.Tensor:
    axes = [torch.arange(n) * s for n, s in zip(SHAPE, SPACING_MM, strict=True)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    return (
        ((z - centre[0]) / radii[0]) ** 2
        + ((y - centre[1]) / radii[1]) ** 2
        + ((x - centre[2]) / radii[2]) ** 2
    )


@pytest.fixture(scope="module")
def chest() -> Anatomy:
    """Two egg-shaped lungs, a heart, a trachea, a vein and clavicles in a block of soft tissue."""
    hu = torch.full(SHAPE, 40.0)
    labels = torch.full(SHAPE, LABELS["body"], dtype=torch.uint8)
    hu[:, :5], labels[:, :5] = -1000.0, 0
    hu[:, -4:], labels[:, -4:] = -1000.0, 0
    z = torch.arange(SHAPE[0])[:, None, None] * SPACING_MM[0]
    depth = torch.zeros(SHAPE)
    for side, centre_x in (("right", 95.0), ("left", 235.0)):
        share = _ellipsoid((135.0, 120.0, centre_x), (115.0, 75.0, 55.0))
        inside = share < 1
        hu[inside] = -850.0
        upper, lower = LABELS[f"lung_upper_lobe_{side}"], LABELS[f"lung_lower_lobe_{side}"]
        labels[inside & (z >= 150)] = upper
        labels[inside & (z < 150)] = lower
        if side == "right":
            labels[inside & (z < 150) & (z > 90)] = LABELS["lung_middle_lobe_right"]
        depth += torch.where(inside, (1 - share.sqrt()) * 55.0, torch.zeros(()))
    for name, centre, radii in (
        ("heart", (85.0, 90.0, 185.0), (45.0, 40.0, 50.0)),
        ("trachea", (215.0, 130.0, 165.0), (55.0, 8.0, 8.0)),
        ("superior_vena_cava", (160.0, 110.0, 150.0), (30.0, 7.0, 7.0)),
        ("clavicula_left", (252.0, 50.0, 230.0), (6.0, 6.0, 60.0)),
        ("clavicula_right", (252.0, 50.0, 100.0), (6.0, 6.0, 60.0)),
    ):
        inside = _ellipsoid(centre, radii) < 1
        labels[inside], hu[inside], depth[inside] = LABELS[name], 40.0, 0.0
    return Anatomy(hu, labels, depth, SPACING_MM, 0)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _finding(kind: str, severity: str = "moderate") -> Finding:
    place = KINDS[kind][0]
    side = place.split()[0] if place else {"cardiomegaly": "midline"}.get(kind, "left")
    return Finding(kind, side, place, severity)  # type: ignore[arg-type]


def _insert(chest: Anatomy, finding: Finding, seed: int = 0) -> Inserted:
    for attempt in range(5):
        inserted = insert(chest.hu, chest, finding, _generator(seed + 1000 * attempt))
        if inserted is not None:
            return inserted
    raise AssertionError(f"no room for {finding}")


def test_registry__holds_every_kind() -> None:
    assert set(INSERTERS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("severity", ["small", "moderate", "large"])
def test_insert__changes_exactly_the_mask(chest: Anatomy, kind: str, severity: str) -> None:
    before = chest.hu.clone()
    inserted = _insert(chest, _finding(kind, severity))
    changed = inserted.hu != chest.hu
    assert changed.any()
    assert torch.equal(chest.hu, before)
    if kind == "cardiomegaly":
        assert not (changed & ~inserted.mask).any()
        # More than the changed rim: the old heart belongs to the mask.
        assert (inserted.mask & region(chest, "heart")).sum() > 0.7 * region(chest, "heart").sum()
    else:
        assert torch.equal(changed, inserted.mask)


@pytest.mark.parametrize("kind", KINDS)
def test_insert__repeats_with_the_seed(chest: Anatomy, kind: str) -> None:
    first, second = (_insert(chest, _finding(kind), seed=3) for _ in range(2))
    other = _insert(chest, _finding(kind), seed=4)
    assert torch.equal(first.hu, second.hu)
    assert not torch.equal(first.hu, other.hu)


@pytest.mark.parametrize("kind", [k for k, places in KINDS.items() if places != ("",)])
def test_insert__stays_in_its_lobe_or_lung(chest: Anatomy, kind: str) -> None:
    for place in KINDS[kind]:
        side = "left" if place.startswith("left") else "right"
        inserted = _insert(chest, Finding(kind, side, place, "small"))
        home = region(chest, LOBE_LABELS[place])
        if kind in ("nodule", "mass"):  # a ball may cross a fissure, its centre may not
            assert (inserted.mask & home).sum() > 0.5 * inserted.mask.sum()
            home = lung(chest, side)
        assert not (inserted.mask & ~home).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("view", ["PA", "AP"])
def test_render__shows_the_finding_in_its_mask_and_nowhere_else(chest: Anatomy, kind: str, view: str) -> None:
    size_px, seed = 128, 5
    exposure = sample_exposure(_generator(2), view)  # type: ignore[arg-type]
    calibration = calibrate(chest.hu, SPACING_MM, exposure, size_px)
    inserted = _insert(chest, _finding(kind), seed=11)
    with_it = render(inserted.hu, SPACING_MM, exposure, size_px, _generator(seed), calibration)
    without = render(chest.hu, SPACING_MM, exposure, size_px, _generator(seed), calibration)
    difference = (with_it - without).abs().float()
    mask = project_mask(inserted.mask, SPACING_MM, exposure, size_px)
    near = torch.nn.functional.max_pool2d(mask[None].float(), 5, 1, 2)[0] > 0
    assert float(difference[~near].mean()) < 0.02 * float(difference[mask].mean())
    # 4095 grey levels: a twentieth of the range somewhere is visible above any noise of this phantom.
    assert float(difference[mask].quantile(0.95)) > 100


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("cardiomegaly", "pneumothorax")])
def test_insert__never_makes_tissue_lighter(chest: Anatomy, kind: str) -> None:
    assert (_insert(chest, _finding(kind)).hu >= chest.hu).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_insert__effusion_lies_low_and_climbs_laterally(chest: Anatomy, side: str) -> None:
    inserted = _insert(chest, Finding("pleural_effusion", side, "", "moderate"))  # type: ignore[arg-type]
    assert not (inserted.mask & ~lung(chest, side)).any()
    outline = inserted.mask.any(dim=1)
    inside = lung(chest, side).any(dim=1)
    columns = inside.any(dim=0).nonzero()[:, 0]
    top = torch.tensor([int(outline[:, x].nonzero().max()) if outline[:, x].any() else 0 for x in columns])
    lateral, middle = (top[-8:], top[10:20]) if side == "left" else (top[:8], top[-20:-10])
    assert lateral.max() > middle.max() + 2
    height = inside.any(dim=1).nonzero()[:, 0]
    assert outline.any(dim=1).nonzero().max() < height[0] + 0.75 * (height[-1] - height[0])


def test_insert__bilateral_effusion_is_on_both_sides(chest: Anatomy) -> None:
    mask = _insert(chest, Finding("pleural_effusion", "bilateral", "", "small")).mask
    assert (mask & lung(chest, "left")).any()
    assert (mask & lung(chest, "right")).any()


def test_insert__effusion_grows_with_severity(chest: Anatomy) -> None:
    sizes = [
        int(_insert(chest, Finding("pleural_effusion", "left", "", s)).mask.sum())  # type: ignore[arg-type]
        for s in ("small", "moderate", "large")
    ]
    assert sizes == sorted(sizes)
    assert sizes[2] > 3 * sizes[0]


def test_insert__pneumothorax_is_apical_air_with_a_line(chest: Anatomy) -> None:
    finding = Finding("pneumothorax", "right", "", "moderate")
    inserted = _insert(chest, finding)
    inside = lung(chest, "right")
    air = inserted.hu < chest.hu - 100
    line = inserted.hu > chest.hu + 100
    assert air.any()
    assert line.any()
    rows = inside.flatten(1).any(dim=1).nonzero()[:, 0]
    apex = slice(int(rows[-1]) - 8, int(rows[-1]) + 1)
    base = slice(int(rows[0]), int(rows[0]) + 8)
    assert air[apex].sum() > 0.5 * inside[apex].sum()
    assert not inserted.mask[base].any()
    # The line bounds the air on the inner side (towards the patient's left for the right lung).
    row = int(rows[-1]) - 15
    x = torch.arange(SHAPE[2]).float()
    mean_x = [float((m[row].any(dim=0) * x).sum() / m[row].any(dim=0).sum()) for m in (air, line)]
    assert mean_x[1] > mean_x[0]


def test_insert__cardiomegaly_widens_mostly_to_the_left(chest: Anatomy) -> None:
    inserted = _insert(chest, Finding("cardiomegaly", "midline", "", "large"))
    old, new = box_of(region(chest, "heart"), 0), box_of(inserted.mask, 0)
    assert old is not None
    assert new is not None
    left, right = new.x.stop - old.x.stop, old.x.start - new.x.start
    assert left > right
    assert left * SPACING_MM[2] > 8


def test_insert__nodule_has_its_size(chest: Anatomy) -> None:
    for size in (14.0, 20.0, 28.0):
        inserted = _insert(chest, Finding("nodule", "left", "left lower lobe", "moderate", size))
        volume = float(inserted.mask.sum()) * 36.0
        assert 0.45 < volume / (torch.pi / 6 * size**3) < 2.2
        assert inserted.finding.size_mm == size


def test_insert__returns_none_without_room(chest: Anatomy) -> None:
    tiny = Anatomy(chest.hu, chest.labels, chest.lung_depth_mm.clamp(max=3.0), SPACING_MM, 0)
    finding = Finding("nodule", "left", "left lower lobe", "large")
    assert insert(tiny.hu, tiny, finding, _generator(0)) is None


def test_can_host__false_when_the_structure_is_missing(chest: Anatomy) -> None:
    empty = Anatomy(chest.hu, torch.ones_like(chest.labels), chest.lung_depth_mm, SPACING_MM, 0)
    for kind in KINDS:
        assert can_host(chest, _finding(kind))
        assert not can_host(empty, _finding(kind))


def test_pacemaker__generator_and_lead_on_its_side(chest: Anatomy) -> None:
    for side, sign in (("left", 1), ("right", -1)):
        inserted = _insert(chest, Finding("pacemaker", side, "", "moderate"))  # type: ignore[arg-type]
        added = (inserted.hu - chest.hu).sum(dim=1)
        generator_x = float((added > 0.6 * added.max()).nonzero()[:, 1].float().mean()) * SPACING_MM[2]
        assert sign * (generator_x - 165.0) > 25
        assert (inserted.mask & region(chest, "heart")).any()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(40, 180)] * 3), min_size=2, max_size=5, unique=True),
    st.floats(1.5, 3.0),
)
def test_draw_tube__keeps_mass(points: list[tuple[float, float, float]], diameter: float) -> None:
    hu = torch.zeros(SHAPE)
    anatomy = Anatomy(hu, torch.zeros(SHAPE, dtype=torch.uint8), hu, SPACING_MM, 0)
    knots = [torch.tensor(p) for p in points]
    if min(float((a - b).norm()) for a, b in itertools.pairwise(knots)) < 10:
        return
    path = smooth_path(knots)
    drawn, changed = draw_tube(hu, anatomy, path, diameter, 3000.0)
    length = float((path[1:] - path[:-1]).norm(dim=1).sum())
    expected = 3000.0 * torch.pi / 4 * diameter**2 * length / 36.0
    # Faint voxels at the fringe are left out, so that the mask stays thin.
    assert 0.8 * expected < float(drawn.sum()) <= 1.001 * expected
    assert torch.equal(changed, drawn > 0)


def test_smooth_path__passes_through_its_knots() -> None:
    knots = [torch.tensor(p) for p in ([0.0, 0, 0], [30.0, 5, 0], [40.0, 40, 10])]
    path = smooth_path(knots)
    for knot in knots:
        assert float((path - knot).norm(dim=1).min()) < 1.0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(5, 30))
def test_smooth_noise__unit_spread_and_smooth(seed: int, correlation_mm: float) -> None:
    noise = smooth_noise((40, 30, 40), SPACING_MM, correlation_mm, _generator(seed))
    assert 0.3 < float(noise.std()) < 1.8
    step = (noise[:, :, 1:] - noise[:, :, :-1]).abs().mean()
    assert float(step) < 3.0 * SPACING_MM[2] / correlation_mm


@given(st.floats(-50, 50), st.floats(0.5, 20))
def test_ramp__rises_from_zero_to_one(distance: float, width: float) -> None:
    low, high = ramp(torch.tensor([distance, distance + 1.0]), width)
    assert 0 <= low <= high <= 1
    assert float(ramp(torch.tensor(0.0), width)) == 0.5
