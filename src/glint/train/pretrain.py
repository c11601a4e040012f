"""`glint pretrain`: a self-supervised start for the image encoder, from the images of the training split alone."""

from pathlib import Path

import torch
from torch import nn

from glint.config.schema import GlintConfig
from glint.data.dataset import PairDataset
from glint.losses.distill import SelfDistillation
from glint.losses.jepa import LatentPrediction
from glint.losses.masked import MaskedPrediction
from glint.model.vision.registry import build_vision, resolve_vision, save_encoder
from glint.train.loop import fit
from glint.train.precision import resolve
from glint.train.run import open_run
from glint.train.state import Task


def pretrain(cfg: GlintConfig, *, resume: bool = True) -> Path:
    """Train the encoder without reports and return the folder that `vision.init` accepts.

    Args:
        cfg: The recipe; its text, align and loss sections have no part here.
        resume: Go on with a run found in `train.out`; False makes that an error.

    Raises:
        DataError: The data set cannot be used.
        TrainingError: Another run is in `train.out`, or training became non-finite.
        Stopped: SIGINT or SIGTERM came; a checkpoint is saved.
    """
    cfg = resolve_vision(cfg.model_copy(update={"train": resolve(cfg.train)}))
    run = open_run(cfg, resume=resume)
    if (run / "encoder").is_dir():
        return run / "encoder"
    data = PairDataset(cfg.data.manifest, "train", cfg.data, with_reports=False, workers=cfg.train.workers)
    return fit(cfg, TASKS[cfg.pretrain.method](cfg), data, [], run, run / "encoder")


def masked_task(cfg: GlintConfig) -> Task:
    """Return the task of masked prediction; what it leaves behind is the teacher, the smoother of the encoders."""
    torch.manual_seed(cfg.train.seed)
    objective = MaskedPrediction(cfg.pretrain, build_vision(cfg.vision))
    teacher = objective.teacher
    heads = {"predictor": objective.predictor, "latent": objective.to_latent, "pixels": objective.to_pixels}
    return Task(
        objective=objective,
        trained={"vision": objective.vision, **heads},
        kept={"teacher": teacher},
        export=lambda folder: save_encoder(teacher.encoder, cfg.vision.name, folder),
        after_step=objective.update_teacher,
    )


def distill_task(cfg: GlintConfig) -> Task:
    """Return the task of self-distillation; it leaves the teacher behind, too."""
    torch.manual_seed(cfg.train.seed)
    objective = SelfDistillation(cfg.pretrain, build_vision(cfg.vision))
    teacher, anchor = objective.teacher, objective.anchor
    anchors: dict[str, nn.Module] = {"anchor": anchor} if anchor is not None else {}
    return Task(
        objective=objective,
        trained={"vision": objective.vision, "heads": objective.heads},
        # The anchor is read from vision.init again; from random weights it exists nowhere else.
        kept={"teacher": teacher, "teacher_heads": objective.teacher_heads}
        | ({} if cfg.vision.init else anchors),
        rebuilt=anchors if cfg.vision.init else {},
        export=lambda folder: save_encoder(teacher.encoder, cfg.vision.name, folder),
        after_step=objective.update_teacher,
    )


def jepa_task(cfg: GlintConfig) -> Task:
    """Return the task of latent prediction; it leaves the teacher behind, too."""
    torch.manual_seed(cfg.train.seed)
    objective = LatentPrediction(cfg.pretrain, build_vision(cfg.vision))
    return Task(
        objective=objective,
        trained={"vision": objective.vision, "predictor": objective.predictor},
        kept={"teacher": objective.teacher},
        export=lambda folder: save_encoder(objective.teacher.encoder, cfg.vision.name, folder),
        after_step=objective.update_teacher,
    )


TASKS = {"masked": masked_task, "dino": distill_task, "jepa": jepa_task}
