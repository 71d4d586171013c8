"""Multiple choice: likelihoods against one row at a time, and the choice that follows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from model.architecture.checkpoint import load_model
from model.evaluation.choices import choose_answers, log_likelihoods
from tests.model.artifacts import shared_artifacts
from tests.model.conftest import tiny_model


def test_likelihoods_are_those_of_each_row_alone() -> None:
    model = tiny_model()
    contexts, continuations = [[1, 2], [3], [4, 5, 6, 7]], [[8, 9, 10], [11], [12, 13]]
    found = log_likelihoods(model, contexts, continuations, batch_size=2)
    with torch.no_grad():
        for context, continuation, value in zip(contexts, continuations, found, strict=True):
            logprobs_TV = model(torch.tensor([context + continuation]))[0].log_softmax(-1)
            alone = sum(float(logprobs_TV[len(context) - 1 + place, token]) for place, token in enumerate(continuation))
            assert value.logprob == pytest.approx(alone, abs=1e-4)
    likeliest = int(model(torch.tensor([contexts[0]]))[0, -1].argmax())
    assert [one.is_greedy for one in log_likelihoods(model, [contexts[0]] * 2, [[likeliest], [likeliest ^ 1]])] == [
        True,
        False,
    ]
    with pytest.raises(ValueError, match="an empty context"):
        log_likelihoods(model, [[]], [[1]])


@pytest.mark.parametrize("chat", [True, False])
def test_the_likeliest_choice_is_chosen(tmp_path: Path, chat: bool) -> None:
    made = shared_artifacts()
    words = Tokenizer.from_file(str(made["tokenizer"] / "tokenizer.json"))
    model = load_model(made["sft"] / "model")
    with torch.no_grad():  # a model that finds "7" likelier than any other token, everywhere
        for parameter in model.parameters():
            parameter.zero_()
        model.model.norm.weight.fill_(1.0)
        model.model.embed_tokens.weight.fill_(1.0)
        model.lm_head.weight[words.token_to_id("7")] = 1.0
    rows = [{"question": "Which?", "choices": ["5", "7", "6"]}, {"question": "Which?", "choices": ["5", "777"]}]
    assert choose_answers(model, words, rows, chat=chat) == [(1, 1), (1, 1)]
