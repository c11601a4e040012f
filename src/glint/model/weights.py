"""Weight files as they come: hub folders, official .pth and .pt files, safetensors. Read only, never unpickled code.

This module opens files; what the tensors in them mean is the business of each encoder (ImageEncoder.adopt).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from glint.errors import WeightsError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w.-]+)?")
PATTERNS = ["*.json", "*.safetensors"]  # what is fetched of a hub repository: never pickles, never code


@dataclass(frozen=True)
class RawWeights:
    """An opened weight file.

    Attributes:
        tree: What the file holds: tensors by name, or a checkpoint with such dictionaries inside.
        where: File or hub id, for messages.
        config: `config.json` beside the weights, or {}.
        preprocessor: `preprocessor_config.json` beside the weights, or {}.
    """

    tree: Mapping[str, Any]
    where: str
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    preprocessor: dict[str, Any] = field(default_factory=dict[str, Any])

    def tensors(self, *preferred: str) -> dict[str, Tensor]:
        """Return the state dict: the first of the preferred sub-dictionaries that is there, else the whole file.

        Raises:
            WeightsError: No tensors there.
        """
        for name in preferred:
            if isinstance(self.tree.get(name), Mapping):
                return _only_tensors(self.tree[name])
        found = _only_tensors(self.tree)
        if not found:
            raise WeightsError(
                f"no tensors in the weight file, only {sorted(self.tree)[:5]}",
                where=self.where,
                expected="a state dict, or a checkpoint with one of: " + ", ".join(preferred),
            )
        return found


def open_weights(source: str) -> RawWeights:
    """Open a hub id ("owner/name" or "owner/name@revision"), a folder, or a weight file.

    Raises:
        WeightsError: Not found, damaged, or it would have to run code to be read.
    """
    path = Path(source)
    if path.is_dir():
        return _open_folder(path, source)
    if path.is_file():
        return RawWeights(_read(path), source)
    if HUB_ID.fullmatch(source) and not path.suffix.startswith((".pt", ".safetensors")):
        return _open_folder(fetch(source), source)
    raise WeightsError(
        "the encoder weights to start from were not found",
        where=f"vision.init = {source}",
        expected="a folder that `glint pretrain` wrote, a hub id or hub folder, or a .pth, .pt or .safetensors file",
        fix="check the path, run `glint pretrain` first, or set vision.init='' to start from random weights",
    )


def fetch(source: str, *, patterns: list[str] = PATTERNS, offline: bool = False) -> Path:
    """Return the local folder of a hub repository, named by its revision; no network if `offline` or HF_HUB_OFFLINE.

    Raises:
        WeightsError: Unreachable, unknown, or gated; the message says which and what to do.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    repository, _, revision = source.partition("@")
    try:
        folder = snapshot_download(
            repository, revision=revision or None, allow_patterns=patterns, local_files_only=offline
        )
        return Path(folder)
    except GatedRepoError as error:
        raise WeightsError(
            "the repository is gated: its licence has to be accepted first",
            where=source,
            fix="accept the licence on the model's page, make a token there, and set HF_TOKEN",
        ) from error
    except RepositoryNotFoundError as error:
        raise WeightsError(
            "no such repository, or it is private",
            where=source,
            fix="check the name; set HF_TOKEN if it is private",
        ) from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise WeightsError(
            f"the model is not on this machine and could not be fetched ({type(error).__name__})",
            where=source,
            fix="connect, unset HF_HUB_OFFLINE, or copy the model folder here and give its path",
        ) from error


def check_keys(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str) -> None:
    """Raise a WeightsError that names what differs; never load a part of a model silently."""
    missing = sorted(wanted.keys() - found.keys())
    extra = sorted(found.keys() - wanted.keys())
    shapes = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in sorted(found.keys() & wanted.keys())
        if found[key].shape != wanted[key].shape
    ]
    problems = [f"missing {missing[:3]}"] if missing else []
    problems += [f"unknown {extra[:3]}"] if extra else []
    problems += [f"other shape {shapes[:3]}"] if shapes else []
    if problems:
        count = len(missing) + len(extra) + len(shapes)
        raise WeightsError(
            f"the weights do not fit the architecture ({count} tensors differ): " + "; ".join(problems),
            where=where,
            expected="weights of the same encoder name, widths and depths",
            fix="check vision.name and vision.arch of the recipe against what the weights were made with",
        )


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """Read a safetensors file whole.

    Raises:
        WeightsError: Damaged or cut off.
    """
    try:
        return load_file(file)
    except Exception as error:
        raise WeightsError(
            f"the weight file is damaged ({type(error).__name__})",
            where=str(file),
            expected="a whole safetensors file",
            fix="copy or download it again",
        ) from error


def _open_folder(folder: Path, source: str) -> RawWeights:
    """Open config.json and the safetensors of a folder."""
    files = _weight_files(folder)
    if not files:
        raise WeightsError(
            "no safetensors in the weight folder",
            where=str(folder),
            expected="encoder.safetensors (of `glint pretrain`), or model.safetensors with config.json",
            fix="convert pickled weights with `glint models convert`, or give the .pth or .pt file itself",
        )
    tree: dict[str, Tensor] = {}
    for file in files:
        tree |= read_safetensors(file)
    own, hub = read_json(folder / "encoder.json"), read_json(folder / "config.json")
    return RawWeights(tree, source, own or hub, read_json(folder / "preprocessor_config.json"))


def _weight_files(folder: Path) -> list[Path]:
    """Return the files of the model: the named shards, else the usual file, else all safetensors there are.

    Repositories may hold more: RAD-DINO's has the same weights under other names, and heads of its training.
    """
    index = read_json(folder / "model.safetensors.index.json").get("weight_map", {})
    shards = sorted({folder / Path(str(name)).name for name in index.values()})
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise WeightsError(
            f"a part of the weights is missing: {', '.join(missing)}",
            where=str(folder),
            expected=f"the {len(shards)} files that model.safetensors.index.json names",
            fix="copy or download the whole folder again",
        )
    usual = [folder / name for name in ("encoder.safetensors", "model.safetensors")]
    return shards or [file for file in usual if file.is_file()][:1] or sorted(folder.glob("*.safetensors"))


def _read(file: Path) -> Mapping[str, Any]:
    if file.suffix == ".safetensors":
        return read_safetensors(file)
    try:
        with file.open(
            "rb"
        ) as opened:  # files in the format before PyTorch 1.6 are no archives: no memory map
            archive = opened.read(4) == b"PK\x03\x04"
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=archive)
    except Exception as error:
        code = "weights_only" in str(error).lower() or "unsupported" in str(error).lower()
        raise WeightsError(
            "the file holds pickled Python objects, which could run code"
            if code
            else f"the weight file is damaged ({type(error).__name__})",
            where=str(file),
            expected="a .pth or .pt file with tensors, dictionaries and numbers only, or .safetensors",
            fix="get the plain state dict from its authors" if code else "copy or download it again",
        ) from error
    if not isinstance(content, Mapping):
        raise WeightsError("the weight file holds no dictionary of tensors", where=str(file))
    return cast(Mapping[str, Any], content)


def _only_tensors(tree: Mapping[str, Any]) -> dict[str, Tensor]:
    return {str(name): value for name, value in tree.items() if isinstance(value, Tensor)}


def read_json(file: Path) -> dict[str, Any]:
    """Return a JSON object, or {} when there is no such file or it holds something else.

    Raises:
        WeightsError: The file is damaged: to go on with defaults would give other numbers without a word.
    """
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(
            "the description of the weights is not JSON", where=str(file), fix="copy it again"
        ) from error
    return cast(dict[str, Any], content) if isinstance(content, dict) else {}
