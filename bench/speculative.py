"""What guessed tokens bring: ``python -m bench.speculative MODEL SHARDS REASONING [--drafter FOLDER] [--json FILE]``.

MODEL is the folder ``model`` of an artifact, SHARDS and REASONING are artifacts of the same run. Guesses are those of
its own layer, where its recipe had ``pretrain.model.num_nextn_predict_layers: 1`` (and ``pretrain.model.q_lora_rank``,
without which llama.cpp has no graph for it), and those of a drafter, the folder ``model`` of a smaller one. Held-out
problems and the beginnings of held-out text are gone on with, the likeliest token each time, by our own engine and by
llama.cpp: with and without guesses in turns, one prompt after another, so that what else the machine does falls on
both. Told is how many guesses were right, how many answers were the same tokens, and how much faster it went.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from bench.table import Row, print_table, row, write_rows
from model.architecture.cache import KVCache
from model.architecture.checkpoint import load_model
from model.architecture.transformer import Transformer
from model.generation.decode import Predictor, StepDecoder
from model.generation.past import Past
from model.generation.speculative import Ahead, Drafted
from model.release.gguf import draft_units, undraftable, write_gguf
from model.release.quantized import Unit, make_plan
from model.release.rounding import rounded
from model.release.rows import text_rows
from model.release.units import Role
from model.release.verify import Llama
from model.sections import Precision
from pipeline.reasoning.chats import read_conversations
from pipeline.reasoning.problems import read_tasks
from pipeline.tokens.chat import chat_format, read_tokenizer

__all__ = ["main"]

ACCEPTED, FASTER = 0.70, 1.5
"""What is asked: share of guesses that are right, and times the speed of plain decoding."""
PROMPT = 48
"""Tokens of a text that are given."""


@dataclass
class Told:
    """Of one way to guess, over all prompts."""

    plain: list[float] = field(default_factory=list)
    """Seconds without guesses, by prompt."""
    ahead: list[float] = field(default_factory=list)
    drafted: Drafted = field(default_factory=Drafted)
    tokens: int = 0
    same: int = 0
    """Prompts whose answers were the same."""

    def rows(self, name: str, plain: str) -> list[Row]:
        """The table's rows."""
        ratio = sum(self.plain) / sum(self.ahead)
        by_prompt = [one / other for one, other in zip(self.plain, self.ahead, strict=True)]
        return [
            row(f"{name}: right", "of 1", self.drafted.acceptance, {}, ACCEPTED),
            row(f"{name}: same answers", "of 1", self.same / len(self.plain), {}, 1.0),
            row(
                f"{name}: speed",
                "tokens/s",
                self.tokens / sum(self.ahead),
                {f"{plain} alone": self.tokens / sum(self.plain)},
                FASTER,
            ),
            row(f"{name}: times as fast, median prompt", "times", median(by_prompt), {}, None),
            row(f"{name}: times as fast, in all", "times", ratio, {}, FASTER),
        ]


Written = tuple[list[int], float]
"""Tokens, and the seconds that they took."""


class Own:
    """Our own engine's decoding, without the text around it."""

    def __init__(self, model: Transformer, stop: int) -> None:
        self.model, self.stop = model, stop
        self.decoder, self.predictor = StepDecoder(model), Predictor(model)

    @torch.inference_mode()
    def write(self, prompt: list[int], new: int, most: int, told: Drafted) -> Written:
        """The answer to `prompt`, with `most` guesses at a time; its reading is not timed, that of the layer is."""
        cache = KVCache(self.model.config, 1, len(prompt))
        states = self.model.hidden(torch.tensor([prompt]), cache=cache)[0]
        past = Past(self.model, cache, torch.zeros(1, dtype=torch.int64), len(prompt) + new)
        logits = self.model.lm_head(states[-1]).float()

        def likeliest(logits: Tensor, place: int) -> int:
            return int(logits.numpy().argmax())

        def step(token: int) -> Tensor:
            return self.decoder(torch.tensor([token]), past)[0]

        began, tokens = time.perf_counter(), list[int]()
        ahead = Ahead(self.decoder, self.predictor, past, prompt, states, most, likeliest, told) if most else step
        while len(tokens) < new:
            tokens.append(likeliest(logits, 0))
            if tokens[-1] == self.stop or len(tokens) == new:
                break
            logits = ahead(tokens[-1])
        return tokens, time.perf_counter() - began


def own(engine: Own, prompts: Sequence[list[int]], new: int, most: int) -> Told:
    """Our engine with and without guesses, in turns."""
    told = Told()
    for number, prompt in enumerate(prompts):
        plain = engine.write(prompt, new, 0, told.drafted)
        ahead = engine.write(prompt, new, most, told.drafted)
        if number:  # the first warms up
            _note(told, plain, ahead)
        else:
            told.drafted = Drafted()
    return told


def _note(told: Told, plain: Written, ahead: Written) -> None:
    told.plain.append(plain[1])
    told.ahead.append(ahead[1])
    told.tokens += len(plain[0])
    told.same += plain[0] == ahead[0]


def llama(path: Path, drafter: Path, prompts: Sequence[list[int]], new: int, most: int) -> Told:
    """llama.cpp with and without guesses, in turns."""
    context = max(map(len, prompts)) + new + 16
    engines = Llama(path, context=context), Llama(path, context=context, drafts=most, drafter=drafter)
    told = Told()
    for number, prompt in enumerate(prompts):
        found = [engine.written(prompt, new, whole=False) for engine in engines]
        plain, ahead = ((each.tokens, each.timings["predicted_ms"] / 1000) for each in found)
        if number:
            _note(told, plain, ahead)
            told.drafted.guessed += int(found[1].timings.get("draft_n", 0))
            told.drafted.right += int(found[1].timings.get("draft_n_accepted", 0))
    return told


def _units(model: Transformer, precision: Precision) -> dict[str, Unit]:
    return rounded(model, make_plan(model, dict.fromkeys((Role.EXPERTS, Role.LINEAR, Role.EMBEDDINGS), precision)))


def _files(model: Transformer, tokenizer: Path, folder: Path, precision: Precision) -> tuple[Path, Path | None]:
    """The GGUF file of a model, and that of its layer of multi-token prediction, where llama.cpp can use it."""
    stored = _units(model, precision)
    layers = tuple(f"model.layers.{number}." for number in model.config.prediction_layers)
    plain = {name: unit for name, unit in stored.items() if not layers or not name.startswith(layers)}
    path, drafter = folder / f"model-{precision.value}.gguf", folder / f"mtp-{precision.value}.gguf"
    write_gguf(path, model.config.model_copy(update={"num_nextn_predict_layers": 0}), plain, tokenizer, name="bench")
    if undraftable(model.config):
        return path, None
    write_gguf(drafter, model.config, draft_units(model.config, stored), tokenizer, name="bench")
    return path, drafter


def _texts(shards: Path, count: int) -> list[list[int]]:
    """Beginnings of held-out rows."""
    return text_rows(shards, "validation", count, 0).tokens_BT[:, :PROMPT].tolist()


def measure(
    model: Path, domains: dict[str, list[list[int]]], new: int, guesses: Iterable[int], smaller: Path | None
) -> list[Row]:
    """All of the table."""
    whole = load_model(model, prediction=True).requires_grad_(False)
    stop = chat_format(read_tokenizer(model)).eos
    ways: dict[str, Callable[[list[list[int]], int], Told]] = {}
    if whole.config.prediction_layers:
        engine = Own(whole, stop)
        ways["own"] = lambda prompts, most: own(engine, prompts, new, most)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for precision in (Precision.Q8_0, Precision.Q4_0):
            (folder := Path(scratch) / precision.value).mkdir()
            path, drafter = _files(whole, model, folder, precision)
            ways |= _llama_ways(path, drafter, precision, new, smaller, folder)
        for way, tell in ways.items():
            for domain, prompts in domains.items():
                for most in guesses:
                    found = tell(prompts, most).rows(f"{way}, {domain}, {most} at a time", way)
                    print_table(found)
                    rows += found
    return rows


def _llama_ways(
    path: Path, drafter: Path | None, precision: Precision, new: int, smaller: Path | None, folder: Path
) -> dict[str, Callable[[list[list[int]], int], Told]]:
    ways: dict[str, Callable[[list[list[int]], int], Told]] = {}
    if drafter is not None:
        ways[f"llama.cpp {precision.value}"] = lambda prompts, most: llama(path, drafter, prompts, new, most)
    if smaller is not None:
        (small := folder / "smaller").mkdir()
        guesser, _ = _files(load_model(smaller), smaller, small, precision)
        ways[f"llama.cpp {precision.value}, smaller model"] = lambda prompts, most: llama(
            path, guesser, prompts, new, most
        )
    return ways


def main() -> None:
    """Measure, print the table as it comes, and with ``--json`` write its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("shards", type=Path)
    parser.add_argument("reasoning", type=Path)
    parser.add_argument("--conversations", type=Path, help="artifact of that stage, whose held-out questions are asked")
    parser.add_argument("--domains", nargs="+", help="problems, conversations, text: those that are named")
    parser.add_argument("--drafter", type=Path, help="folder of a smaller model")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=96, help="most tokens of an answer")
    parser.add_argument("--guesses", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where the rows go")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    tokenizer = read_tokenizer(chosen.model)
    problems = islice(read_tasks(chosen.reasoning / "test.jsonl"), chosen.prompts + 1)
    chat = chat_format(tokenizer)
    domains = {"problems": [chat.question(problem["question"]) for problem in problems]}
    if chosen.conversations is not None:
        talks = read_conversations(chosen.conversations / "validation.jsonl")
        asked = dict.fromkeys(talk["messages"][0]["content"] for talk in talks)
        domains["conversations"] = [chat.question(text) for text in islice(asked, chosen.prompts + 1)]
    domains["text"] = _texts(chosen.shards, chosen.prompts + 1)
    domains = {name: prompts for name, prompts in domains.items() if name in (chosen.domains or domains)}
    rows = measure(chosen.model, domains, chosen.tokens, chosen.guesses, chosen.drafter)
    write_rows(rows, chosen.json)


if __name__ == "__main__":
    main()
