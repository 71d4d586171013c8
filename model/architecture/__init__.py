"""The model: configuration, layers, checkpoints."""
