"""Checkpoints that a crash cannot spoil.

    RUN/checkpoints/step-00000200/
        weights.safetensors    trained and kept modules
        optimizer.safetensors  moments, "parameter|moment"
        state.json             step, sums of the log window, hashes of rebuilt teachers
        manifest.json          sha256 of the three files; a checkpoint without a matching manifest does not count

Written into a temporary sibling, synced to disk and renamed; old ones go only after that.
"""

import hashlib
import json
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glint.atomic import sync
from glint.errors import TrainingError
from glint.train.state import TrainState

WEIGHTS, OPTIMIZER, STATE, MANIFEST = (
    "weights.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
)


def save(state: TrainState, folder: Path, *, keep: int) -> Path:
    """Write a checkpoint into a folder of checkpoints, keep the newest `keep`, return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{state.step:08d}"
    temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder))
    try:
        save_file(_storable(state.task.tensors()), temporary / WEIGHTS)
        save_file(_storable(state.named_moments()), temporary / OPTIMIZER)
        rebuilt = {name: module_hash(module) for name, module in state.task.rebuilt.items()}
        content = {"format": 1, "step": state.step, "window": state.window, "rebuilt": rebuilt}
        (temporary / STATE).write_text(json.dumps(content))
        hashes = {name: _sha256(temporary / name) for name in (WEIGHTS, OPTIMIZER, STATE)}
        (temporary / MANIFEST).write_text(json.dumps(hashes, indent=1))
        for file in temporary.iterdir():
            sync(file)
        if (
            target.exists()
        ):  # a damaged one of the same step that resume passed over, or a stop right after a save
            shutil.rmtree(target)
        temporary.rename(target)
        sync(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_newest(state: TrainState, folder: Path) -> bool:
    """Put the newest whole checkpoint into `state`; False when there is none.

    Raises:
        TrainingError: A checkpoint is whole but belongs to another model, or its teacher cannot be made again.
    """
    for rest in folder.glob(".tmp-*"):  # a save that was killed
        shutil.rmtree(rest, ignore_errors=True)
    for path in sorted(folder.glob("step-*"), reverse=True):
        if not is_whole(path):
            warnings.warn(f"checkpoint {path} is damaged; going back to the one before", stacklevel=2)
            continue
        _load(state, path)
        return True
    return False


def is_whole(path: Path) -> bool:
    """Return True if every file is there with the hash it was written with."""
    try:
        hashes: dict[str, str] = json.loads((path / MANIFEST).read_text())
        return set(hashes) == {WEIGHTS, OPTIMIZER, STATE} and all(
            _sha256(path / n) == h for n, h in hashes.items()
        )
    except (OSError, ValueError, AttributeError):
        return False


def module_hash(module: nn.Module) -> str:
    """Return a hash of all tensors of a module."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        # reshape: a 1x1 kernel in channels-last order counts as contiguous, and still cannot be viewed as bytes.
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(name.encode() + flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _load(state: TrainState, path: Path) -> None:
    content: dict[str, Any] = json.loads((path / STATE).read_text())
    for name, module in state.task.rebuilt.items():
        if content["rebuilt"].get(name) != module_hash(module):
            raise TrainingError(
                f"the frozen {name} is not the one this run began with",
                where=str(path),
                expected="the same file under vision.init as at the start",
                fix="put that file back, or start a new run with another train.out",
            )
    weights, wanted = load_file(path / WEIGHTS), state.task.tensors()
    differing = {n for n in weights.keys() & wanted.keys() if weights[n].shape != wanted[n].shape}
    differing |= weights.keys() ^ wanted.keys()
    if differing:
        raise TrainingError(
            f"the checkpoint is of another model ({len(differing)} tensors differ, first {min(differing)})",
            where=str(path),
            fix="start a new run with another train.out",
        )
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(weights[name])
    state.load_moments(load_file(path / OPTIMIZER))
    state.step, state.window = int(content["step"]), content["window"]


def _storable(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies that share no memory, as safetensors demands."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
