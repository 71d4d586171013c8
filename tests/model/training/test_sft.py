"""Fine-tuning: how chats become rows, what of them is learned, and the stage on a model small enough to watch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from infra.errors import UserError
from model.architecture.checkpoint import load_model, save_model
from model.finetune_sections import SftConfig
from model.generation.generate import Sampling
from model.generation.solve import solve
from model.training.chats import Chat, ChatBatches, encode_chats, encode_conversation, pack, with_follow_ups
from model.training.sft import sft
from pipeline.reasoning.problems import read_tasks
from pipeline.reasoning.stage import reasoning
from pipeline.sections import ReasoningConfig, ReasoningTask, TokenizerConfig
from pipeline.tokens.chat import Turn, chat_format
from pipeline.tokens.tokenizer import chat_text, tokenizer
from tests.model.conftest import tiny_model
from tests.pipeline.corpus import write_documents

TASK = dict[str, Any](id="x", task="mine", question="1 + 1?", reasoning="1+1=2", answer="2", metadata={})


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base model of random weights, a tokenizer and additions of three small numbers."""
    root = tmp_path_factory.mktemp("sft")
    options = {"max_terms": 2, "max_digits": 2, "operators": ("+",), "allow_parentheses": False}
    tasks = (ReasoningTask(name="basic_arithmetic", options=options),)
    inputs = {name: root / name for name in ("reasoning", "tokenizer", "start")}
    for folder in inputs.values():
        folder.mkdir()
    reasoning(ReasoningConfig(tasks=tasks, train=200, validation=16, test=8), {}, inputs["reasoning"])
    documents = write_documents(root / "decontaminate", [("a", "wiki", "Calculate the sum.")])
    read = {"decontaminate": documents, "reasoning": inputs["reasoning"]}
    tokenizer(TokenizerConfig(vocabulary=300), read, inputs["tokenizer"])
    size = Tokenizer.from_file(str(inputs["tokenizer"] / "tokenizer.json")).get_vocab_size()
    model = tiny_model(vocab_size=size, initializer_range=0.02)
    save_model(model, inputs["start"] / "model", inputs["tokenizer"])
    return inputs


@pytest.fixture
def words(inputs: dict[str, Path]) -> Tokenizer:
    return Tokenizer.from_file(str(inputs["tokenizer"] / "tokenizer.json"))


def _config(**changes: Any) -> SftConfig:
    fields: dict[str, Any] = {
        "steps": 40,
        "batch_size": 4,
        "sequence_length": 96,
        "learning_rate": 1e-2,
        "accuracy_tasks": 8,
        "max_new_tokens": 40,
        "validation_sequences": 8,
    }
    return SftConfig.model_validate(fields | changes)


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(10, 35))
def test_packing_keeps_every_item_that_fits(lengths: list[int], capacity: int) -> None:
    rows = pack(lengths, capacity)
    assert sorted(item for row in rows for item in row) == [i for i, size in enumerate(lengths) if size <= capacity]
    filled = [sum(lengths[item] for item in row) for row in rows]
    assert all(0 < total <= capacity for total in filled)
    # No two rows could have been one: what any fit algorithm guarantees.
    assert sum(sorted(filled)[:2]) > capacity or len(rows) < 2


def test_packing_wastes_little() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(20, 60, (500,), generator=generator).tolist()
    assert len(pack(lengths, 256)) <= 1.03 * sum(lengths) / 256 + 1


def test_a_chat_is_the_chat_text_and_the_model_learns_its_own_part(words: Tokenizer) -> None:
    (chat,) = encode_chats(words, [TASK])
    whole = chat_text(TASK["question"], TASK["reasoning"], TASK["answer"])
    assert chat.prompt + chat.response == words.encode(whole, add_special_tokens=False).ids
    batch = ChatBatches([chat], 64, 1, chat_format(words).pad, None).batch(0, 0, 1)
    learned_T = batch.tokens_BT[0, 1:][batch.loss_tokens_BT()[0]]
    assert words.decode(learned_T.tolist(), skip_special_tokens=False) == "<think>1+1=2</think>2<|eos|>"


def test_every_answer_of_a_conversation_is_learned_as_it_is_asked_for(words: Tokenizer) -> None:
    """Whatever the format shows of earlier answers: each one's prompt is the one that the model will be given."""
    turns = [Turn("system", "Be short."), Turn("user", "Hi"), Turn("assistant", "Hello!"), Turn("user", "1 + 1?"),
             Turn("assistant", "2", "1+1=2"), Turn("user", "Thanks"), Turn("assistant", "Gladly.")]  # fmt: skip
    chat = chat_format(words)
    pad = chat.pad
    found = []
    for each in encode_conversation(words, turns, 256):
        batch = ChatBatches([each], 256, 1, pad, None).batch(0, 0, 1)
        tokens = batch.tokens_BT[0].tolist()
        learned = [*batch.loss_tokens_BT()[0].tolist(), False]
        starts = [place + 1 for place in range(255) if learned[place] and (place == 0 or not learned[place - 1])]
        for start in starts:
            end = next(place for place in range(start, 256) if not learned[place - 1])
            found.append((tokens[:start], tokens[start:end]))
    wanted = [
        (chat.prompt(turns[:place]), chat.response(turn.reasoning, turn.content))
        for place, turn in enumerate(turns)
        if turn.role == "assistant"
    ]
    assert found == wanted
    fits = sum(map(len, wanted[1]))
    some = [each.tokens for each in encode_conversation(words, turns, fits)]
    assert max(map(len, some)) <= fits
    assert [*wanted[1][0], *wanted[1][1]] in some, "as far as it fits a row"


def test_a_share_of_the_tasks_follows_another(words: Tokenizer) -> None:
    rows = [TASK | {"id": str(number), "question": f"{number} + 1?", "answer": str(number + 1)} for number in range(40)]
    alone = encode_chats(words, rows)
    chats = with_follow_ups(words, rows, 0.5, 96, seed=0)
    longer = [place for place in range(40) if chats[place] != alone[place]]
    assert 10 < len(longer) < 30
    for place in longer:
        assert chats[place].response == alone[place].response
        assert not chats[place].earlier
        text = words.decode(chats[place].prompt, skip_special_tokens=False)
        assert text.count("<|user|>") == 2
        assert text.endswith(f"<|user|>{place} + 1?<|assistant|>")
        assert f"<|user|>{place} + 1?<|assistant|><think>" not in text, "no task follows itself"
    assert with_follow_ups(words, rows, 1.0, max(map(len, alone)), seed=0) == alone, "where a row is too short"
    assert with_follow_ups(words, rows, 0.0, 96, seed=0) == alone


def test_chats_of_a_row_are_documents_apart() -> None:
    chats = [Chat([1, 2], [3, 4]), Chat([5], [6]), Chat([7] * 9, [8])]
    source = ChatBatches(chats, 8, 2, 0, None)
    assert (source.rows, source.batches, source.left_out) == (1, 1, 1)
    batch = source.batch(0, 0, 1)
    assert batch.tokens_BT.tolist() == [[1, 2, 3, 4, 5, 6, 0, 0], [0] * 8]
    assert batch.documents_BT is not None
    assert batch.documents_BT[0].tolist() == [0, 0, 0, 0, 1, 1, 2, 2]
    # of position t the token after it; the last row, and the one that nothing is left for, teach nothing
    assert batch.loss_tokens_BT().nonzero().tolist() == [[0, 1], [0, 2], [0, 4]]


def test_a_batch_is_the_same_on_any_number_of_ranks_and_a_lap_has_every_row() -> None:
    chats = [Chat([number], [number]) for number in range(1, 13)]
    source = ChatBatches(chats, 2, 4, 0, seed=5)
    whole = source.batch(1, 0, 1).tokens_BT
    for rank in range(2):
        assert torch.equal(source.batch(1, rank, 2).tokens_BT, whole[rank::2])
    laps = [[row for step in range(lap * 3, lap * 3 + 3) for row in source.batch(step, 0, 1).tokens_BT.tolist()]
            for lap in range(2)]  # fmt: skip
    assert sorted(laps[0]) == sorted(laps[1]) == [[number, number] for number in range(1, 13)]
    assert laps[0] != laps[1]
    assert torch.equal(source.batch(1, 0, 1).tokens_BT, whole)


def test_the_stage_teaches_the_format(inputs: dict[str, Path], words: Tokenizer, tmp_path: Path) -> None:
    metrics = sft(_config(), inputs, tmp_path)
    assert metrics.loss_after < 0.5 * metrics.loss_before
    assert metrics.tasks_too_long == 0
    assert 0 <= metrics.accuracy <= 1
    history = json.loads((tmp_path / "history.json").read_text())
    assert len(history["steps"]) == 40
    assert (tmp_path / "model" / "tokenizer.json").exists()
    model = load_model(tmp_path / "model")
    asked = read_tasks(inputs["reasoning"] / "test.jsonl")
    solutions = solve(model, words, asked, Sampling(max_new_tokens=40))
    assert sum(solution.completion.tokens[0] == words.token_to_id("<think>") for solution in solutions) == len(asked)


def test_equal_runs_give_equal_bytes(inputs: dict[str, Path], tmp_path: Path) -> None:
    config = _config(steps=3, accuracy_tasks=0)
    for name in ("a", "b"):
        sft(config, inputs, tmp_path / name)
    for file in ("model/model.safetensors", "history.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_tasks_that_fit_nowhere_are_said(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no chat fits into 8 tokens"):
        sft(_config(sequence_length=8), inputs, tmp_path)


def test_a_model_that_does_not_know_all_tokens(inputs: dict[str, Path], tmp_path: Path) -> None:
    save_model(tiny_model(vocab_size=64), tmp_path / "small" / "model", inputs["tokenizer"])
    with pytest.raises(UserError, match=r"small: its vocabulary is smaller than the tokenizer's; train it again"):
        sft(_config(), inputs | {"start": tmp_path / "small"}, tmp_path / "out")


def test_only_a_finished_answer_counts(inputs: dict[str, Path], words: Tokenizer) -> None:
    model = load_model(inputs["start"] / "model")
    with torch.no_grad():  # a model that says "2" for ever, whatever the question
        model.lm_head.weight.zero_()
        model.model.norm.weight.fill_(1.0)
        model.model.embed_tokens.weight.fill_(1.0)
        for layer in model.model.layers:
            for parameter in layer.parameters():
                parameter.zero_()
        model.lm_head.weight[words.token_to_id("2")] = 1.0
    (solution,) = solve(model, words, [TASK], Sampling(max_new_tokens=1))
    assert (solution.answer, solution.score) == ("2", 0.0)


def test_packed_and_masked_is_what_it_is_unpacked() -> None:
    """Loss and gradient of a row of several chats are the sums of those of every chat alone."""
    generator = torch.Generator().manual_seed(3)
    draw = lambda size: torch.randint(0, 97, (size,), generator=generator).tolist()  # noqa: E731
    chats = [Chat(draw(prompt), draw(response)) for prompt, response in ((4, 6), (7, 2), (3, 5))]
    packed, alone = tiny_model(), tiny_model()
    batch = ChatBatches(chats, 32, 1, 0, None).batch(0, 0, 1)
    logits_BTV = packed(batch.tokens_BT, documents_BT=batch.documents_BT)
    loss_tokens_BT = batch.loss_tokens_BT()
    targets = batch.tokens_BT[:, 1:][loss_tokens_BT]
    loss = torch.nn.functional.cross_entropy(logits_BTV[:, :-1][loss_tokens_BT], targets, reduction="sum")
    loss.backward()
    total = torch.zeros(())
    for chat in chats:
        logprobs_TV = alone(torch.tensor([chat.prompt + chat.response]))[0].log_softmax(-1)
        first = len(chat.prompt) - 1
        for place, token in enumerate(chat.response):  # of the prompt nothing is learned
            total = total - logprobs_TV[first + place, token]
    total.backward()
    assert len(targets) == sum(len(chat.response) for chat in chats)
    torch.testing.assert_close(loss, total)
    for (name, left), right in zip(packed.named_parameters(), alone.parameters(), strict=True):
        if left.grad is not None or right.grad is not None:
            torch.testing.assert_close(left.grad, right.grad, atol=1e-5, rtol=1e-3, msg=name)
