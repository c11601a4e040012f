"""CT-FM: parity with MONAI's class, published size, refusals."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from glint.config.schema import VisionConfig
from glint.errors import ConfigError, WeightsError
from glint.model.vision.registry import build_vision
from glint.model.vision.segresnet import SegResNet, SegResNetArch

segresnet_ds = pytest.importorskip(
    "monai.networks.nets.segresnet_ds", reason="the extra `ct` is not installed"
)


def upstream(cls: str = "SegResEncoder") -> nn.Module:
    """Return a small network of the class of which CT-FM's published weights are an instance (lighter-zoo 0.1.3)."""
    torch.manual_seed(0)
    extra = {"out_channels": 3, "dsdepth": 2} if cls == "SegResNetDS" else {}
    net = getattr(segresnet_ds, cls)(in_channels=1, init_filters=4, blocks_down=(1, 2, 1, 1, 1), **extra)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.3, 1)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return net.eval()


@pytest.mark.parametrize("cls", ["SegResEncoder", "SegResNetDS"])
@pytest.mark.parametrize("stride", [4, 16])
@torch.no_grad()
def test_forward__is_that_of_upstream(cls: str, stride: int, tmp_path: Path) -> None:
    theirs = upstream(cls)
    save_file({k: v.clone() for k, v in theirs.state_dict().items()}, tmp_path / "model.safetensors")
    cfg = VisionConfig(name="ct-fm", init=str(tmp_path), arch={"token_stride": stride})
    net = build_vision(cfg).eval()
    hu = torch.randint(-1200, 2200, (1, 1, 16, 32, 48), generator=torch.Generator().manual_seed(1)).float()
    maps = getattr(theirs, "encoder", theirs)(((hu + 1024) / 3072).clamp(0, 1))
    out = net(hu)
    last = {4: 2, 16: 4}[stride]
    for found, expected in zip((*out.levels, out.tokens), maps[last - 2 : last + 1], strict=True):
        torch.testing.assert_close(found, expected.flatten(2).transpose(1, 2), rtol=1e-5, atol=1e-5)


def test_parameters__are_those_of_ct_fm() -> None:
    with torch.device("meta"):
        net = SegResNet(SegResNetArch())
    assert sum(p.numel() for p in net.parameters()) == 77_760_992
    assert net.width == 512


def test_adopt__names_what_is_wrong(tmp_path: Path) -> None:
    weights = {k: v.clone() for k, v in upstream().state_dict().items()}
    save_file({k: v for k, v in weights.items() if "layers.4" not in k}, tmp_path / "model.safetensors")
    cfg = VisionConfig(name="ct-fm", init=str(tmp_path), arch={"depths": [1, 2, 1, 1, 1]})
    with pytest.raises(WeightsError, match=r"missing \['net\.layers\.4"):
        build_vision(cfg)
    save_file({"conv1.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"no 3D conv_init[\s\S]*ct_fm_feature_extractor"):
        build_vision(cfg)


def test_build_vision__says_how_to_get_monai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai.networks.nets.segresnet_ds", None)
    with pytest.raises(ConfigError, match=r"MONAI, which is not installed[\s\S]*glint-radiology\[ct\]"):
        build_vision(VisionConfig(name="ct-fm"))


def test_build_vision__a_stride_that_the_stages_do_not_reach_is_named() -> None:
    with pytest.raises(ConfigError, match="token_stride 16 needs more than 4 stages"):
        build_vision(VisionConfig(name="ct-fm", arch={"depths": [1, 1, 1, 1]}))
