"""The model as MLflow loads it: asked in the ways that MLflow takes questions, with text that is only text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from model.release.serving_spec import pyfunc_spec
from tests.model.serving.talker import ANSWER, QUESTION, THOUGHT, save_talker


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import mlflow

    root = tmp_path_factory.mktemp("pyfunc")
    (root / "disclosure").mkdir()
    (root / "disclosure" / "card.md").write_text("what is kept beside the model is no stranger to it")
    mlflow.pyfunc.save_model(path=str(root / "saved"), **pyfunc_spec(save_talker(root / "talker"), root / "disclosure"))
    return mlflow.pyfunc.load_model(str(root / "saved"))


@pytest.mark.parametrize(
    "asked",
    [
        {"question": [QUESTION]},
        {"question": QUESTION},
        [{"question": QUESTION}],
        pd.DataFrame({"question": [QUESTION]}),
    ],
    ids=["lists", "text", "records", "frame"],
)
def test_a_question_is_asked_as_it_is_written(loaded: Any, asked: Any) -> None:
    (row,) = loaded.predict(asked).to_dict("records")
    assert (row["reasoning"], row["answer"]) == (THOUGHT, ANSWER)


def test_several_questions_are_several_rows(loaded: Any) -> None:
    both = loaded.predict({"question": ["Say it in full.", QUESTION]})
    assert list(both["answer"]) == ["one two three four five six seven eight", ANSWER]


def test_no_seed_is_a_new_one_each_time(loaded: Any) -> None:
    asked = pd.DataFrame({"question": ["Say it in full."]})

    def said(**more: Any) -> set[str]:
        wild = {"temperature": 2.0, "max_new_tokens": 24} | more
        return {loaded.predict(asked, params=wild)["text"][0] for _ in range(4)}

    assert len(said()) > 1
    assert len(said(seed=5)) == 1


@pytest.mark.parametrize("cell", [None, float("nan"), 4, [QUESTION, None]], ids=str)
def test_what_is_no_text_is_refused(cell: Any, tmp_path: Path) -> None:
    from model.release.pyfunc import _texts

    with pytest.raises(ValueError, match="no text"):
        _texts(pd.DataFrame({"question": pd.Series([cell], dtype=object)}), "question")


def test_a_conversation_of_one_message_is_a_question(loaded: Any) -> None:
    assert "messages" in loaded.metadata.get_input_schema().input_names()  # what `deepmill chat` asks by
    asked = json.dumps([{"role": "user", "content": QUESTION}])
    assert loaded.predict({"messages": [asked]})["answer"][0] == ANSWER


def test_turns_before_reach_the_model(loaded: Any) -> None:
    from model.generation.generate import Sampling, generate
    from pipeline.tokens.chat import Turn, chat_format

    mine = loaded.unwrap_python_model()
    turns = [("user", "Say it in full."), ("assistant", "one two three"), ("user", QUESTION)]
    chat = chat_format(mine.tokenizer)
    prompt = chat.prompt([Turn(role, content) for role, content in turns])
    (completion,) = generate(mine.model, [prompt], Sampling(max_new_tokens=256, temperature=0.0, seed=0), stop=chat.eos)
    wanted = mine.tokenizer.decode([token for token in completion.tokens if token != chat.eos])
    asked = json.dumps([{"role": role, "content": content} for role, content in turns])
    assert loaded.predict({"messages": [asked]})["text"][0] == wanted


@pytest.mark.parametrize(
    "text", ["Hello", "[]", '["Hello"]', '[{"role": "wizard", "content": "4"}]', '[{"role": "user"}]']
)
def test_what_is_no_conversation_is_refused(text: str) -> None:
    from pipeline.tokens.messages import read_turns

    with pytest.raises(ValueError, match="JSON list of objects with a role"):
        read_turns(text)
