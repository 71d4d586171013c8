"""What a loss does not tell: the numbers are those of a model that copies, and of one that does not."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from model.architecture.config import Family
from model.training.diagnosis import Diagnosis
from model.training.engine import SingleEngine
from tests.model.conftest import tiny_model
from tests.model.synthetic import CountingBatches, small_training


class _Copying(SingleEngine):
    """Predicts the token that followed the last time, firmly, and else anything."""

    def forward(self, tokens_BT: Tensor, documents_BT: Tensor | None, positions_BT: Tensor | None = None) -> Tensor:
        logits = torch.zeros(*tokens_BT.shape, 97)
        for row, tokens in enumerate(tokens_BT.tolist()):
            following: dict[int, int] = {}
            for place, (token, after) in enumerate(zip(tokens, [*tokens[1:], 0], strict=True)):
                if token in following:
                    logits[row, place, following[token]] = 10.0
                following[token] = after
        return logits


def test_copying_is_told_from_not_copying() -> None:
    torch.manual_seed(0)
    config, batches = small_training(), CountingBatches(rows=2, length=32)
    plain = SingleEngine(tiny_model(Family.DEEPSEEK), config)
    copying = _Copying(tiny_model(Family.DEEPSEEK), config)
    measure = Diagnosis(batches, 97, config)
    before, after = measure(plain, 0), measure(copying, 0)
    assert list(before) == ["loss_part_1", "loss_part_2", "loss_part_3", "loss_part_4", "induction"]
    assert abs(before["induction"]) < 1.0
    assert after["induction"] > 2.5


def test_parts_average_to_the_loss() -> None:
    config, batches = small_training(), CountingBatches(rows=4, length=34)
    engine = SingleEngine(tiny_model(), config)
    row = Diagnosis(batches, 97, config)(engine, 0)
    batch = batches.batch(0, 0, 1)
    learned = batch.loss_tokens_BT()
    with torch.no_grad():
        logits = engine.forward(batch.tokens_BT, batch.documents_BT)
    losses = F.cross_entropy(logits[:, :-1][learned], batch.tokens_BT[:, 1:][learned], reduction="none")
    counts = [int(part.sum()) for part in learned.chunk(4, 1)]
    mean = sum(row[f"loss_part_{n}"] * count for n, count in enumerate(counts, 1)) / sum(counts)
    torch.testing.assert_close(torch.tensor(mean), losses.double().mean(), check_dtype=False)
