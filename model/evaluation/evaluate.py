"""The stages `evaluate` and `evaluate_release`: what each checkpoint can do, and what is served where that is another
model than the last of them, measured on what none of them was trained on.

All are asked the same questions of the test split in the same chat format, read the same held-out text of every source,
take the same further suites, and continue the same beginnings. A base model has never seen the chat format, and is
judged all the same: that is where fine-tuning starts from.

Artifact: ``evaluation.json`` (which says, too, what was removed from the training text) and ``samples.html``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, TypeAlias, cast

from infra import events
from infra.errors import UserError
from model.evaluation.measures import majority, mean_interval, pass_at_k, wilson
from model.evaluation.sections import EvaluateConfig, EvaluateReleaseConfig, Suite, SuiteKind
from model.facts.evaluation import (
    FILE,
    RELEASE,
    CheckpointMarks,
    Continuation,
    EvaluateMetrics,
    Evaluation,
    Marks,
    Sample,
    SuiteMarks,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model.architecture.transformer import Transformer
    from model.evaluation.harness import Harness
    from model.generation.solve import Solution
    from model.training.reading import Reading
    from model.training.text_loss import TextLoss
    from pipeline.dedup.removed import RemovedSet
    from pipeline.reasoning.problems import ChoiceProblem, Problem

Problems: TypeAlias = "list[Problem] | list[ChoiceProblem] | Harness"

__all__ = ["evaluate", "evaluate_release"]

CHAT_SHARE = 0.5
"""Share of well-formed answers from which on a model is taken to speak the chat format."""


def evaluate(config: EvaluateConfig, inputs: Mapping[str, Path], out_dir: Path) -> EvaluateMetrics:
    """Measure the checkpoints among `inputs`, in their order; shares come with the limits of their 95 % interval.

    Raises:
        UserError: an input that is no artifact of its stage, a suite that cannot be read.
    """
    from model.architecture.checkpoint import load_model

    models = {name: partial(load_model, inputs[name] / "model") for name in _checkpoints_among(inputs)}
    return _examine(config, inputs, models, out_dir)


def evaluate_release(config: EvaluateReleaseConfig, inputs: Mapping[str, Path], out_dir: Path) -> EvaluateMetrics:
    """Measure, as `evaluate` does its checkpoints, the served weights of `quantize`, with the tokenizer that they have.

    Raises:
        UserError: an input that is no artifact of its stage, a suite that cannot be read.
    """
    from model.facts.release import tokenizer_of
    from model.release.quantized import load_quantized

    written = inputs["tokenizer"]
    tokenizer = tokenizer_of(written, inputs["quantize"])
    served = partial(load_quantized, inputs["quantize"] / config.precision.value)
    return _examine(config, {**inputs, "tokenizer": tokenizer, "written": written}, {RELEASE: served}, out_dir)


def _examine(
    config: EvaluateConfig, inputs: Mapping[str, Path], models: Mapping[str, Callable[[], Transformer]], out_dir: Path
) -> EvaluateMetrics:
    """Measure the models that `models` load, in their order."""
    import torch

    from model.architecture.checkpoint import write_json
    from model.architecture.devices import own_device
    from model.evaluation.samples_page import samples_page
    from model.generation.solve import note_what_is_cut
    from model.training.engine import threads_for
    from pipeline.dedup.removed import what_was_removed
    from pipeline.reasoning.problems import read_tasks

    torch.set_num_threads(threads_for(1))
    trained = [row["question"] for row in read_tasks(inputs["reasoning"] / "train.jsonl")]
    exam = _read_exam(config, inputs, trained)
    device = own_device()
    removed = what_was_removed(exam.questions(), trained, inputs.get("decontaminate"))
    checkpoints: dict[str, CheckpointMarks] = {}
    samples: list[Sample] = []
    continuations: list[Continuation] = []
    note_what_is_cut(exam.tokenizer, exam.tasks, "evaluate.max_new_tokens", config.max_new_tokens)
    events.begin("checkpoints", len(models), "checkpoints")
    for name, load in models.items():
        checkpoints[name], answers, endings = exam.ask(name, load().to(device))
        samples += answers
        continuations += endings
        events.advance()
    events.flush()
    found = Evaluation(
        checkpoints=checkpoints,
        order=list(models),
        samples=samples,
        continuations=continuations,
        decontamination=removed,
        training_questions_left_out=exam.left_out,
    )
    write_json(out_dir / FILE, found.written())
    how = _how(config, removed, exam.left_out)
    (out_dir / "samples.html").write_text(samples_page(found, how), encoding="utf-8")
    return _flat(checkpoints)


@dataclass(frozen=True)
class _Exam:
    """What every checkpoint is asked."""

    config: EvaluateConfig
    tokenizer: Tokenizer
    tasks: Sequence[Problem]
    suites: Mapping[str, Problems]
    left_out: dict[str, int]
    """By suite: problems passed over, for a training question is the same."""
    reading: Reading
    """Of held-out text."""

    def questions(self) -> dict[str, list[str]]:
        """By set of problems."""
        asked = {name: _questions(suite) for name, suite in self.suites.items()}
        return {"reasoning/test": [task["question"] for task in self.tasks], **asked}

    def ask(self, name: str, model: Transformer) -> tuple[CheckpointMarks, list[Sample], list[Continuation]]:
        """The marks of the checkpoint `name`, some of its answers, and how it goes on from beginnings."""
        from model.generation.solve import answered
        from model.training.text_loss import Alone

        config, tasks = self.config, self.tasks
        solutions = self._solve(model, tasks)
        marks = _marks(tasks, solutions)
        is_chat = (marks.format_rate or 0.0) >= CHAT_SHARE
        taken = {suite: self._take(model, suite, problems, is_chat) for suite, problems in self.suites.items()}
        found = CheckpointMarks(
            **marks.given(),
            **self._sampled(model),
            **_reading(self.reading.losses(Alone(model)), config.domain),
            **({"suites": taken} if taken else {}),
        )
        samples = [
            Sample(checkpoint=name, correct=solution.score == 1, **answered(task, solution))
            for task, solution in zip(tasks[: config.samples], solutions, strict=False)
        ]
        continuations = [
            Continuation(checkpoint=name, prompt=prompt, text=continuation)
            for prompt, continuation in zip(config.prompts, continued(config, self.tokenizer, model), strict=True)
        ]
        return found, samples, continuations

    def _solve(self, model: Transformer, rows: Sequence[Problem]) -> list[Solution]:
        from model.generation.generate import Sampling
        from model.generation.solve import solve

        config = self.config
        sampling = Sampling(config.max_new_tokens, config.temperature, config.top_p, config.seed)
        return solve(model, self.tokenizer, rows, sampling, batch_size=config.batch_size, programs=config.programs)

    def _sampled(self, model: Transformer) -> dict[str, int | float | list[float]]:
        """Mean accuracy, maj@k and pass@k of sampled answers, each with its interval over the problems."""
        from model.generation.generate import Sampling
        from model.generation.solve import solve_each
        from pipeline.reasoning.scoring import same_answer

        config, many = self.config, self.config.samples_per_problem
        if not many:
            return {}
        asked = self.tasks[: config.sampled_problems]
        sampling = Sampling(config.max_new_tokens, config.sampled_temperature, config.sampled_top_p, config.seed)
        at_once = 4 * config.batch_size
        groups = solve_each(model, self.tokenizer, asked, many, sampling, batch_size=at_once, programs=config.programs)
        right = [sum(solution.score == 1 for solution in group) for group in groups]
        voted = [
            group[majority([solution.value for solution in group], partial(same_answer, row=task))].score
            for task, group in zip(asked, groups, strict=True)
        ]
        found: dict[str, int | float | list[float]] = {"samples_per_problem": many, "sampled_problems": len(asked)}
        steps = [k for k in (1, 2, 4, 8, 16, 32, 64, 128) if k < many] + [many]
        for k in steps:
            values = [pass_at_k(count, many, k) for count in right]
            found[f"pass@{k}"] = fmean(values)
            found[f"pass@{k}_interval"] = list(mean_interval(values))
        found[f"maj@{many}"] = fmean(voted)
        found[f"maj@{many}_interval"] = list(wilson(sum(voted), len(voted)))
        return found

    def _take(self, model: Transformer, suite: str, problems: Problems, is_chat: bool) -> SuiteMarks:
        """One suite's numbers."""
        from model.evaluation.choices import choose_answers

        config = self.config
        if not isinstance(problems, list):
            return problems.measure(
                model,
                self.tokenizer,
                chat=is_chat,
                max_new_tokens=config.max_new_tokens,
                batch_size=config.batch_size,
                seed=config.seed,
            )
        if config.suites[suite].kind is not SuiteKind.CHOICE:
            free = cast("list[Problem]", problems)
            return SuiteMarks(**_marks(free, self._solve(model, free)).given())
        rows = cast("list[ChoiceProblem]", problems)
        chosen = choose_answers(model, self.tokenizer, rows, chat=is_chat)
        right = sum(first == row["answer"] for (first, _), row in zip(chosen, rows, strict=True))
        normalised = sum(second == row["answer"] for (_, second), row in zip(chosen, rows, strict=True))
        low, high = wilson(right, len(rows))
        return SuiteMarks(
            accuracy=right / len(rows),
            accuracy_low=low,
            accuracy_high=high,
            accuracy_normalised=normalised / len(rows),
            chance=fmean(1 / len(row["choices"]) for row in rows),
            problems=len(rows),
        )


def continued(config: EvaluateConfig, tokenizer: Tokenizer, model: Transformer) -> list[str]:
    """What the model makes of `config.prompts`, sampled as R1 is (temperature 0.6, top-p 0.95)."""
    from model.generation.generate import Sampling, generate
    from pipeline.tokens.chat import chat_format

    words = chat_format(tokenizer)
    sampling = Sampling(config.continuation_tokens, temperature=0.6, top_p=0.95, seed=config.seed)
    prompts = [words.encode(prompt) for prompt in config.prompts]
    completions = generate(model, prompts, sampling, stop=words.eos, logprobs=False)
    return [words.continuation(completion.tokens) for completion in completions]


def _read_exam(config: EvaluateConfig, inputs: Mapping[str, Path], trained: Sequence[str]) -> _Exam:
    """The exam; a suite leaves out the questions `trained` on, unless it says otherwise.

    Where the tokenizer is another one than that which the shards are `written` with, their text is cut anew.
    """
    from model.evaluation.recut import Recut
    from model.training.ranks import user_errors
    from model.training.reading import Reading
    from pipeline.reasoning.problems import question_key, read_tasks
    from pipeline.tokens.chat import read_tokenizer

    tasks = read_tasks(inputs["reasoning"] / "test.jsonl")[: config.problems]
    avoid = set(map(question_key, trained))
    suites: dict[str, Problems] = {}
    left_out: dict[str, int] = {}
    for name, suite in config.suites.items():
        suites[name], left_out[name] = _suite_problems(name, suite, set() if suite.training_questions else avoid)
    with user_errors("evaluate"):
        written, tokenizer = inputs.get("written", inputs["tokenizer"]), inputs["tokenizer"]
        recut = Recut(written, tokenizer) if written != tokenizer else None
        reading = Reading(inputs["shards"], tokenizer, config.sequences, domain=config.domain, recut=recut)
    return _Exam(config, read_tokenizer(inputs["tokenizer"]), tasks, suites, left_out, reading)


def _checkpoints_among(inputs: Mapping[str, Path]) -> list[str]:
    """Names of the inputs that are models, in their order.

    Raises:
        UserError: there is none.
    """
    names = [name for name, folder in inputs.items() if (folder / "model" / "config.json").exists()]
    if not names:
        raise UserError(f"evaluate: no checkpoint among {', '.join(inputs)}; train one first")
    return names


def _how(config: EvaluateConfig, removed: Mapping[str, RemovedSet], left_out: Mapping[str, int]) -> str:
    """How the numbers came to be, in words."""
    way = "greedy" if not config.temperature else f"temperature {config.temperature:g}, top-p {config.top_p:g}"
    clean = [name for name, row in removed.items() if row.removed_from_text and not row.in_training_questions]
    rest = [name for name in removed if name not in clean]
    said = f"Answers are {way}, at most {config.max_new_tokens} tokens."
    if clean:
        said += f" Of {', '.join(clean)} every text with a question in it was removed from the training text."
    if rest:
        said += f" Not known to be absent from training: {', '.join(rest)}."
    passed = [f"{count} of {name}" for name, count in left_out.items() if count]
    if passed:
        said += f" Left out, for they are training questions: {', '.join(passed)}."
    return said


def _suite_problems(name: str, suite: Suite, avoid: Set[str]) -> tuple[Problems, int]:
    """A suite's problems, and how many were passed over, for their questions are among `avoid`."""
    from pipeline.reasoning.problem_files import read_problems
    from pipeline.reasoning.problems import question_key
    from pipeline.reasoning.stage import generate_problems

    where = f"evaluate.suites.{name}"
    if suite.kind is SuiteKind.LM_EVAL:
        from model.evaluation.harness import Harness

        if len(suite.paths) != 1:
            raise UserError(f"{where}.paths: name one local folder of lm-eval task files")
        return Harness(suite.paths[0], suite.tasks, suite.problems, where), 0
    if suite.kind is SuiteKind.REASONING_GYM:
        return generate_problems(suite.dataset, suite.options, suite.seed, suite.problems, where, avoid)
    is_choice = suite.kind is SuiteKind.CHOICE
    rows, _ = read_problems(suite.paths, max_failures=0.01, where=where, choices=is_choice)
    new = [place for place, row in enumerate(rows) if question_key(row["question"]) not in avoid][: suite.problems]
    if not new:
        raise UserError(f"{where}: all its {len(rows)} questions are training questions; see reasoning.exclude")
    passed = (new[-1] + 1 if len(new) == suite.problems else len(rows)) - len(new)
    return cast("list[Problem] | list[ChoiceProblem]", [rows[place] for place in new]), passed


def _questions(problems: Problems) -> list[str]:
    return [row["question"] for row in problems] if isinstance(problems, list) else problems.questions()


def _marks(tasks: Sequence[Problem], solutions: Sequence[Solution]) -> Marks:
    """Accuracy with its interval, and the share of answers in the asked-for format."""
    right = sum(solution.score for solution in solutions)
    low, high = wilson(right, len(solutions))
    by_task: dict[str, list[float]] = defaultdict(list)
    for task, solution in zip(tasks, solutions, strict=True):
        by_task[task["task"]].append(solution.score)
    return Marks(
        accuracy=right / len(solutions),
        accuracy_low=low,
        accuracy_high=high,
        accuracy_by_task={name: fmean(scores) for name, scores in sorted(by_task.items())},
        problems=len(solutions),
        format_rate=fmean(solution.is_well_formed for solution in solutions),
        program_rate=fmean(bool(solution.program) for solution in solutions),
        answer_tokens=fmean(len(solution.completion.tokens) for solution in solutions),
    )


def _reading(read: Mapping[str, TextLoss], domain: Sequence[str]) -> dict[str, float | dict[str, float]]:
    """Loss per token over all text, and bits per byte of each source, of the domain's together and of all others."""
    from model.training.text_loss import TextLoss, by_domain

    whole = sum(read.values(), TextLoss())
    return {
        "loss": whole.per_token,
        "bits_per_byte": {source: text.bits_per_byte for source, text in sorted(read.items()) if text.bytes},
        **{f"bits_per_byte_{name}": text.bits_per_byte for name, text in by_domain(read, domain).items()},
    }


def _flat(checkpoints: Mapping[str, CheckpointMarks]) -> EvaluateMetrics:
    """The numbers as metrics of a run."""
    flat: dict[str, float | None] = {}
    for name, marks in checkpoints.items():
        flat |= {
            f"accuracy_{name}": marks.accuracy,
            f"accuracy_low_{name}": marks.accuracy_low,
            f"accuracy_high_{name}": marks.accuracy_high,
            f"format_rate_{name}": marks.format_rate,
            f"loss_{name}": marks.loss,
            **{f"{measure.replace('@', '_at_')}_{name}": value for measure, value in marks.sampled.items()},
            f"bits_per_byte_domain_{name}": marks.bits_per_byte_domain,
            f"bits_per_byte_general_{name}": marks.bits_per_byte_general,
        }
        for suite, taken in (marks.suites or {}).items():
            flat[f"accuracy_{name}_{suite}"] = taken.accuracy
            for task, measures in (taken.tasks or {}).items():
                shares = {measure: value for measure, value in measures.items() if isinstance(value, float)}
                flat |= {f"{measure}_{name}_{suite}_{task}": value for measure, value in shares.items()}
        flat |= {f"bits_per_byte_{name}_{source}": bits for source, bits in marks.bits_per_byte.items()}
    return EvaluateMetrics(problems=next(iter(checkpoints.values())).problems, **flat)
