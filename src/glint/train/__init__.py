"""Training: one loop for both tasks (alignment, self-supervised start), checkpoints, log."""
