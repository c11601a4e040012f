"""The training loop: from a recipe to a model folder. One loop for both tasks; nothing here depends on the task."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

from glint.config.schema import GlintConfig
from glint.data.dataset import FixedBatches, PairBatch, PairDataset, batch_at
from glint.data.store import cache_root
from glint.model.text_models import resolve_text
from glint.model.vision.registry import resolve_vision
from glint.model.vision.tuning import levels_learn
from glint.train import checkpoint
from glint.train.log import RunLog, counter
from glint.train.memory import keep_freed_memory
from glint.train.optim import build_optimizer, rate_table
from glint.train.precision import autocast, resolve
from glint.train.run import Stopped, export, open_run, stop_signals
from glint.train.start import frozen_start, load_start, resolve_start
from glint.train.state import Report, Task, TrainState
from glint.train.step import step, step_generator


def train(cfg: GlintConfig, *, resume: bool = True) -> Path:
    """Train on image-report pairs and return the folder of the finished model.

    Args:
        cfg: The recipe.
        resume: Go on with a run found in `train.out`; False makes that an error.

    Raises:
        DataError: The data set cannot be used.
        TrainingError: Another run is in `train.out`, or training became non-finite.
        Stopped: SIGINT or SIGTERM came; a checkpoint is saved.
    """
    cfg = resolve_start(cfg)
    cfg = cfg.model_copy(update={"train": resolve(cfg.train), "text": resolve_text(cfg.text)})
    cfg = resolve_vision(cfg)
    run = open_run(cfg, resume=resume)
    if (run / "model").is_dir():
        return run / "model"
    data, val = (
        PairDataset(cfg.data.manifest, s, cfg.data, workers=cfg.train.workers) for s in ("train", "val")
    )
    task = align_task(cfg, data.texts(), val.texts())
    return fit(cfg, task, data, FixedBatches(val, cfg.train.batch_size), run, run / "model")


def align_task(cfg: GlintConfig, texts: list[str], further: Sequence[str] = ()) -> Task:
    """Return the task of GLINT and its baselines; sentences of a frozen text encoder are encoded here, once.

    Args:
        cfg: The recipe.
        texts: Sentences of the training set.
        further: Those of the validation set.
    """
    from glint.losses.objective import Objective
    from glint.model.folder import save_model
    from glint.model.glint import GlintModel
    from glint.model.teacher import Teacher
    from glint.train.card import write_card

    torch.manual_seed(cfg.train.seed)
    model = GlintModel(cfg)
    if not model.text.learns:
        cache = cache_root(Path(cfg.data.manifest))
        file = cache / f"text-{model.text.cache_key()}.safetensors"
        model.text.prime([*texts, *further], file, tell=counter("new sentences encoded"))
    model.text.fit_whitening(texts)
    if cfg.train.start:
        load_start(model, cfg.train.start)
    # A copy of the student as it starts; what tuning added to it is the identity still.
    teacher = Teacher(model.vision) if cfg.loss.dfr > 0 and levels_learn(cfg.vision) else None
    teachers: dict[str, nn.Module] = {"teacher": teacher} if teacher is not None else {}
    start = frozen_start(cfg.train.start) if cfg.loss.mix_targets == "start" else None
    if start is not None:
        teachers["start"] = start
    from_file = bool(cfg.vision.init or cfg.train.start)
    if not from_file:
        _warn_of_random_weights(cfg, held=bool(teachers))
    return Task(
        objective=Objective(cfg, model, teacher, start),
        trained={"model": model},
        # A teacher from random weights exists nowhere else; one from a file is read from there again.
        kept={} if from_file else teachers,
        rebuilt=teachers if from_file else {},
        export=lambda folder: save_model(model, folder, write_card(cfg)),
        parts=model.parts(),
    )


def _warn_of_random_weights(cfg: GlintConfig, *, held: bool) -> None:
    if cfg.vision.tuning != "full":
        warnings.warn(
            f"vision.tuning={cfg.vision.tuning} without vision.init leaves the encoder at random weights; "
            "name weights in vision.init, or set vision.tuning=full",
            stacklevel=3,
        )
    elif held:
        warnings.warn(
            "loss.dfr > 0 without vision.init holds the encoder to random features; "
            "run `glint pretrain` first, or set loss.dfr=0",
            stacklevel=3,
        )


def fit(
    cfg: GlintConfig, task: Task, data: PairDataset, val: Iterable[PairBatch], run: Path, result: Path
) -> Path:
    """Train a task until `train.steps` and export it to `result`."""
    if cfg.train.device == "cpu":
        keep_freed_memory()
    for module in task.modules():
        module.to(cfg.train.device)
    optimizer = build_optimizer(task.parameters(), cfg.optim, task.trained.values())
    state = TrainState(task, optimizer, rate_table(optimizer, cfg.optim, cfg.train.steps))
    checkpoint.load_newest(state, run / "checkpoints")
    with RunLog(run / "log.jsonl", start=state.step, steps=cfg.train.steps, label=cfg.name) as log:
        for line in task.census():
            log.say(line)
        with stop_signals() as stop:
            loop(state, data, val, log, cfg, run / "checkpoints", stop)
        if state.step < cfg.train.steps:
            raise Stopped(state.step, stop[0])
        export(task.export, result)
    return result


def loop(
    state: TrainState,
    data: PairDataset,
    val: Iterable[PairBatch],
    log: RunLog,
    cfg: GlintConfig,
    checkpoints: Path,
    stop: list[int],
) -> None:
    """Train until the last step or until `stop` is filled. Everything that must survive a crash is in `state`."""
    every = cfg.train
    state.task.set_training(True)
    while state.step < every.steps and not stop:
        batch = batch_at(data, every.batch_size, every.seed, state.step)
        report = step(state, batch, cfg)  # forward, backward, finite gate, update
        state.step += 1
        _accumulate(state.window, report)
        log.advance(state.step)
        if _due(state.step, every.log_every, every.steps):
            log.write(state.step, _mean(state.window), samples_per_step=every.batch_size)
            state.window = {}
        if val and _due(state.step, every.val_every, every.steps):
            log.write(state.step, validate(state.task, val, cfg))
        if _due(state.step, every.save_every, every.steps) or stop:
            checkpoint.save(state, checkpoints, keep=every.keep_checkpoints)


@torch.no_grad()
def validate(task: Task, val: Iterable[PairBatch], cfg: GlintConfig) -> Report:
    """Return the mean loss and parts over fixed batches, without augmentation, as "val_..."."""
    task.set_training(False)
    window: Report = {}
    for batch in val:
        with autocast(cfg.train):
            loss, report = task.objective(
                batch.to(torch.device(cfg.train.device)).normalised(), step_generator(0, 0)
            )
        _accumulate(window, {"loss": float(loss), **report})
    task.set_training(True)
    return {f"val_{name}": value for name, value in _mean(window).items()}


def _due(step: int, every: int, last: int) -> bool:
    return every > 0 and (step % every == 0 or step == last)


def _accumulate(window: Report, report: Report) -> None:
    for name, value in report.items():
        window[f"{name}|sum"] = window.get(f"{name}|sum", 0.0) + value
        window[f"{name}|count"] = window.get(f"{name}|count", 0.0) + 1


def _mean(window: Report) -> Report:
    names = [key.removesuffix("|sum") for key in window if key.endswith("|sum")]
    return {name: window[f"{name}|sum"] / window[f"{name}|count"] for name in names}
