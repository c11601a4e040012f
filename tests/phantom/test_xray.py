"""Projection and rendering: geometry against closed forms, no trace of a finding outside its rays."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from glint.phantom.anatomy import Anatomy, sample_anatomy
from glint.phantom.base import LABELS, load_base
from glint.phantom.physics import densities, spectrum, transmission
from glint.phantom.projection import Pose, path_mm, pixel_mm
from glint.phantom.xray import Calibration, Exposure, calibrate, project_mask, render, sample_exposure

SIZE = 192
SPACING = (2.0, 3.0, 2.0)
SHAPE = (90, 60, 80)
EXPOSURE = Exposure(Pose("PA", 1800.0))


def ball(centre: tuple[float, float, float], radius_mm: float) -> torch.Tensor:
    """(Z, Y, X) bool ball on the test grid; centre in mm from the middle of the volume."""
    axes = [(torch.arange(n) - (n - 1) / 2) * s - c for n, s, c in zip(SHAPE, SPACING, centre, strict=True)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    return z**2 + y**2 + x**2 <= radius_mm**2


def middle(image: torch.Tensor) -> tuple[float, float]:
    """(row, column) centre of mass in pixels from the image's middle."""
    at = torch.arange(SIZE) - (SIZE - 1) / 2
    total = image.sum()
    return float((image.sum(1) * at).sum() / total), float((image.sum(0) * at).sum() / total)


@given(
    st.sampled_from(["PA", "AP"]),
    st.floats(900, 2000),
    st.floats(-50, 50),
    st.tuples(st.floats(-40, 40), st.floats(-40, 40)),
)
@settings(max_examples=25, deadline=None)
def test_path_mm__a_ball_lands_where_the_ray_says(
    view: str, sid: float, y: float, zx: tuple[float, float]
) -> None:
    pose = Pose(view, sid, gap_mm=20)  # pyright: ignore[reportArgumentType]
    path = path_mm(ball((zx[0], y, zx[1]), 14), SPACING, pose, SIZE)
    half = (SHAPE[1] - 1) * SPACING[1] / 2
    to_detector = half + 20 + (y if view == "PA" else -y)
    magnification = sid / (sid - to_detector)
    step = pixel_mm(SHAPE, SPACING, pose, SIZE)
    row, column = middle(path)
    assert row * step == pytest.approx(-zx[0] * magnification, abs=1.0)
    assert column * step == pytest.approx(zx[1] * magnification, abs=1.0)
    volume = float(path.sum()) * (step / magnification) ** 2
    assert volume == pytest.approx(4 / 3 * math.pi * 14**3, rel=0.08)
    assert float(path.max()) == pytest.approx(28, abs=4)


@pytest.mark.parametrize(("view", "sign"), [("PA", 1), ("AP", -1)])
def test_path_mm__what_is_near_the_focus_is_larger(view: str, sign: int) -> None:
    pose = Pose(view, 1000.0)  # pyright: ignore[reportArgumentType]
    back, front = (path_mm(ball((0, y, 0), 14), SPACING, pose, SIZE) > 2 for y in (55.0, -55.0))
    assert sign * (int(back.sum()) - int(front.sum())) > 0


def test_path_mm__turning_moves_front_and_back_apart() -> None:
    pose = Pose("PA", 1800.0, turn=0.1)
    back, front = (middle(path_mm(ball((0, y, 0), 14), SPACING, pose, SIZE))[1] for y in (50.0, -50.0))
    step = pixel_mm(SHAPE, SPACING, pose, SIZE)
    # Column = (x + turn * y) * magnification: 100 mm apart in y is 10 mm apart in x.
    assert (back - front) * step == pytest.approx(10 * 1.06, abs=1.5)


def test_path_mm__empty_mask_is_zero() -> None:
    assert path_mm(torch.zeros(SHAPE, dtype=torch.bool), SPACING, EXPOSURE.pose, SIZE).sum() == 0


def test_transmission__follows_beer_lambert_and_hardens() -> None:
    for kvp in (70, 100, 125):
        weights = [w for w, _, _ in spectrum(kvp)]
        assert sum(weights) == pytest.approx(1)
        water = torch.tensor([0.0, 1.0, 10.0, 20.0])[None]
        out = transmission(torch.stack([water, torch.zeros_like(water)]), kvp)[0]
        assert out[0] == pytest.approx(1)
        effective = -torch.log(out[1:]) / water[0, 1:]
        assert (effective.diff() < 0).all(), "a hardened beam is attenuated less per cm"
        assert 0.16 < effective[-1] < 0.27, "water at 40 to 90 keV"
        bone = transmission(torch.stack([torch.zeros_like(water), water]), kvp)[0]
        assert bone[1] < out[1]


def test_densities__water_air_and_bone() -> None:
    soft, bone = densities(torch.tensor([-1000.0, 0.0, 1500.0]).view(1, 1, 3))
    assert soft.flatten().tolist() == pytest.approx([0, 1, 0])
    assert bone.flatten().tolist() == pytest.approx([0, 0, 1.9])


@pytest.fixture(scope="module")
def patient() -> Anatomy:
    return sample_anatomy(load_base(), 11)


@pytest.fixture(scope="module")
def exposure() -> Exposure:
    plain = sample_exposure(torch.Generator().manual_seed(2), "PA")
    return replace(plain, shutter="none", marker="")


@pytest.fixture(scope="module")
def calibration(patient: Anatomy, exposure: Exposure) -> Calibration:
    return calibrate(patient.hu, patient.spacing_mm, exposure, SIZE)


def label_mask(patient: Anatomy, *names: str) -> torch.Tensor:
    return torch.isin(patient.labels, torch.tensor([LABELS[name] for name in names], dtype=torch.uint8))


def test_render__radiographic_orientation(
    patient: Anatomy, exposure: Exposure, calibration: Calibration
) -> None:
    image = render(patient.hu, patient.spacing_mm, exposure, SIZE, None, calibration)
    assert image.dtype == torch.int32
    assert 0 <= int(image.min()) < int(image.max()) <= 4095
    masks = {
        name: project_mask(label_mask(patient, *names), patient.spacing_mm, exposure, SIZE)
        for name, names in {
            "heart": ("heart",),
            "liver": ("liver",),
            "trachea": ("trachea",),
            "spine": ("vertebrae",),
            "left": ("lung_upper_lobe_left", "lung_lower_lobe_left"),
            "right": ("lung_upper_lobe_right", "lung_lower_lobe_right"),
        }.items()
    }
    at = {name: middle(mask.float()) for name, mask in masks.items()}
    assert at["heart"][1] > at["spine"][1], "heart on the image's right"
    assert at["liver"][1] < at["spine"][1], "liver on the image's left"
    assert at["liver"][0] > at["trachea"][0], "head up"
    assert at["left"][1] > at["right"][1]
    lung = (masks["left"] | masks["right"]) & ~masks["heart"] & ~masks["spine"] & ~masks["liver"]
    assert image[masks["heart"]].float().mean() > image[lung].float().mean() + 800, "dense is bright"


def test_render__same_generator_same_image(
    patient: Anatomy, exposure: Exposure, calibration: Calibration
) -> None:
    def once(seed: int) -> torch.Tensor:
        noise = torch.Generator().manual_seed(seed)
        return render(patient.hu, patient.spacing_mm, exposure, SIZE, noise, calibration)

    assert torch.equal(once(1), once(1))
    assert not torch.equal(once(1), once(2))


@pytest.mark.parametrize("noise", [None, 5])
def test_render__a_finding_shows_only_where_rays_cross_it(
    patient: Anatomy, exposure: Exposure, calibration: Calibration, noise: int | None
) -> None:
    lung = label_mask(patient, "lung_lower_lobe_right").nonzero()
    centre = lung[len(lung) // 2]
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) for n in patient.hu.shape), indexing="ij"), dim=-1)
    away = ((grid - centre) * torch.tensor(patient.spacing_mm)).norm(dim=-1)
    inside = away < 15
    hu = torch.where(inside, torch.tensor(20.0), patient.hu)

    def shot(volume: torch.Tensor) -> torch.Tensor:
        generator = None if noise is None else torch.Generator().manual_seed(noise)
        return render(volume, patient.spacing_mm, exposure, SIZE, generator, calibration)

    change = (shot(hu) - shot(patient.hu)).abs()
    mask = project_mask(inside, patient.spacing_mm, exposure, SIZE)
    near = F.max_pool2d(mask[None].float(), 9, 1, 4)[0] > 0
    assert mask.sum() > 100
    assert (change[mask] > 0).float().mean() > 0.95
    assert int(change[~near].max()) == 0
    assert change[mask].float().mean() > 40


def test_calibrate__projecting_the_difference_equals_projecting_the_whole(
    patient: Anatomy, exposure: Exposure, calibration: Calibration
) -> None:
    hu = patient.hu.clone()
    hu[80:110, 20:40, 60:90] += 300
    by_difference = render(hu, patient.spacing_mm, exposure, SIZE, None, calibration)
    whole = calibrate(hu, patient.spacing_mm, exposure, SIZE)
    direct = render(
        hu, patient.spacing_mm, exposure, SIZE, None, replace(calibration, hu=hu, areal=whole.areal)
    )
    assert int((by_difference - direct).abs().max()) <= 2


def test_project_mask__nothing_under_the_shutter() -> None:
    everything = torch.ones(SHAPE, dtype=torch.bool)
    shut = replace(EXPOSURE, shutter="black", margins=(0.1, 0.1, 0.2, 0.2))
    mask = project_mask(everything, SPACING, shut, SIZE)
    assert not mask[: SIZE // 12].any()
    assert not mask[:, : SIZE // 6].any()
    assert mask[SIZE // 2, SIZE // 2]


@given(st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_sample_exposure__is_a_function_of_the_seed(seed: int) -> None:
    first, second = (sample_exposure(torch.Generator().manual_seed(seed)) for _ in range(2))
    assert first == second
    assert first.view in ("PA", "AP")
    assert sample_exposure(torch.Generator().manual_seed(seed), "AP").view == "AP"
    assert (first.pose.sid_mm > 1500) == (first.view == "PA")
