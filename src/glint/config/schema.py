"""Every setting of GLINT, in the order in which a user meets it. Unknown keys are errors.

The defaults are the method of the paper as we specify it (docs/method.md); recipes in `recipes/` change sizes.
"""

from typing import Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from glint.config.settings import Settings
from glint.config.volume import VolumeConfig


class DataConfig(Settings):
    """Where the image-report pairs are and how an image becomes what the encoder sees."""

    manifest: str = "data/phantom-cxr/manifest.parquet"
    """Parquet file with columns study_id, split, image, report (docs/data.md)."""
    size_px: int = Field(192, ge=32)
    """Side of the square network input of radiographs; they are letterboxed, never stretched."""
    volume: VolumeConfig | None = None
    """CT: how a scan is laid out. None: radiographs."""
    sentences_per_image: int = Field(6, ge=1)
    """Sentences drawn from a report in each step."""
    together: int = Field(1, ge=1)
    """Up to so many studies of one patient come into a batch together, when the manifest has a column patient_id:
    hard negatives, which differ in their findings and hardly in anything else. 1 draws studies one by one."""
    augment: float = Field(1.0, ge=0, le=1)
    """Strength of small rotation, scale, shift, contrast, noise; 0 leaves images as they are. CT volumes: level,
    contrast and noise only, their place varies by the cut of the crop. Short runs from random weights learn more with
    less of it (docs/experiments.md)."""
    mirror: bool = False
    """Radiographs: half of the studies of a training batch are mirrored, and left and right change places in their
    sentences; those with a sentence of which that would not be true are left as they are (data/mirror.py). The heart is
    then seen on the right, too."""
    limit: int = Field(0, ge=0)
    """Use only the first so many training studies; 0 means all."""

    @model_validator(mode="after")
    def _radiographs_if_mirrored(self) -> "DataConfig":
        if self.mirror and self.volume is not None:
            raise ValueError(
                "data.mirror is for radiographs: in a mirrored CT the liver would be on the left"
            )
        return self

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(Y, X) pixels or (Z, Y, X) voxels of the network input."""
        return (self.size_px, self.size_px) if self.volume is None else self.volume.crop

    @property
    def channels(self) -> int:
        """Channels of the network input: one, or one a CT window and that of the side."""
        return 1 if self.volume is None else len(self.volume.windows_hu) + self.volume.side


class VisionConfig(Settings):
    """Image encoder: which one, from which weights, how it is built (docs/encoders.md)."""

    name: str = "dinov3-convnext"
    """A registered encoder (`glint models` lists them), or "package.module:Class" of your own."""
    init: str = ""
    """Weights to start from: a folder of `glint pretrain`, a hub id, a hub folder, or an official .pth, .pt or
    .safetensors file. "" starts from random weights."""
    arch: dict[str, JsonValue] = Field(default_factory=dict)
    """Settings of the encoder's own (docs/encoders.md); what is not given comes from the weights, or is the default."""
    tuning: Literal["full", "frozen", "blocks", "lora", "adapters"] = "full"
    """What of the encoder learns (docs/tuning.md). full: all of it. frozen: nothing. blocks: new transformer blocks on
    its tokens. lora: low-rank changes of attention. adapters: bottlenecks in every block."""
    tuning_blocks: int = Field(2, ge=1)
    """New transformer blocks of tuning=blocks."""
    tuning_rank: int = Field(16, ge=1)
    """Rank of tuning=lora."""
    tuning_width: int = Field(0, ge=0)
    """Hidden width of tuning=adapters; 0 means a quarter of the encoder's width."""


class TextConfig(Settings):
    """Sentence encoder: any Hugging Face model with hidden states; the packaged MiniLM needs no download."""

    name: str = "minilm"
    """"minilm", a local folder, or a hub id, "owner/name" or "owner/name@revision" (docs/tuning.md)."""
    tuning: Literal["frozen", "full", "lora"] = "frozen"
    """What of it learns. Vectors of a frozen encoder are cached, and it is named by the model, not saved with it."""
    tuning_rank: int = Field(16, ge=1)
    """Rank of tuning=lora."""
    pooling: Literal["auto", "mean", "cls", "last"] = "auto"
    """How the vectors of tokens become one: their mean, that of the first, that of the last. auto: as known or as the
    folder says, else the mean."""
    max_tokens: int = Field(0, ge=0)
    """Longer texts are cut to so many, at least 8. 0: as known or as the folder says, else what the encoder has
    positions for, up to 512."""
    normalise: bool | None = None
    """Scale sentence vectors to length 1. None: as known or as the folder says, else no."""
    prompt: str = ""
    """Put before each text, for encoders that were trained with an instruction."""
    whiten: float = Field(0.0, ge=0)
    """Even out the directions in which the training sentences differ, with this shrinkage; 0: leave them as they are.
    Vectors of "left" and "right" sentences are nearly the same otherwise. Frozen encoders only."""
    adapter_hidden: int = Field(512, ge=0)
    """Hidden width of the trainable residual MLP on top of the sentence vector; 0 leaves it out."""
    negation: Literal["encoder", "rules"] = "encoder"
    """Who understands "no". encoder: the sentence encoder and the MLP, which loss.polarity teaches. rules: glint.text
    finds denials; what they deny is scored, and they score one minus that. Needs loss.polarity=0."""

    @field_validator("max_tokens")
    @classmethod
    def _none_or_some(cls, value: int) -> int:
        if 0 < value < 8:
            raise ValueError("must be 0 or at least 8")
        return value

    @model_validator(mode="after")
    def _frozen_if_whitened(self) -> "TextConfig":
        if self.whiten and self.tuning != "frozen":
            raise ValueError("text.whiten is fitted once, before training: it needs text.tuning=frozen")
        return self


class AlignConfig(Settings):
    """How a sentence meets the patches (docs/method.md)."""

    type: Literal["gated", "vlcabs", "global"] = "gated"
    """gated: GLINT. vlcabs: softmax in a shared space (RadZero). global: mean-pooled CLIP."""
    dim: int = Field(128, ge=8)
    """Alignment width D."""
    gate_dim: int = Field(128, ge=8)
    """Gate width G."""
    gate_space: Literal["separate", "shared"] = "separate"
    gate_activation: Literal["sigmoid", "softmax"] = "sigmoid"
    pool: Literal["null_mass", "null_token", "l2_mean"] = "null_mass"
    """null_mass: sum(g c)/(eps0 + sum g). null_token: the closed gate answers with a learnt vector."""
    below_null: float = Field(1.0, ge=0, le=1)
    """How much of what an open patch answers below the null answer counts, in null_mass and null_token. 1: all. Near 0
    no open patch denies, so that a gate gains nothing from landmarks where nothing is."""
    eps0: float = Field(1.0, gt=0)
    """Null mass in patches: how much open gate is needed before a score counts."""
    gate_bias_init: float | None = None
    """beta_0; None means -ln P."""
    gate_scale_init: float | None = None
    """alpha_0; None means |beta_0| + 4."""
    temperature_init: float = Field(0.07, gt=0)
    temperature_min: float = Field(0.01, gt=0)
    """Floor of the learnt temperature. A low floor lets a telling edge satisfy the loss; a higher one keeps
    asking for more of the finding."""
    kernel: Literal["fastest", "reference", "chunked", "triton"] = "fastest"
    """How the sigmoid gate pools all pairs in training (docs/gate.md). reference holds all maps, the others none.
    fastest: triton on a GPU where it can; else reference while the maps are small, then chunked."""
    token_keep: float = Field(1.0, gt=0, le=1)
    """Share of patches that the score sees in a training step (random, per image): makes extent pay."""
    token_block: int = Field(4, ge=1)
    """Side of the blocks of patches that token_keep hides: small ones leave no edge whole, large ones hide findings."""
    spread: int = Field(0, ge=0, le=256)
    """Rounds in which maps spread over neighbouring patches that look alike (glint/ops/spread.py), in answers; 0:
    they do not."""


class LossConfig(Settings):
    """What training minimises (docs/method.md)."""

    type: Literal["mpnce"] = "mpnce"
    gate_off: float = Field(0.05, ge=0)
    """sparsity.l1_neg: mean gate over unmatched pairs."""
    gate_budget: float = Field(1.0, ge=0)
    """Hinges on matched affirmative pairs: not more than rho_max open, at least one patch open."""
    gate_mix: float = Field(0.0, ge=0)
    """Weight of the agreement between the gates of mixed images and those of the images they were mixed of; 0: none is
    mixed. For models whose gates have opened (docs/experiments.md, "Mixed images"). Half as many images again are
    encoded in a step."""
    mix_targets: Literal["own", "start"] = "own"
    """Whose gates these are. own: those of the model at this step. start: those of the model in `train.start`, frozen,
    and spread as in its answers (`align.spread`)."""
    rho_max: float = Field(0.3, gt=0, le=1)
    rho_min: float = Field(0.5, ge=0, le=1)
    polarity: float = Field(0.5, ge=0)
    """Weight of the contrast between a sentence and its negated or affirmed form on the same image."""
    false_negatives: Literal["mask", "keep"] = "mask"
    """mask: a sentence is no negative of an image whose report says the same in other words (losses/claims.py)."""
    negated: Literal["polarity", "contrast"] = "polarity"
    """polarity: negated sentences only enter the polarity term. contrast: they are ordinary texts too."""
    dfr: float = Field(1.0, ge=0)
    """Weight of dense feature regularization; 0 switches it off (no teacher is built)."""
    dfr_metric: Literal["cosine", "smooth_l1", "gram"] = "cosine"


class OptimConfig(Settings):
    """AdamW with linear warm-up and cosine decay to zero."""

    lr: float = Field(1e-3, gt=0)
    """Peak rate of heads."""
    vision_lr: float = Field(1e-3, gt=0)
    """Peak rate of the image encoder."""
    text_lr: float = Field(5e-5, gt=0)
    """Peak rate of a text encoder that learns."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Each block of the image encoder learns at this times the rate of the block above it; 1 switches that off."""
    weight_decay: float = Field(0.05, ge=0)
    warmup_steps: int = Field(100, ge=0)
    clip_norm: float = Field(1.0, gt=0)


class TrainConfig(Settings):
    """The loop."""

    out: str = "runs/glint"
    """Run directory: config.resolved.yaml, log.jsonl, checkpoints, final model folder."""
    start: str = ""
    """Model folder or packaged model to go on from, with all of its weights: its encoders and the shape of its gate
    take the place of those of the recipe (train/start.py). "" starts anew, from vision.init."""
    steps: int = Field(1000, ge=1)
    batch_size: int = Field(64, ge=2)
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on CUDA and on CPUs with AMX tiles, else fp32."""
    workers: int = Field(0, ge=0)
    log_every: int = Field(20, ge=1)
    val_every: int = Field(200, ge=0)
    """Steps between validation losses; 0 means never."""
    save_every: int = Field(200, ge=0)
    keep_checkpoints: int = Field(2, ge=2)


class PretrainConfig(Settings):
    """Self-supervised stage, from images alone, with a moving-average teacher."""

    method: Literal["masked", "dino", "jepa"] = "masked"
    """masked: predict latents and pixels under masks; gives a small encoder a start from random weights. dino:
    DINOv3-style self-distillation with iBOT and Gram anchoring; adapts a published 2D encoder to one's own images.
    jepa: dense latent prediction with deep supervision of V-JEPA 2.1, for vision transformers in 2D and 3D."""
    mask_ratio: float = Field(0.6, gt=0, lt=1)
    mask_block_px: int = Field(32, ge=8)
    """Side of the hidden blocks, pixels or voxels. masked hides cubes of volumes, jepa columns through all slices."""
    ema: float = Field(0.996, gt=0, lt=1)
    pixel_weight: float = Field(1.0, ge=0)
    """masked: weight of the pixels."""
    latent_weight: float = Field(1.0, ge=0)
    """masked: weight of the latents."""
    prototypes: int = Field(1024, ge=2)
    """dino: prototypes of each head; published encoders were trained with tens of thousands."""
    local_crops: int = Field(2, ge=0)
    """dino: small crops of every image, besides two large ones."""
    koleo: float = Field(0.1, ge=0)
    """dino: weight of the spread of images."""
    gram: float = Field(1.0, ge=0)
    """dino: weight of Gram anchoring to the encoder that training starts from; 0 when that is random."""
    predictor_width: int = Field(128, ge=32)
    """jepa: width of the predictor; V-JEPA 2.1 has 384."""
    predictor_depth: int = Field(4, ge=1)
    """jepa: its blocks; V-JEPA 2.1 has 12 to 24."""
    context_weight: float = Field(0.5, ge=0)
    """jepa: weight of visible patches."""


class GlintConfig(Settings):
    """A whole recipe."""

    schema_version: Literal[1] = 1
    name: str = "glint"
    data: DataConfig = DataConfig()  # pyright: ignore[reportCallIssue]
    vision: VisionConfig = VisionConfig()  # pyright: ignore[reportCallIssue]
    text: TextConfig = TextConfig()  # pyright: ignore[reportCallIssue]
    align: AlignConfig = AlignConfig()  # pyright: ignore[reportCallIssue]
    loss: LossConfig = LossConfig()  # pyright: ignore[reportCallIssue]
    optim: OptimConfig = OptimConfig()  # pyright: ignore[reportCallIssue]
    train: TrainConfig = TrainConfig()  # pyright: ignore[reportCallIssue]
    pretrain: PretrainConfig = PretrainConfig()  # pyright: ignore[reportCallIssue]

    @model_validator(mode="after")
    def _targets_come_from_somewhere(self) -> "GlintConfig":
        if self.loss.mix_targets == "start" and not self.train.start:
            raise ValueError("loss.mix_targets=start needs a model to go on from: name it in train.start")
        return self

    @model_validator(mode="after")
    def _denials_have_one_reader(self) -> "GlintConfig":
        if self.text.negation == "rules" and (self.loss.polarity > 0 or self.loss.negated == "contrast"):
            raise ValueError(
                "text.negation=rules encodes a denial as what it denies, so that nothing can be learnt from denials: "
                "set loss.polarity=0 and loss.negated=polarity, or text.negation=encoder"
            )
        return self
