"""One update of the weights: forward, backward, clip, finite gate, optimizer step."""

import math

import torch

from glint.config.schema import GlintConfig
from glint.data.augment import augment
from glint.data.augment_volume import augment_volume
from glint.data.dataset import PairBatch
from glint.data.mirror import mirror_some
from glint.errors import TrainingError
from glint.train.optim import set_rates
from glint.train.precision import autocast
from glint.train.state import Report, TrainState


def step(state: TrainState, batch: PairBatch, cfg: GlintConfig) -> Report:
    """Train on one batch and return what to log; `state.step` is left to the caller.

    Raises:
        TrainingError: The loss or a gradient is not finite. The weights are as they were before.
    """
    generator = step_generator(cfg.train.seed, state.step)
    batch = batch.to(torch.device(cfg.train.device))
    if cfg.data.mirror:
        batch = mirror_some(batch, generator)
    if not cfg.data.augment:
        batch = batch.normalised()
    elif cfg.data.volume is None:
        batch = augment(batch, generator, cfg.data.augment)
    else:
        batch = augment_volume(batch, generator, cfg.data.augment, len(cfg.data.volume.windows_hu))
    with autocast(cfg.train):
        loss, report = state.task.objective(batch, generator)
    state.optimizer.zero_grad(set_to_none=True)
    if torch.isfinite(loss):  # a backward pass through NaN would only hide where it came from
        loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(state.task.parameters().values(), cfg.optim.clip_norm)
    report = {"loss": float(loss.detach()), **report, "grad_norm": float(norm)}
    _finite_or_stop(report, state.step)
    set_rates(state.optimizer, state.rates[state.step])
    state.optimizer.step()
    state.task.after_step()
    return report


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the generator of one step, and seed torch's own (dropout) the same way: nothing to store for resume."""
    mixed = torch.Generator().manual_seed(seed * 1_000_003 + step)
    torch.manual_seed(int(torch.randint(2**62, (1,), generator=mixed)))
    return mixed


def _finite_or_stop(report: Report, step: int) -> None:
    if math.isfinite(report["loss"]) and math.isfinite(report["grad_norm"]):
        return
    what = "loss" if not math.isfinite(report["loss"]) else "gradient"
    parts = ", ".join(f"{name}={value:.4g}" for name, value in report.items())
    raise TrainingError(
        f"the {what} is not finite at step {step}; the weights were not touched",
        where=parts,
        fix="lower optim.lr and optim.vision_lr, or set train.precision=fp32; the last checkpoint is good",
    )
