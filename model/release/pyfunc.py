"""The model as MLflow serves it: a question or a conversation in, reasoning and answer out. Logged as code (no pickle),
with its packages.

MLflow takes no signature from the hint `pandas.DataFrame`: the one logged with the model holds, `params` and all.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel

CHECKSUMS = "deepmill_checksums"
"""Key of the logged model's configuration: SHA-256 of every file that loading reads, by its path in the model."""


def check_files(root: Path, recorded: dict[str, str]) -> None:
    """Compare the files of the logged model in `root` with its checksums, before any of them is used.

    Only with Python's own means: the packages beside it are among what is compared. What Deepmill itself loads was
    compared with the registry before; this is for whoever calls `mlflow.pyfunc.load_model`.

    Raises:
        ValueError: a file is damaged or gone, or one was added to the weights or the code.
    """
    for name, digest in recorded.items():
        if not (root / name).is_file() or _digest(root / name) != digest:
            raise ValueError(f"{root / name}: damaged or gone: not as the model was logged; fetch the model again")
    for top in {name.split("/")[0] for name in recorded if "/" in name}:
        for path in sorted((root / top).rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.is_file() and name not in recorded and "__pycache__" not in path.parts:
                raise ValueError(f"{path}: was not logged with the model; delete it, or fetch the model again")


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class ReasoningModel(PythonModel):
    """Answers questions with the quantized weights of the artifact ``model``."""

    def load_context(self, context: Any) -> None:
        """Load the weights and the tokenizer; UserError when the folder is damaged."""
        from model.release.quantized import load_quantized
        from pipeline.tokens.chat import read_tokenizer

        folder = Path(context.artifacts["model"])
        check_files(folder.parents[1], (context.model_config or {}).get(CHECKSUMS, {}))
        self.tokenizer = read_tokenizer(folder)
        self.model = load_quantized(folder).requires_grad_(False)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """A row `reasoning, answer, text` for each `question`, each conversation in `messages` (JSON, as chat clients
        send it: ``[{"role": "user", "content": "..."}, ...]``), or each `prompt`, taken as it is, chat tokens and all.

        MLflow makes one row of ``{"question": ["one", "two"]}``, with a list in it: that is two questions.

        Raises:
            ValueError: none of the columns is there, a question is no text, `messages` are none, or a parameter is out
                of range.
        """
        from model.generation.generate import Sampling, generate
        from model.generation.reasoning import split_reasoning
        from model.release.serving_spec import PARAMETERS
        from pipeline.tokens.chat import chat_format
        from pipeline.tokens.messages import read_turns

        chat = chat_format(self.tokenizer)
        read, begun = chat.said, chat.begun
        if "question" in model_input:
            prompts = [chat.question(text) for text in _texts(model_input, "question")]
        elif "messages" in model_input:
            prompts = [chat.prompt(read_turns(text)) for text in _texts(model_input, "messages")]
        elif "prompt" in model_input:
            read, begun = chat.continuation, ""
            encoded = self.tokenizer.encode_batch(_texts(model_input, "prompt"), add_special_tokens=False)
            prompts = [one.ids for one in encoded]
        else:
            raise ValueError("the input has no column 'question', 'messages' or 'prompt'")
        given = {name: value for name, value in (params or {}).items() if value is not None}
        chosen = {name: default for name, _, default in PARAMETERS} | given
        sampling = Sampling(
            max_new_tokens=int(chosen["max_new_tokens"]),
            temperature=float(chosen["temperature"]),
            seed=secrets.randbits(31) if int(chosen["seed"]) < 0 else int(chosen["seed"]),
        )
        completions = generate(self.model, prompts, sampling, stop=chat.eos, logprobs=False)
        texts = [read(completion.tokens) for completion in completions]
        rows = [(*split_reasoning(begun + text), text) for text in texts]
        return pd.DataFrame(rows, columns=["reasoning", "answer", "text"], dtype=str)


def _texts(model_input: pd.DataFrame, column: str) -> list[str]:
    """The texts of a column, each cell one or a list of them."""
    found: list[str] = []
    for cell in model_input[column]:
        texts = [cell] if isinstance(cell, str) or not isinstance(cell, Iterable) else list(cell)
        for text in texts:
            if not isinstance(text, str):
                raise ValueError(f"{column}: {str(text)[:80]} is no text but {type(text).__name__}")
            found.append(text)
    return found


mlflow.models.set_model(ReasoningModel())
