"""Guessed tokens against plain decoding: the same answers, whatever the guesses are worth."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from model.architecture.cache import KVCache
from model.architecture.config import Family
from model.architecture.transformer import Transformer
from model.generation import decode
from model.generation.decode import Predictor, StepDecoder
from model.generation.past import Past
from model.generation.speculative import Ahead, Drafted
from tests.model.conftest import tiny_model
from tests.model.generation.test_decode import VARIANTS

PROMPT = [5, 17, 60, 3, 22, 41, 9]
NEW = 24


def predicting(**changes: object) -> Transformer:
    return tiny_model(Family.DEEPSEEK_V3, num_nextn_predict_layers=1, **changes)


def read(model: Transformer, prompt: list[int], new: int) -> tuple[Past, Tensor]:
    """What was seen after a prompt, and its states [T, D]."""
    cache = KVCache(model.config, 1, len(prompt))
    with torch.inference_mode():
        states_TD = model.hidden(torch.tensor([prompt]), cache=cache)[0]
    return Past(model, cache, torch.zeros(1, dtype=torch.int64), len(prompt) + new), states_TD


def first(model: Transformer, states_TD: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.lm_head(states_TD[-1]).float()


def likeliest(logits_V: Tensor, place: int) -> int:
    return int(logits_V.argmax())


def write(after: Callable[[int], Tensor], first_V: Tensor) -> tuple[list[int], Tensor]:
    """Greedy tokens, and the logits [T, V] that each was chosen from."""
    logits, tokens = [first_V], [likeliest(first_V, 0)]
    while len(tokens) < NEW:
        logits.append(after(tokens[-1]))
        tokens.append(likeliest(logits[-1], 0))
    return tokens, torch.stack(logits)


@pytest.mark.parametrize("least", [0.0, 1e9], ids=["grouped", "all experts, products of weights"])
@pytest.mark.parametrize("name", VARIANTS)
def test_several_tokens_equal_as_many_steps(name: str, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "DENSE_BELOW", least)
    monkeypatch.setattr(decode, "FOLDED_AT_MOST", least)
    family, changes = VARIANTS[name]
    model = tiny_model(family, **changes)
    past, _ = read(model, PROMPT, 8)
    new = [8, 30, 77, 4, 51]
    with torch.no_grad():
        _, found_TV = StepDecoder(model).several(torch.tensor(new), past)
        past.rewind(len(PROMPT) + 2)  # as if the third guess had been wrong
        _, again_TV = StepDecoder(model).several(torch.tensor([66, 7]), past)
        whole_TV = model(torch.tensor([PROMPT + new]))[0, len(PROMPT) :]
        other_TV = model(torch.tensor([[*PROMPT, *new[:2], 66, 7]]))[0, -2:]
    torch.testing.assert_close(found_TV, whole_TV, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(again_TV, other_TV, atol=2e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="holds 15 tokens"):
        StepDecoder(model).several(torch.zeros(8, dtype=torch.int64), past)


def test_several_tokens_with_a_cache_in_8_bits() -> None:
    model = tiny_model(kv_lora_rank=32, qk_rope_head_dim=32)
    decoder, new = StepDecoder(model), torch.tensor([8, 30, 77])
    pasts = []
    for _ in range(2):
        cache = KVCache(model.config, 1, len(PROMPT), in_8_bits=True)
        with torch.inference_mode():
            model.hidden(torch.tensor([PROMPT]), cache=cache)
        pasts.append(Past(model, cache, torch.zeros(1, dtype=torch.int64), 12))
    _, found_TV = decoder.several(new, pasts[0])
    steps_TV = torch.cat([decoder(token[None], pasts[1]) for token in new])
    torch.testing.assert_close(found_TV, steps_TV, atol=2e-3, rtol=1e-3)  # a code may fall the other way


@pytest.mark.parametrize("changes", [{}, {"q_lora_rank": 12}, {"first_k_dense_replace": 9}], ids=str)
def test_the_predictor_equals_the_model_s_layer(changes: dict[str, object]) -> None:
    model = predicting(**changes)
    tokens_BT = torch.randint(97, (1, 12), generator=torch.Generator().manual_seed(1))
    predictor = Predictor(model)
    past = predictor.past(11)
    with torch.no_grad():
        states_TD = model.hidden(tokens_BT)[0]
        _, wanted_BTV = model(tokens_BT, mtp=True)
        parts = [predictor(states_TD[a:b], tokens_BT[0, a + 1 : b + 1], past) for a, b in ((0, 4), (4, 5), (5, 11))]
        torch.testing.assert_close(predictor.logits(torch.cat(parts)), wanted_BTV[0], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("right", [0.0, 0.6, 1.0])
def test_the_answer_is_that_of_plain_decoding(most: int, right: float) -> None:
    model = predicting()
    decoder = StepDecoder(model)
    past, states_TD = read(model, PROMPT, NEW)
    first_V = first(model, states_TD)
    plain, plain_TV = write(lambda token: decoder(torch.tensor([token]), past)[0], first_V)
    chance = torch.rand(NEW + most, generator=torch.Generator().manual_seed(2))

    def guess(logits_V: Tensor, place: int) -> int:
        """Right as often as is wanted: what an untrained layer would guess is always wrong."""
        return plain[place] if place < NEW and chance[place] < right else likeliest(logits_V, place)

    past, states_TD = read(model, PROMPT, NEW)
    told = Drafted()
    ahead = Ahead(decoder, Predictor(model), past, PROMPT, states_TD, most, guess, told)
    found, found_TV = write(ahead, first_V)
    torch.testing.assert_close(found_TV, plain_TV, atol=2e-5, rtol=1e-5)
    assert found == plain
    assert told.passes + told.right == NEW - 1
    if right == 1:
        assert told.passes == -(-(NEW - 1) // (most + 1))
        assert told.right >= told.guessed - most
    elif right == 0:
        assert told.acceptance < 0.2
    else:
        assert 0 < told.right < told.guessed


def test_guesses_are_made_of_true_states_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The predictor's first guess of every pass is the one that training saw: of the tokens and states before it."""
    model = predicting()
    decoder, seen = StepDecoder(model), []
    past, states_TD = read(model, PROMPT, NEW)

    def guess(logits_V: Tensor, place: int) -> int:
        seen.append((place, logits_V))
        return likeliest(logits_V, place) if place % 3 else plain[place]

    plain = write(lambda token: decoder(torch.tensor([token]), past)[0], first(model, states_TD))[0]
    past, states_TD = read(model, PROMPT, NEW)
    plain += [0, 0]
    write(Ahead(decoder, Predictor(model), past, PROMPT, states_TD, 1, guess), first(model, states_TD))
    with torch.no_grad():
        _, wanted_BTV = model(torch.tensor([PROMPT + plain[:NEW]]), mtp=True)
    assert seen
    for place, logits_V in seen:
        torch.testing.assert_close(logits_V, wanted_BTV[0, len(PROMPT) + place - 2], atol=2e-5, rtol=1e-5)
