"""What a checkpoint is used for: score it, predict with it, export it."""
