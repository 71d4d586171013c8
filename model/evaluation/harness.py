"""EleutherAI's evaluation harness (lm-eval) on our models, for task files of one's own.

A folder holds the harness's task files (YAML) and their data; nothing is downloaded. A checkpoint that speaks the chat
format is asked in it: it thinks before it writes, and what it thought is no part of its answer; of given choices it is
asked without reasoning, as in `model.evaluation.choices`. Any other checkpoint goes on with the plain text of the task.

The harness is an extra, ``pip install 'deepmill[lm-eval]'``; only `evaluate` imports this module, and only for a suite
of that kind.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from infra.errors import UserError
from model.architecture.transformer import Transformer
from model.evaluation.choices import log_likelihoods
from model.evaluation.measures import mean_interval, wilson
from model.facts.evaluation import SuiteMarks, TaskMarks
from model.generation.generate import Sampling, generate
from model.generation.reasoning import split_reasoning
from pipeline.tokens.chat import Turn, chat_format

try:
    import datasets
    from lm_eval.api.model import TemplateLM
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError as missing:
    raise UserError(
        f"a suite of kind lm_eval wants the evaluation harness, and {missing.name} is not installed; "
        "pip install --constraint constraints.txt '.[lm-eval]'"
    ) from None

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Harness", "HarnessModel"]

MAIN = ("acc", "exact_match")
"""The measures that are a task's accuracy, the first that it has."""
SETTINGS = frozenset({"until", "max_gen_toks", "max_new_tokens", "do_sample", "temperature", "top_p"})
"""What a task may say about generation."""
RENDERED = "\ue001"
"""Before a prompt that the chat template has rendered, for the harness hands prompts on as text."""


class Harness:
    """The tasks of one folder."""

    def __init__(self, folder: str, names: Sequence[str], problems: int, where: str) -> None:
        """Load the tasks, offline, with data files looked for from the folder.

        Args:
            folder: of the YAML files.
            names: tasks, groups or tags in it; all tasks when empty.
            problems: most problems of each task that are asked, the first ones.
            where: the recipe key, for messages.

        Raises:
            UserError: no such folder or task, data that cannot be had without a network.
        """
        if not Path(folder).is_dir():
            raise UserError(f"{where}.paths: {folder}: name one local folder of lm-eval task files (YAML) and data")
        self.problems = problems
        self.folder = Path(folder).absolute()
        manager = TaskManager(include_path=str(self.folder), include_defaults=False)
        wanted = list(names) or manager.all_subtasks
        unknown = sorted(set(wanted) - set(manager.all_tasks))
        if unknown or not wanted:
            there = ", ".join(manager.all_tasks) or "none"
            raise UserError(f"{where}.tasks: {folder} has no task {', '.join(unknown) or 'at all'}; there are {there}")
        # the data stay in memory, so the folder of copies can go
        with tempfile.TemporaryDirectory() as copies, contextlib.chdir(self.folder), _offline(copies):
            try:
                self.loaded: Any = manager.load(wanted)
            except Exception as error:  # whatever a task file, or code that it names, may raise
                said = " ".join(str(error).split())[:300]
                raise UserError(
                    f"{where}: {folder}: {type(error).__name__}: {said}; a task's dataset_path must be json or "
                    "parquet, with data_files in that folder"
                ) from None
        self.tasks: Mapping[str, Any] = self.loaded["tasks"]
        for name, task in self.tasks.items():
            if task.get_config("num_fewshot") is None:
                task.set_config("num_fewshot", 0)
            rest = set(task.get_config("generation_kwargs") or ()) - SETTINGS
            if rest:
                raise UserError(
                    f"{where}: {name}: generation_kwargs has {', '.join(sorted(rest))}; "
                    f"understood are {', '.join(sorted(SETTINGS))}"
                )

    def questions(self, fields: Sequence[str] = ("question", "problem", "prompt", "text")) -> list[str]:
        """What is asked, for the check against training data.

        Args:
            fields: of a problem, where its question may be; else it is the text that the task makes of it.
        """
        found = []
        for task in self.tasks.values():
            for _, doc in task.doc_iterator(limit=self.problems):
                named = next((doc[field] for field in fields if isinstance(doc.get(field), str)), None)
                found.append(named or str(task.doc_to_text(doc)))
        return found

    def measure(
        self, model: Transformer, tokenizer: Tokenizer, *, chat: bool, max_new_tokens: int, batch_size: int, seed: int
    ) -> SuiteMarks:
        """Accuracy over all tasks that have one, and every measure of each task with its 95 % interval.

        A measure that the harness takes of filtered answers is called ``measure/filter``.
        """
        asked = HarnessModel(
            model, tokenizer, chat=chat, max_new_tokens=max_new_tokens, batch_size=batch_size, seed=seed
        )
        for task in self.tasks.values():
            task.set_fewshot_seed(seed)  # the same examples for every checkpoint
        with _quiet():
            found = evaluate(
                asked,
                self.loaded,
                limit=self.problems,
                bootstrap_iters=0,
                apply_chat_template=chat,
                fewshot_as_multiturn=chat,
            )
        assert found is not None
        tasks = {name: _marks(found["results"][name], found["samples"][name]) for name in self.tasks}
        sizes = {name: len({sample["doc_id"] for sample in found["samples"][name]}) for name in self.tasks}
        accuracies = ((name, marks.get("accuracy")) for name, marks in tasks.items())
        scored = {name: value for name, value in accuracies if isinstance(value, int | float)}
        if not scored:
            return SuiteMarks(problems=sum(sizes.values()), tasks=tasks)
        problems = sum(sizes[name] for name in scored)
        right = sum(accuracy * sizes[name] for name, accuracy in scored.items())
        low, high = wilson(right, problems)
        return SuiteMarks(
            problems=problems, accuracy=right / problems, accuracy_low=low, accuracy_high=high, tasks=tasks
        )


def _marks(results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> TaskMarks:
    """The measures of one task, from what the harness tells of it and of each problem."""
    problems = len({sample["doc_id"] for sample in samples})
    marks: TaskMarks = {"problems": problems}
    for key, value in results.items():
        measure, comma, filtered = key.partition(",")
        if not comma or measure.endswith("_stderr") or not isinstance(value, int | float):
            continue
        name = measure if filtered == "none" else f"{measure}/{filtered}"
        marks[name] = float(value)
        each = [sample.get(measure) for sample in samples if sample["filter"] == filtered]
        values = [float(one) for one in each if isinstance(one, int | float) and 0 <= one <= 1]
        if len(values) == len(each) == problems and abs(fmean(values) - value) < 1e-9:
            are_shares = any(0 < one < 1 for one in values)
            marks[f"{name}_interval"] = list(mean_interval(values) if are_shares else wilson(sum(values), len(values)))
    main = next((name for wanted in MAIN for name in marks if name.partition("/")[0] == wanted), None)
    return marks if main is None else {"accuracy": marks[main]} | marks


class HarnessModel(TemplateLM):
    """A model as the harness asks it. See the module for what `chat` means."""

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        *,
        chat: bool,
        max_new_tokens: int = 256,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model, self.chat = model, chat
        self.max_new_tokens, self.batch_size, self.seed = max_new_tokens, batch_size, seed
        self.format = chat_format(tokenizer)
        self.longest = model.config.max_position_embeddings

    @property
    def eot_token_id(self) -> int:
        """Of the end of an answer."""
        return self.format.eos

    @property
    def prefix_token_id(self) -> int:
        """What comes before a text without a context: pretraining begins every document so."""
        return self.format.bos

    @property
    def tokenizer_name(self) -> str:
        """For a cache of requests, which is not used."""
        return "deepmill"

    def chat_template(self, chat_template: bool | str = False) -> str:
        """See `apply_chat_template`."""
        return ""

    def apply_chat_template(self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        """What the chat template renders up to where the model takes over; with no generation prompt the last message
        is the beginning of an answer without reasoning.
        """
        turns = [Turn(message["role"], message["content"]) for message in chat_history]
        if add_generation_prompt:
            return RENDERED + self.format.text(turns)
        begun = self.format.quoted(turns[-1].content)
        return f"{RENDERED}{self.format.text(turns[:-1])}{self.format.skipped}{begun}"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Tokens of a text; the first of all begins it unless a template did, or `add_special_tokens` is false.

        In a chat, control tokens are those that `apply_chat_template` has set; in plain text there are none.
        """
        if self.chat and string.startswith(RENDERED):
            return self.format.tokens(string.removeprefix(RENDERED))
        tokens = self.format.encode(string)
        return tokens if add_special_tokens is False else [self.format.bos, *tokens]

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if self.chat and context.startswith(RENDERED):
            continuation = self.format.quoted(continuation)
            if context.endswith(self.format.opening):
                context += self.format.skipped
        pair: tuple[list[int], list[int]] = super()._encode_pair(context, continuation)
        return pair

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        # as in the harness: of what is too long for the model, the beginning of the context goes
        contexts = [context[-max(1, self.longest - len(continuation)) :] for _, context, continuation in requests]
        continuations = [continuation for _, _, continuation in requests]
        return [
            (found.logprob, found.is_greedy)
            for found in log_likelihoods(self.model, contexts, continuations, self.batch_size)
        ]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log probability of whole texts, in windows of the model's length."""
        found = []
        for request in requests:
            tokens = self.tok_encode(request.args[0], add_special_tokens=False)
            windows = get_rolling_token_windows(tokens, self.prefix_token_id, self.longest, 1)
            pairs = [make_disjoint_window(window) for window in windows]
            contexts, continuations = [before for before, _ in pairs], [after for _, after in pairs]
            parts = log_likelihoods(self.model, contexts, continuations, self.batch_size)
            found.append(sum(part.logprob for part in parts))
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Answers, without reasoning, cut where a task's stop strings begin."""
        groups: dict[Sampling, list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(self._sampling(request.args[1]), []).append(place)
        found = [""] * len(requests)
        for sampling, places in groups.items():
            prompts = [self.tok_encode(requests[place].args[0]) for place in places]
            completions = generate(
                self.model,
                prompts,
                sampling,
                stop=self.eot_token_id,
                batch_size=self.batch_size,
                numbers=places,
                logprobs=False,
            )
            for place, completion in zip(places, completions, strict=True):
                found[place] = _until(self._answer(completion.tokens), requests[place].args[1])
        return found

    def _answer(self, tokens: Sequence[int]) -> str:
        if self.chat:
            return split_reasoning(self.format.begun + self.format.said(tokens))[1]
        return self.format.continuation(tokens)

    def _sampling(self, settings: Mapping[str, Any]) -> Sampling:
        most = settings.get("max_gen_toks", settings.get("max_new_tokens", self.max_new_tokens))
        samples = bool(settings.get("do_sample")) and float(settings.get("temperature", 1.0)) > 0
        return Sampling(
            min(int(most), self.max_new_tokens),
            temperature=float(settings.get("temperature", 1.0)) if samples else 0.0,
            top_p=float(settings.get("top_p", 1.0)) if samples else 1.0,
            seed=self.seed,
        )


def _until(text: str, settings: Mapping[str, Any]) -> str:
    """`text` up to the first of the stop strings."""
    stops = settings.get("until") or ()
    for stop in [stops] if isinstance(stops, str) else stops:
        if stop:
            text = text.partition(stop)[0]
    return text


@contextlib.contextmanager
def _offline(copies: str) -> Iterator[None]:
    """Data sets are read from files alone, their copies lie in `copies`, and the harness says little."""
    config: Any = datasets.config
    before = {name: getattr(config, name) for name in ("HF_DATASETS_CACHE", "HF_HUB_OFFLINE", "IN_MEMORY_MAX_SIZE")}
    changes = {"HF_DATASETS_CACHE": Path(copies), "HF_HUB_OFFLINE": True, "IN_MEMORY_MAX_SIZE": 1 << 40}
    try:
        for name, value in changes.items():
            setattr(config, name, value)
        with _quiet():
            yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars, and of the harness's messages only errors."""
    log = logging.getLogger("lm_eval")
    level = log.level
    log.setLevel(logging.ERROR)
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        with torch.inference_mode():
            yield
    finally:
        log.setLevel(level)
        if shown:
            datasets.enable_progress_bars()
