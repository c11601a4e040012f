"""`glint pretrain`: a self-supervised start for the image encoder, from the images of the training split alone."""

from pathlib import Path

import torch

from glint.config.schema import GlintConfig
from glint.data.dataset import PairDataset
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
    return fit(cfg, masked_task(cfg), data, [], run, run / "encoder")


def masked_task(cfg: GlintConfig) -> Task:
    """Return the self-supervised task; what it leaves behind is the teacher, the smoother of the two encoders."""
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
