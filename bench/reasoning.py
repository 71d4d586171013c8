"""What reasoning costs and teaches: ``python -m bench.reasoning [--quick] [--seeds N] [--part P] [--json FILE]``.

Three parts, all by default: `generation` (answers per second against transformers on the same weights and batch),
`step` (where the time of a GRPO step goes) and `learning` (`bench.learning`: accuracy at each stage of the ladder, over
seeds, on held-out problems). Ours and the peer alternate within one run. `learning` keeps its stages in `--folder`, so
that a run that was cut goes on where it was.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.learning import LAPTOP, NEW_TOKENS, QUICK, climb
from bench.table import Row, bench_parser, row, show

__all__ = ["main"]

PARTS = ("generation", "step", "learning")


def main() -> None:
    """Measure, print a table, and with ``--json`` write its rows."""
    parser = bench_parser(__doc__, "everything tiny: does it run, not what it shows")
    parser.add_argument("--seeds", type=int, default=0, help="of the ladder; 3, or 1 when quick")
    parser.add_argument("--part", choices=PARTS, action="append", help="one part, may be repeated")
    parser.add_argument("--folder", type=Path, help="where the ladder's stages are kept")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    parts = chosen.part or PARTS
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.folder or Path(scratch)
        if "learning" in parts:
            rows += learning(chosen.seeds or (1 if chosen.quick else 3), folder, quick=chosen.quick)
        model, tasks = _speaker(folder, scratch=Path(scratch), quick=chosen.quick)
        if "generation" in parts:
            rows += generation(model, tasks, Path(scratch), quick=chosen.quick)
        if "step" in parts:
            rows += step_by_part(model, tasks, quick=chosen.quick)
    show(rows, chosen.json)


def _speaker(folder: Path, *, scratch: Path, quick: bool) -> tuple[Path, Path]:
    """A fine-tuned model whose answers end, and the problems it knows: the ladder's first, or one made for it."""
    made = folder / "seed-0"
    if not (made / "sft" / "metrics.json").exists():
        made = scratch / "speaker"
        for name, _ in climb(QUICK if quick else LAPTOP, 0, made, print):
            if name == "sft":
                break
    return made / "sft" / "model", made


def generation(model_folder: Path, made: Path, scratch: Path, *, quick: bool) -> list[Row]:
    """Tokens per second of rollouts, with transformers on the same checkpoint, prompts and number of rows."""
    from tokenizers import Tokenizer

    from model.architecture.checkpoint import load_model
    from model.generation.generate import Sampling, generate
    from pipeline.reasoning.problems import read_tasks
    from pipeline.tokens.chat import chat_format

    tokenizer = Tokenizer.from_file(str(made / "tokenizer" / "tokenizer.json"))
    chat = chat_format(tokenizer)
    stop, pad = chat.eos, chat.pad
    questions = [row["question"] for row in read_tasks(made / "reasoning" / "test.jsonl")][: 2 if quick else 8]
    prompts = [chat.question(question) for question in questions for _ in range(8)]
    ours = load_model(model_folder)
    peer = _transformers(model_folder)
    rows = []
    for name, limit, end, sampled in (
        ("rollout of a fine-tuned model, sampled, answers end", NEW_TOKENS * 4, stop, True),
        ("greedy, every row to the limit", NEW_TOKENS, -1, False),
    ):
        most = 16 if quick else limit

        def run_ours(most: int = most, end: int = end, sampled: bool = sampled) -> int:
            sampling = Sampling(most, temperature=1.0 if sampled else 0.0)
            # rollouts want to know how likely their tokens were, which the peer does not say
            found = generate(ours, prompts, sampling, stop=end, batch_size=len(prompts), logprobs=sampled)
            return sum(len(completion.tokens) for completion in found)

        def run_peer(most: int = most, end: int = end, sampled: bool = sampled) -> int:
            assert peer is not None
            longest = max(map(len, prompts))
            tokens = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
            settings: dict[str, Any] = {"do_sample": sampled, "max_new_tokens": most, "pad_token_id": pad}
            settings |= {"temperature": 1.0, "top_k": 0, "top_p": 1.0} if sampled else {}
            with torch.inference_mode():
                whole = peer.generate(
                    tokens, attention_mask=(tokens != pad).long(), eos_token_id=end if end >= 0 else None, **settings
                )
            count = 0
            for written in whole[:, longest:].tolist():
                count += written.index(end) + 1 if end in written else len(written)
            return count

        speeds = _alternate({"ours": run_ours} | ({"transformers": run_peer} if peer is not None else {}), quick)
        rows.append(row(f"generation: {name}", "tokens/s", speeds.pop("ours"), speeds or {"transformers": None}, 3.0))
    if peer is not None:
        greedy = generate(ours, prompts[::8], Sampling(16), stop=-1)
        tokens = torch.tensor([prompts[0]])
        with torch.inference_mode():
            theirs = peer.generate(
                tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=16, do_sample=False, eos_token_id=None,
                pad_token_id=pad,
            )[0, len(prompts[0]) :].tolist()  # fmt: skip
        rows.append(
            row("generation: greedy tokens equal to the peer's", "of 16", _equal(greedy[0].tokens, theirs), {}, 16)
        )
    return rows


def _equal(left: list[int], right: list[int]) -> float:
    return float(sum(a == b for a, b in zip(left, right, strict=True)))


def _transformers(folder: Path) -> Any:
    """The peer, or None where it is not installed."""
    if importlib.util.find_spec("transformers") is None:
        return None
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def _alternate(runs: dict[str, Callable[[], int]], quick: bool) -> dict[str, float | None]:
    """Median tokens per second of each, taken in turns."""
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(2 if quick else 6):
        for name, run in runs.items():
            started = time.perf_counter()
            tokens = run()
            if turn:  # the first warms up
                speeds[name].append(tokens / (time.perf_counter() - started))
    return {name: statistics.median(found) for name, found in speeds.items()}


def step_by_part(model_folder: Path, made: Path, *, quick: bool) -> list[Row]:
    """Seconds of a GRPO step: writing and marking answers, the update, and of these the rewards alone."""
    from tokenizers import Tokenizer

    from model.architecture.checkpoint import load_model
    from model.finetune_sections import GrpoConfig
    from model.rl.policy import Policy
    from model.rl.rewards import reward
    from model.rl.rollout import roll_out
    from pipeline.reasoning.problems import read_tasks
    from pipeline.reasoning.scoring import mark_answers

    tokenizer = Tokenizer.from_file(str(made / "tokenizer" / "tokenizer.json"))
    tasks = read_tasks(made / "reasoning" / "train.jsonl")
    config = GrpoConfig(questions=4 if quick else 16, group_size=8, max_new_tokens=NEW_TOKENS)
    policy = Policy(load_model(model_folder), config)
    spent: dict[str, list[float]] = {"rollout": [], "rewards": [], "update": []}
    answers = 0
    for step in range(2 if quick else 6):
        clock = [time.perf_counter()]
        rollout = roll_out(policy, tokenizer, tasks, config, step)
        clock.append(time.perf_counter())
        mark_answers([solution.answer for solution in rollout.solutions], rollout.rows)
        for solution in rollout.solutions:
            reward(solution, config)
        clock.append(time.perf_counter())
        policy.update(rollout.answers, 1e-6)
        clock.append(time.perf_counter())
        if step:
            for name, start, end in zip(spent, clock, clock[1:], strict=False):
                spent[name].append(end - start)
            answers = len(rollout.answers)
    parts = {name: statistics.median(found) for name, found in spent.items()}
    whole = parts["rollout"] + parts["update"]
    rows = [row(f"GRPO step of {answers} answers: {name}", "s", parts[name], {}, None) for name in parts]
    return [*rows, row(f"GRPO step of {answers} answers: answers per second", "1/s", answers / whole, {}, None)]


def learning(seeds: int, folder: Path, *, quick: bool) -> list[Row]:
    """The ladder over seeds: what the project promises of it, in the mean, with every seed's value beside it."""
    scale = QUICK if quick else LAPTOP
    found = [dict(climb(scale, seed, folder / f"seed-{seed}", print)) for seed in range(seeds)]

    def accuracy(name: str) -> list[float]:
        return [100 * stages[name]["evaluation"][f"accuracy_{name}"] for stages in found]

    def gain(of: str, over: str) -> list[float]:
        return [a - b for a, b in zip(accuracy(of), accuracy(over), strict=True)]

    def over_seeds(name: str, unit: str, values: list[float], target: float | None, *, most: bool = False) -> Row:
        entry = row(f"{name} ({len(values)} seeds)", unit, statistics.fmean(values), {}, target, most=most)
        return entry | {"by_seed": [round(value, 4) for value in values]}

    names = [name for name, stage in found[0].items() if "evaluation" in stage]
    rows = [over_seeds(f"accuracy: {name}", "%", accuracy(name), None) for name in names]
    forgotten = [100 * stages["continued"]["forgetting"] for stages in found]
    learned = [
        100
        * (1 - stages["continued"]["bits_per_byte_domain_after"] / stages["continued"]["bits_per_byte_domain_before"])
        for stages in found
    ]
    shape = [100 * stages["grpo"]["evaluation"]["format_rate_grpo"] for stages in found]
    rows += [
        over_seeds("continued: domain bits per byte fall by", "%", learned, 0.0),
        over_seeds("continued: general bits per byte rise by", "%", forgotten, 2.0, most=True),
        over_seeds("SFT over base", "points", gain("sft", "continued"), 0.0),
        over_seeds("GRPO over SFT", "points", gain("grpo", "sft"), 10.0),
        over_seeds("format after GRPO", "%", shape, 95.0),
        over_seeds("R1's flow over SFT alone", "points", gain("grpo_second", "sft"), 0.0),
        over_seeds("R1's flow over SFT on worked solutions alone", "points", gain("grpo_second", "sft_chains"), 0.0),
        over_seeds("student: distilled over reinforced alone", "points", gain("distill", "student_rl"), 0.0),
        over_seeds("student: its own answers over distilled", "points", gain("on_policy", "distill"), 8.0),
        over_seeds("student: distilled over cold start and RL", "points", gain("distill", "student_sft_rl"), 0.0),
    ]
    return rows


if __name__ == "__main__":
    main()
