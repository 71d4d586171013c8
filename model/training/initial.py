"""Initial weights beyond the published flat normal, drawn by name, and how strong the layers are that they make.

DeepSeek's papers draw every matrix from one normal of standard deviation 0.006. Here a matrix may be scaled by the
width that it reads (`fan_in`: d^-1/2, torch's and OLMo-core's), what writes into the residual stream by the depth
(1 / sqrt(2 L), GPT-2), and embeddings may have unit variance (torchtitan). Each weight has a generator of its own,
seeded by seed and name: models that share a weight's name and shape share its initial value, whatever else they hold,
so seeds pair the arms of a study in more than their data.

Shapes: T tokens, D hidden, E experts, F width.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from model.architecture.config import ModelConfig
from model.architecture.transformer import Transformer
from model.sections import InitialWeights, Spread

__all__ = ["branch_strengths", "draw_weights"]

OUTPUTS = ("o_proj", "down_proj")
"""What writes into the residual stream."""
PROBE_TOKENS = 512
"""That the strength of a branch is measured on."""


@torch.no_grad()
def draw_weights(model: Transformer, choice: InitialWeights, seed: int) -> None:
    """Draw the matrices of `model` anew, in place, as `choice` says; where it is the default nothing is drawn.

    Raises:
        ValueError: unit embeddings and an output layer that shares them.
    """
    if choice == InitialWeights():
        return
    if choice.unit_embeddings and model.config.tie_word_embeddings:
        raise ValueError("initial.unit_embeddings needs an output layer of its own: set tie_word_embeddings to false")
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            parameter.normal_(std=_deviation(name, parameter, choice, model.config), generator=_generator(name, seed))


def _generator(name: str, seed: int) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _deviation(name: str, parameter: Tensor, choice: InitialWeights, config: ModelConfig) -> float:
    """Standard deviation of one matrix, or of a stack of them [E, F, D]."""
    if "embed_tokens" in name and choice.unit_embeddings:
        return 1.0
    is_flat = choice.spread is Spread.FLAT or "embed_tokens" in name  # an embedding reads no width
    deviation = config.initializer_range if is_flat else float(parameter.shape[-1] ** -0.5)
    if choice.depth_scaled and any(part in name for part in OUTPUTS):
        deviation /= (2 * config.num_hidden_layers) ** 0.5
    return deviation


@torch.no_grad()
def branch_strengths(config: ModelConfig, choice: InitialWeights, seed: int = 0) -> list[float]:
    """Root mean square, by layer, of what the feed-forward part of each adds to unit inputs before any training.

    Arms of a study whose branches differ begin as differently deep models, and want learning rates of their own.
    """
    torch.manual_seed(seed)
    model = Transformer(config)
    draw_weights(model, choice, seed)
    generator = torch.Generator().manual_seed(seed)
    x_1TD = torch.randn(1, PROBE_TOKENS, config.hidden_size, generator=generator)
    layers: list[nn.Module] = list(model.model.layers[: config.num_hidden_layers])
    return [float(layer.mlp(x_1TD).square().mean().sqrt()) for layer in layers]  # type: ignore[operator]
