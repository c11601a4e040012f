"""Sentence encoders of each family against the model itself; what of them learns; what cannot be opened."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from glint.config.schema import TextConfig
from glint.errors import ConfigError, WeightsError
from glint.model.folder import load_model
from glint.model.text import TextEncoder, pool
from glint.model.text_models import KNOWN, known, resolve_text

from . import text_folders as folders

SHORT, LONG = "No nodule.", "There is a small right pleural effusion in the left lung."


def text_config(folder: Path, **settings: Any) -> TextConfig:
    return TextConfig.model_validate({"name": str(folder), "adapter_hidden": 16} | settings)


def ids(encoder: TextEncoder, text: str) -> torch.Tensor:
    return torch.tensor([encoder.tokenizer(text)["input_ids"]])


FAMILIES: dict[str, tuple[str, Callable[[Path], Any], str, bool]] = {
    "cxr-bert": ("BiomedVLP-CXR-BERT-specialized", folders.write_cxr_bert, "cls", False),
    "mpnet": ("my-mpnet", folders.write_mpnet, "mean", True),
    "modernbert": ("BioClinical-ModernBERT-base", folders.write_modernbert, "mean", False),
    "qwen3": ("Qwen3-Embedding-0.6B", folders.write_qwen3, "last", True),
    "unknown": ("whatever", folders.write_bert, "mean", False),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_encode__equals_the_model_on_each_text_alone(family: str, tmp_path: Path) -> None:
    name, write, pooling, normalise = FAMILIES[family]
    net = write(tmp_path / name)
    encoder = TextEncoder(text_config(tmp_path / name)).train()
    assert (encoder.cfg.pooling, encoder.cfg.normalise) == (pooling, normalise)
    expected: list[torch.Tensor] = []
    for text in (SHORT, LONG):
        with torch.no_grad():
            hidden = net(input_ids=ids(encoder, text)).last_hidden_state[0]
        one = {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[pooling]
        expected.append(F.normalize(one, dim=0) if normalise else one)
    found = encoder.encode([SHORT, LONG])  # the short one is padded here; the MLP is the identity at first
    torch.testing.assert_close(found, torch.stack(expected), rtol=2e-3, atol=2e-3)  # the cache keeps halves
    assert not torch.allclose(found[0], found[1], atol=0.05)


def test_encode__padding_side_does_not_matter(tmp_path: Path) -> None:
    vectors: list[torch.Tensor] = []
    for side in ("left", "right"):
        folders.write_qwen3(tmp_path / side, side)
        encoder = TextEncoder(text_config(tmp_path / side, pooling="last", tuning="full"))
        padded = encoder.tokenizer([SHORT, LONG], padding=True)["attention_mask"][0]
        assert padded[0 if side == "left" else -1] == 0
        vectors.append(encoder.encode([SHORT, LONG]))
    torch.testing.assert_close(vectors[0], vectors[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("how", "row"), [("cls", [0, 2]), ("last", [1, 3])])
def test_pool__first_and_last_token_of_either_padding(how: str, row: list[int]) -> None:
    hidden = torch.arange(8.0).reshape(2, 4, 1)
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]])
    assert pool(hidden, mask, how).flatten().tolist() == [row[0], 4 + row[1]]
    assert pool(hidden, mask, "mean").flatten().tolist() == [0.5, 6.5]


def test_encode__longer_texts_are_cut(tmp_path: Path) -> None:
    net = folders.write_mpnet(tmp_path / "m")
    encoder = TextEncoder(text_config(tmp_path / "m"))
    assert encoder.cfg.max_tokens == 16  # sentence_bert_config.json
    text = "pleural effusion " * 20
    found = encoder.encode([text])[0]
    cut = torch.cat([ids(encoder, text)[:, :15], ids(encoder, text)[:, -1:]], 1)  # the last token is kept
    assert cut.shape == (1, 16)
    with torch.no_grad():
        expected = F.normalize(net(input_ids=cut).last_hidden_state[0].mean(0), dim=0)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(("family", "positions"), [("mpnet", 48), ("unknown", 48)])
def test_resolve_text__no_more_tokens_than_there_are_positions(
    family: str, positions: int, tmp_path: Path
) -> None:
    FAMILIES[family][1](tmp_path / "m")
    TextEncoder(text_config(tmp_path / "m", max_tokens=positions)).encode(["lung " * 100])
    with pytest.raises(ConfigError, match=rf"{positions} tokens only[\s\S]*max_tokens = {positions + 1}"):
        resolve_text(text_config(tmp_path / "m", max_tokens=positions + 1))


def test_resolve_text__the_recipe_wins_over_the_table_and_the_table_over_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "all-mpnet-base-v2"
    folders.write_mpnet(folder)
    found = resolve_text(text_config(folder))
    assert (found.pooling, found.max_tokens, found.normalise) == (
        "mean",
        48,
        True,
    )  # 384, but for 48 positions
    found = resolve_text(text_config(folder, pooling="cls", max_tokens=9, normalise=False))
    assert (found.pooling, found.max_tokens, found.normalise) == ("cls", 9, False)
    assert resolve_text(found) == found


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": "mean"}, "mean"),
    ],
)
def test_resolve_text__reads_the_pooling_of_a_folder(
    pooling: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    folders.write_bert(tmp_path / "m")
    folders.write_sentence_transformers(tmp_path / "m", pooling)
    found = resolve_text(text_config(tmp_path / "m"))
    assert (found.pooling, found.normalise, found.max_tokens) == (expected, True, 48)


def test_resolve_text__names_damaged_settings_instead_of_guessing(tmp_path: Path) -> None:
    folders.write_bert(tmp_path / "m")
    folders.write_sentence_transformers(tmp_path / "m", {"pooling_mode_cls_token": True})
    (tmp_path / "m" / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": tr')
    with pytest.raises(WeightsError, match=r"not JSON[\s\S]*1_Pooling"):
        resolve_text(text_config(tmp_path / "m"))


def test_known__by_id_revision_and_folder() -> None:
    qwen = KNOWN["Qwen/Qwen3-Embedding-0.6B"]
    assert qwen.pooling == "last"
    names = ("Qwen/Qwen3-Embedding-0.6B", "Qwen/Qwen3-Embedding-0.6B@abc", "/models/qwen3-embedding-0.6b")
    assert [known(name) for name in names] == [qwen] * 3
    assert known("me/mine") is None


def test_known__is_the_table_of_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tuning.md").read_text()
    rows = [
        f"| {name} | {t.pooling} | {t.max_tokens} | {'yes' if t.normalise else 'no'} | {t.licence} |"
        for name, t in KNOWN.items()
    ]
    assert "\n".join(rows) + "\n\n" in page


def test_packaged_model__keeps_the_vectors_it_was_trained_with() -> None:
    text = load_model("glint-cxr-phantom").text
    assert (text.cfg.pooling, text.cfg.max_tokens, text.cfg.normalise, text.learns) == (
        "mean",
        256,
        False,
        False,
    )


def test_encode__prompt_comes_first(tmp_path: Path) -> None:
    folders.write_bert(tmp_path / "m")
    plain, prompted = (TextEncoder(text_config(tmp_path / "m", prompt=p)) for p in ("", "right lung "))
    assert torch.equal(prompted.encode(["nodule"]), plain.encode(["right lung nodule"]))


@pytest.mark.parametrize("family", FAMILIES)
def test_lora__gradients_reach_it_and_nothing_else(family: str, tmp_path: Path) -> None:
    name, write, *_ = FAMILIES[family]
    write(tmp_path / name)
    frozen = TextEncoder(text_config(tmp_path / name))
    encoder = TextEncoder(text_config(tmp_path / name, tuning="lora", tuning_rank=2)).train()
    start = encoder.encode([SHORT, LONG])
    torch.testing.assert_close(start, frozen.encode([SHORT, LONG]), rtol=2e-3, atol=2e-3)
    start.square().sum().backward()
    reached = {key for key, p in encoder.net.named_parameters() if p.grad is not None and p.grad.any()}
    assert len(reached) >= 2
    assert all("lora_B" in key for key in reached)  # A gets none while B is 0
    learn = {key for key, p in encoder.net.named_parameters() if p.requires_grad}
    assert {key.replace("lora_A", "lora_B") for key in learn} == reached
    assert torch.equal(encoder.encode([LONG]), encoder.eval().encode([LONG]))  # no dropout in training


def test_full__everything_learns_and_dropout_acts_in_training_only(tmp_path: Path) -> None:
    folders.write_cxr_bert(tmp_path / "m")
    encoder = TextEncoder(text_config(tmp_path / "m", tuning="full")).train()
    assert all(p.requires_grad for p in encoder.net.parameters())
    assert not torch.equal(encoder.encode([LONG]), encoder.encode([LONG]))
    assert torch.equal(encoder.frozen_vectors([LONG]), encoder.frozen_vectors([LONG]))
    assert encoder.net.training
    assert any(key.startswith("net.") for key in encoder.state_dict())


def test_frozen__is_not_in_the_state_dict_but_is_counted(tmp_path: Path) -> None:
    net = folders.write_cxr_bert(tmp_path / "m")
    encoder = TextEncoder(text_config(tmp_path / "m")).train()
    assert all(key.startswith("adapter.") for key in encoder.state_dict())
    counted = [p for p in encoder.frozen_parameters() if not p.requires_grad]
    assert sum(p.numel() for p in counted) >= sum(p.numel() for p in net.parameters())
    assert torch.equal(encoder.frozen_vectors([LONG]), TextEncoder(encoder.cfg).frozen_vectors([LONG]))


def test_cache_key__changes_with_all_that_makes_a_vector(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folders.write_bert(folder)
    base = TextEncoder(text_config(folder)).cache_key()
    assert TextEncoder(text_config(folder)).cache_key() == base
    settings: list[dict[str, Any]] = [
        {"pooling": "cls"},
        {"max_tokens": 9},
        {"normalise": True},
        {"prompt": "a "},
    ]
    keys = [TextEncoder(text_config(folder, **one)).cache_key() for one in settings]
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.1.output.dense.bias"][3] += 1e-3
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    keys.append(TextEncoder(text_config(folder)).cache_key())
    assert len({base, *keys}) == 6


def _no_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def _truncated(folder: Path) -> None:
    file = next(folder.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-500])


def _missing_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.attention.self.query.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _unknown_type(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "mystery", "auto_map": {"AutoModel": "m.M"}}')


class _Code:
    def __reduce__(self) -> Any:
        return os.mkdir, ("pwned",)


def _pickled_code(folder: Path) -> None:
    _no_weights(folder)
    torch.save({"weight": _Code()}, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_no_tokenizer, "no tokenizer"),
        (_truncated, "could not be loaded"),
        (_missing_tensor, r"1 tensors are missing[\s\S]*layer\.1\.attention\.self\.query"),
        (_no_weights, "could not be loaded"),
        (_no_config, "config.json is missing"),
        (_unknown_type, "does not know: 'mystery'"),
        (_pickled_code, "could not be loaded"),
    ],
)
def test_text_encoder__what_cannot_be_opened_is_named(
    damage: Callable[[Path], None], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders.write_bert(tmp_path / "m")
    damage(tmp_path / "m")
    with pytest.raises(WeightsError, match=words) as caught:
        TextEncoder(text_config(tmp_path / "m"))
    assert str(tmp_path / "m") in caught.value.where
    assert not (tmp_path / "pwned").exists()


def test_text_encoder__unreachable_and_gated_repositories(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

    def refuse(error: Exception) -> Callable[..., str]:
        def download(*args: object, **kwargs: object) -> str:
            raise error

        return download

    cfg = TextConfig(name="nobody/nothing-here")
    response: Any = type("Response", (), {"headers": {}, "request": None})()
    for error, words in (
        (LocalEntryNotFoundError("offline"), "not on this machine"),
        (GatedRepoError("gated", response=response), "gated"),
    ):
        monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse(error))
        with pytest.raises(WeightsError, match=words):
            TextEncoder(cfg)


def test_text_model_folder__a_pickle_is_fetched_only_where_there_is_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: list[list[str]] = []

    def download(repository: str, allow_patterns: list[str], **kwargs: object) -> str:
        asked.append(allow_patterns)
        return str(tmp_path / repository.rpartition("/")[2])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    folders.write_bert(tmp_path / "safe")
    folders.write_cxr_bert(tmp_path / "pickled")
    TextEncoder(TextConfig(name="me/safe"))
    assert len(asked) == 2  # once for the settings, once for the weights
    assert not any("pytorch_model.bin" in patterns for patterns in asked)
    TextEncoder(TextConfig(name="me/pickled"))
    assert "pytorch_model.bin" in asked[-1]
    assert not any(pattern.endswith(".py") for patterns in asked for pattern in patterns)
