"""The model as MLflow serves it: question in, reasoning and answer out. Logged as code (no pickle), with its packages.

MLflow takes no signature from the hint `pandas.DataFrame`: the one logged with the model holds, `params` and all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel

DEFAULTS: dict[str, Any] = {"max_new_tokens": 256, "temperature": 0.0, "seed": 0}


class ReasoningModel(PythonModel):
    """Answers questions with the quantized weights of the artifact ``model``."""

    def load_context(self, context: Any) -> None:
        """Load the weights and the tokenizer; UserError when the folder is damaged."""
        from tokenizers import Tokenizer

        from model.release.quantized import load_quantized

        folder = Path(context.artifacts["model"])
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.model = load_quantized(folder).requires_grad_(False)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """A row `reasoning, answer, text` for each `question` (or `prompt`, taken as it is, chat tokens and all).

        Raises:
            ValueError: neither column is there, or a parameter is out of range.
        """
        from model.generation.generate import Sampling, generate, prompt_tokens, split_reasoning, token_id

        if "question" in model_input:
            prompts = [prompt_tokens(self.tokenizer, str(text)) for text in model_input["question"]]
        elif "prompt" in model_input:
            encoded = self.tokenizer.encode_batch(list(map(str, model_input["prompt"])), add_special_tokens=False)
            prompts = [one.ids for one in encoded]
        else:
            raise ValueError("the input has neither a column 'question' nor 'prompt'")
        chosen = DEFAULTS | {name: value for name, value in (params or {}).items() if value is not None}
        sampling = Sampling(
            max_new_tokens=int(chosen["max_new_tokens"]),
            temperature=float(chosen["temperature"]),
            seed=int(chosen["seed"]),
        )
        stop = token_id(self.tokenizer, "<|eos|>")
        texts = [
            self.tokenizer.decode([token for token in completion.tokens if token != stop])
            for completion in generate(self.model, prompts, sampling, stop=stop, logprobs=False)
        ]
        rows = [(*split_reasoning(text), text) for text in texts]
        return pd.DataFrame(rows, columns=["reasoning", "answer", "text"], dtype=str)


mlflow.models.set_model(ReasoningModel())
