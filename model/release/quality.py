"""How good a quantized model is beside its original: divergence by kind of text and by source, and solved problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.architecture.transformer import Transformer
from model.facts.release import DivergenceFacts, Judged, Measured
from model.release.divergence import Reference
from model.release.rows import cut, sequence_length, task_rows, text_rows
from model.sections import QuantizeConfig

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Judge", "is_further"]


def is_further(ours: Judged, other: Judged) -> bool:
    """Whether a model is further from the original than another one, on text or on solved tasks."""
    kinds = ((ours, other), (ours.reasoning, other.reasoning))
    return any(one and its and (one.kl or 0.0) > (its.kl or 0.0) for one, its in kinds)


class Judge:
    """Judges models on the same held-out rows and problems; the original must be the model that it was made with."""

    def __init__(
        self, config: QuantizeConfig, original: Transformer, inputs: Mapping[str, Path], tokenizer: Tokenizer
    ) -> None:
        from model.generation.solve import note_what_is_cut
        from pipeline.reasoning.problems import read_tasks
        from pipeline.tokens.reader import ShardReader

        self._config, self._tokenizer = config, tokenizer
        shards, count = inputs["shards"], config.evaluation_sequences
        held_out = inputs["reasoning"] / "validation.jsonl"

        def reference(rows: Any) -> Reference:
            return Reference(original, list(cut(rows, config.batch_size)))

        self._kinds = {
            "text": reference(text_rows(shards, "validation", count, 0)),
            "reasoning": reference(task_rows(held_out, tokenizer, sequence_length(shards), count, 0)),
        }
        rows = ShardReader(shards, "validation", global_batch=1, verify=False).source_rows
        sources = sorted(source for source, there in rows.items() if there)
        each = max(1, count // max(1, len(sources)))
        self._sources = {source: reference(text_rows(shards, "validation", each, 0, source)) for source in sources}
        self._problems = read_tasks(held_out)[: config.accuracy_problems]
        note_what_is_cut(tokenizer, self._problems, "quantize.max_new_tokens", config.max_new_tokens)

    @property
    def tokens(self) -> dict[str, int]:
        """Positions that the divergence of each kind is the mean of."""
        return {name: reference.tokens for name, reference in self._kinds.items()}

    def divergence(self, model: Transformer) -> Judged:
        """On held-out text; under `reasoning` on held-out solved tasks."""
        text, tasks = (asdict(self._kinds[name].compare(model)) for name in ("text", "reasoning"))
        return Judged(**text, reasoning=DivergenceFacts(**tasks))

    def __call__(self, model: Transformer) -> Measured:
        """`divergence`, that of each source, and the share of problems solved."""
        from model.generation.generate import Sampling
        from model.generation.solve import solve

        found = self.divergence(model).given()
        found["kl_by_source"] = {name: reference.compare(model).kl for name, reference in self._sources.items()}
        if self._problems:
            sampling = Sampling(max_new_tokens=self._config.max_new_tokens)
            solved = solve(model, self._tokenizer, self._problems, sampling)
            found["accuracy"] = sum(solution.score for solution in solved) / len(solved)
        return Measured(**found)
