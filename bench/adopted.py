"""Fine-tuning of a model that exists, beside its peers: ``python -m bench.adopted [--quick] [--json FILE] [GGUF]``.

SmolLM2-135M-Instruct (the weights of the preset `adopt`), the same packed rows of solved sums in its own chat
template, loss on the answers alone, fp32, forward + backward + AdamW, two threads. Peers where they are installed:
transformers (`make setup-tests`) in a plain loop, and TRL's SFTTrainer (``pip install --target FOLDER --no-deps trl
accelerate``, on ``PYTHONPATH``). Contenders have processes of their own and take turns. Tokens per second of the rows,
processor seconds per step and the most memory of each.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from bench.contender import Cost, beside, contend
from bench.table import Row, bench_parser, row, show

BATCH, LENGTH, ROWS = 4, 256, 64
WEIGHTS = Path("data/adopt/SmolLM2-135M-Instruct.Q4_1.gguf")
PEERS = {"ours": "transformers", "ours, recomputing": "TRL"}
"""Each of ours with the peer that does as it does: TRL recomputes activations unless it is told otherwise."""
SPEED, MEMORY = 1.2, 1.0


def main() -> None:
    """Measure and print; with ``--json`` write the rows."""
    parser = bench_parser(__doc__, "one round instead of five")
    parser.add_argument("weights", nargs="?", type=Path, default=WEIGHTS)
    parser.add_argument("--contender", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.contender:
        name, folder = chosen.contender
        contend(lambda: _contender(name, Path(folder)))
        return
    rows = _measure(chosen.weights, 1 if chosen.quick else 5)
    show(rows, chosen.json)


def _measure(weights: Path, rounds: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as close:
        folder = Path(scratch)
        _prepare(weights, folder)
        peers = [name for name in PEERS.values() if importlib.util.find_spec(name.lower())]
        steps = {name: beside("bench.adopted", name, folder, close) for name in [*PEERS, *peers]}
        told: dict[str, list[Cost]] = {name: [] for name in steps}
        for number in range(rounds + 1):
            for name, step in steps.items():
                found = step(number)
                if number:
                    told[name].append(found)

    def middle(name: str, key: Literal["wall", "cpu", "memory"]) -> float | None:
        return statistics.median(turn[key] for turn in told[name]) if name in told else None

    rows = []
    for ours, peer in PEERS.items():
        wall, cpu, memory = (middle(ours, key) or 0.0 for key in ("wall", "cpu", "memory"))
        theirs = middle(peer, "wall")
        speed = None if theirs is None else BATCH * LENGTH / theirs
        rows += [
            row(f"SmolLM2-135M, {ours}", "tokens/s", BATCH * LENGTH / wall, {peer: speed}, SPEED),
            row(f"processor time of a step, {ours}", "s", cpu, {peer: middle(peer, "cpu")}, 1 / SPEED, most=True),
            row(f"most memory, {ours}", "GB", memory, {peer: middle(peer, "memory")}, MEMORY, most=True),
        ]
    return rows


def _prepare(weights: Path, folder: Path) -> None:
    """The checkpoint that all load, and the rows that all learn."""
    import torch

    from model.architecture.checkpoint import load_model, save_model
    from model.architecture.vocabulary import fit_vocabulary
    from model.training.chats import ChatBatches, encode_chats
    from pipeline.sections import TokenizerConfig
    from pipeline.tokens.adopt import adopt
    from pipeline.tokens.chat import chat_format, read_tokenizer

    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    adopt(TokenizerConfig(adopt=(str(weights),)), tokenizer)
    save_model(fit_vocabulary(load_model(weights), weights, tokenizer), folder / "model", tokenizer)
    words = read_tokenizer(tokenizer)
    sums = [(a, b, c) for a in range(10, 20) for b in range(10, 20) for c in range(10, 20)]
    tasks: list[Any] = [
        {"question": f"Calculate {a} + {b} + {c}.", "reasoning": f"{a}+{b}={a + b} {a + b}+{c}={a + b + c}",
         "answer": str(a + b + c)}
        for a, b, c in sums
    ]  # fmt: skip
    packed = ChatBatches(encode_chats(words, tasks), LENGTH, ROWS, chat_format(words).pad, 0).batch(0, 0, 1)
    torch.save((packed.tokens_BT, packed.documents_BT, packed.loss_mask_BT), folder / "rows.pt")


def _rows(folder: Path) -> Any:
    import torch

    return torch.load(folder / "rows.pt", weights_only=True)


def _ours(folder: Path, *, recomputes: bool = False) -> Callable[[int], None]:
    from model.architecture.checkpoint import load_model
    from model.sections import TrainingConfig
    from model.training.batches import TrainingBatch
    from model.training.engine import make_engine

    model = load_model(folder / "model").train()
    model.recomputes = recomputes
    engine = make_engine(model, TrainingConfig(batch_size=BATCH, balance_loss=0.0))
    columns = _rows(folder)

    def step(number: int) -> None:
        place = number * BATCH % ROWS
        tokens, documents, learned = (column[place : place + BATCH] for column in columns)
        batch = TrainingBatch(tokens, documents, learned)
        engine.watch.begin(len(tokens))
        (loss,) = engine.losses(batch)
        engine.watch.take_loss()
        engine.backward(loss / int(batch.loss_tokens_BT().sum()), last=True)
        engine.step(1e-5)
        engine.watch.finish_step(None, 0.0)

    return step


def _labels(tokens: Any, learned: Any) -> Any:
    return tokens.masked_fill(~learned, -100)


def _transformers(folder: Path) -> Callable[[int], None]:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5, (0.9, 0.95), weight_decay=0.1, fused=True)
    columns = _rows(folder)

    def step(number: int) -> None:
        place = number * BATCH % ROWS
        tokens, _, learned = (column[place : place + BATCH] for column in columns)
        model(input_ids=tokens, labels=_labels(tokens, learned), use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _trl(folder: Path) -> Callable[[int], None]:
    """One call of `train` per step: TRL's own loop, over rows that are tokens already."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    tokens, _, learned = _rows(folder)
    data = Dataset.from_dict({"input_ids": tokens.tolist(), "labels": _labels(tokens, learned).tolist()})
    settings = SFTConfig(
        str(folder / "trl"), per_device_train_batch_size=BATCH, max_steps=1, learning_rate=1e-5, use_cpu=True,
        report_to=[], save_strategy="no", logging_strategy="no", dataset_kwargs={"skip_prepare_dataset": True},
        max_length=LENGTH, disable_tqdm=True, bf16=False,
    )  # fmt: skip
    trainer = SFTTrainer(
        model, args=settings, train_dataset=data, processing_class=AutoTokenizer.from_pretrained(folder / "model")
    )

    def step(number: int) -> None:
        trainer.train()

    return step


def _contender(name: str, folder: Path) -> Callable[[int], None]:
    recomputing = partial(_ours, recomputes=True)
    made = {"ours": _ours, "ours, recomputing": recomputing, "transformers": _transformers, "TRL": _trl}
    return made[name](folder)


if __name__ == "__main__":
    main()
