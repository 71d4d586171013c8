"""Layer 2: the DeepSeek-style model, its training, reinforcement learning, quantization and export."""
