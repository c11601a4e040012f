"""DINOv3 vision transformer (transformers' class) as a dense encoder."""

from torch import Tensor
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from glint.config.schema import VisionConfig
from glint.model.vision.base import EncoderOutput, ImageEncoder, check_size


class DINOv3ViT(ImageEncoder):
    """DINOv3 ViT with 4 registers; RoPE augmentation is off, so that train and eval features agree.

    Levels are the outputs of the blocks at 1/4, 2/4 and 3/4 of the depth, patch tokens only
    (the last quarter is left free to move towards language).
    """

    def __init__(self, cfg: VisionConfig) -> None:
        super().__init__()
        self.width, self.stride_px, self.channels = cfg.width, cfg.patch_px, cfg.in_channels
        self.net = DINOv3ViTModel(
            DINOv3ViTConfig(
                patch_size=cfg.patch_px,
                hidden_size=cfg.width,
                intermediate_size=4 * cfg.width,
                num_hidden_layers=cfg.depth,
                num_attention_heads=cfg.heads,
                num_register_tokens=4,
                num_channels=cfg.in_channels,
                pos_embed_rescale=None,
            )
        )
        self.net.embeddings.mask_token.requires_grad_(False)  # masking is done in pixels (train/pretrain.py)
        self.prefix = 1 + int(self.net.config.num_register_tokens)
        self.level_indices = tuple(max(1, round(cfg.depth * part / 4)) for part in (1, 2, 3))

    def forward(self, images: Tensor) -> EncoderOutput:
        """See ImageEncoder."""
        grid = check_size(images, self.stride_px)
        output = self.net(self.normalise(images, self.channels), output_hidden_states=True)
        # hidden_states[0] is the embedding, hidden_states[i] the output of block i.
        levels = tuple(output.hidden_states[i][:, self.prefix :] for i in self.level_indices)
        return EncoderOutput(output.last_hidden_state[:, self.prefix :], grid, levels)
