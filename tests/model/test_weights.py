"""Opening weight files: what is refused, and how it is said."""

import json
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import save_file

from glint.errors import WeightsError
from glint.model.weights import fetch, open_weights


class Evil:
    """A pickle that would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code has run",))


def test_open_weights__plain_and_nested_checkpoints(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(3.0)}
    torch.save(tensors, tmp_path / "plain.pth")
    torch.save({"teacher": tensors, "epoch": 3}, tmp_path / "nested.pt")
    assert torch.equal(open_weights(str(tmp_path / "plain.pth")).tensors("teacher")["a"], tensors["a"])
    assert torch.equal(
        open_weights(str(tmp_path / "nested.pt")).tensors("model", "teacher")["a"], tensors["a"]
    )
    with pytest.raises(WeightsError, match=r"no tensors[\s\S]*one of: student"):
        open_weights(str(tmp_path / "nested.pt")).tensors("student")


def test_open_weights__shards_and_settings_of_a_hub_folder(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.ones(2)}, tmp_path / "model-00002-of-00002.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 6}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5]}))
    raw = open_weights(str(tmp_path))
    assert sorted(raw.tensors()) == ["a", "b"]
    assert (raw.config, raw.preprocessor) == ({"num_attention_heads": 6}, {"image_mean": [0.5]})


def test_open_weights__pickled_code_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a": torch.zeros(1), "x": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match=r"could run code[\s\S]*evil\.pth"):
        open_weights(str(tmp_path / "evil.pth"))
    assert "code has run" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors"])
def test_open_weights__truncated_files_are_named(tmp_path: Path, name: str) -> None:
    whole = tmp_path / f"whole{Path(name).suffix}"
    tensors = {"a": torch.rand(1000)}
    torch.save(tensors, whole) if name.endswith("pth") else save_file(tensors, whole)
    (tmp_path / name).write_bytes(whole.read_bytes()[:900])
    with pytest.raises(WeightsError, match=rf"damaged[\s\S]*{name}"):
        open_weights(str(tmp_path / name))


def test_open_weights__a_list_is_no_state_dict(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="no dictionary of tensors"):
        open_weights(str(tmp_path / "list.pth"))


def test_open_weights__a_folder_of_pickles_says_how_to_go_on(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"no safetensors[\s\S]*models convert"):
        open_weights(str(tmp_path))


RESPONSE = SimpleNamespace(headers={}, status_code=403, request=None, text="", url="")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (GatedRepoError("gated", response=RESPONSE), r"gated[\s\S]*accept the licence[\s\S]*HF_TOKEN"),  # type: ignore[arg-type]
        (RepositoryNotFoundError("no", response=RESPONSE), r"no such repository[\s\S]*check the name"),  # type: ignore[arg-type]
        (LocalEntryNotFoundError("offline"), r"not on this machine[\s\S]*HF_HUB_OFFLINE"),
    ],
)
def test_fetch__says_why_it_failed(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    def fail(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(WeightsError, match=message):
        fetch("facebook/dinov3-vits16-pretrain-lvd1689m")


def test_fetch__pins_the_revision_and_never_takes_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def remember(repository: str, **options: object) -> str:
        asked.update(options, repository=repository)
        return "/cache/snapshots/abc"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", remember)
    assert fetch("a/b@v2", offline=True).name == "abc"
    assert (asked["repository"], asked["revision"], asked["local_files_only"]) == ("a/b", "v2", True)
    assert asked["allow_patterns"] == ["*.json", "*.safetensors"]
