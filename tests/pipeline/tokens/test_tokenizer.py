from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from infra.errors import UserError
from pipeline.sections import TokenizerConfig
from pipeline.tokens.encoder import Encoder
from pipeline.tokens.tokenizer import FIM_TOKENS, SPECIAL_TOKENS, chat_text, tokenizer, train_tokenizer
from pipeline.tokens.tokenizer_sample import Sample, shares
from tests.pipeline.corpus import published, words, write_documents, write_reasoning

PROSE = "The cat sat on the mat, and the dog sat on the log.\nIt cost 12 dollars; they're 1234 in all. "


@cache
def _trained() -> Tokenizer:
    return train_tokenizer(TokenizerConfig(vocabulary=400), iter([PROSE * 5, words(0, 400)]))


def small_tokenizer(folder: Path) -> Path:
    """A tokenizer artifact of 400 tokens, for other tests."""
    folder.mkdir(parents=True)
    _trained().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|eos|>"}))
    return folder


def _run(root: Path, config: TokenizerConfig) -> tuple[Path, dict]:  # type: ignore[type-arg]
    rows = [(f"d{i}", "web" if i % 2 else "wiki", words(i, 200) + PROSE) for i in range(20)]
    inputs = {
        "decontaminate": write_documents(root / "documents", rows[:7], rows[7:]),
        "reasoning": write_reasoning(root / "reasoning", train=["What is 1 + 1?"] * 50),
    }
    (root / "out").mkdir()
    return root / "out", tokenizer(config, inputs, root / "out").written()


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _run(tmp_path_factory.mktemp("tokenizer"), TokenizerConfig(vocabulary=600))[0]


@given(st.text())
@settings(deadline=None)
def test_any_text_survives(text: str) -> None:
    assert _trained().decode(_trained().encode(text).ids, skip_special_tokens=False) == text


def test_special_tokens_come_first() -> None:
    assert [_trained().token_to_id(token) for token in SPECIAL_TOKENS] == list(range(7))
    assert _trained().get_vocab_size() == 400


def test_digits_stand_alone_and_nothing_crosses_a_line() -> None:
    vocabulary = [token for token in _trained().get_vocab() if token not in SPECIAL_TOKENS]
    assert not [token for token in vocabulary if len(token) > 1 and any(c.isdigit() and c.isascii() for c in token)]
    assert not [token for token in vocabulary if "Ċ" in token and len(token) > 1]
    assert _trained().encode("x1234").tokens[-4:] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hello, world 12\n\nx", ["Hello", ",", "Ġworld", "Ġ", "1", "2", "Ċ", "Ċ", "x"]),
        # The published punctuation class reaches from ":" to "~", so it splits letters outside ASCII from those within.
        ("naïve", ["na", "Ã¯", "ve"]),
        ("a = b", ["a", "Ġ=", "Ġb"]),
        ("end  ", ["end", "ĠĠ"]),
    ],
)
def test_pieces_are_deepseeks(text: str, pieces: list[str]) -> None:
    assert [piece for piece, _ in _trained().pre_tokenizer.pre_tokenize_str(text)] == pieces


def test_transformers_loads_it_and_renders_the_chat(artifact: Path) -> None:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(artifact, local_files_only=True)
    question, reasoning, answer = "What is 12 + 5?", "12 + 5 = 17", "17"
    prompt = [{"role": "user", "content": question}]
    solved = chat_text(question, reasoning, answer)
    for reply in (
        {"role": "assistant", "reasoning_content": reasoning, "content": answer},
        {"role": "assistant", "content": f"<think>{reasoning}</think>{answer}"},
    ):
        assert loaded.apply_chat_template([*prompt, reply], tokenize=False) == solved
    opened = loaded.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    assert opened == f"<|bos|><|user|>{question}<|assistant|>"
    assert solved.startswith(opened)
    ids = loaded(solved)["input_ids"]
    assert ids == Tokenizer.from_file(str(artifact / "tokenizer.json")).encode(solved).ids
    assert [i for i in ids if i < 7] == [0, 3, 4, 5, 6, 1]
    # The marks of the reasoning are visible text, the control tokens are not.
    assert loaded.decode(ids, skip_special_tokens=True) == f"{question}<think>{reasoning}</think>{answer}"
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (0, 1, 2)


def test_same_bytes_in_other_processes_and_threads(artifact: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.pipeline.tokens.test_tokenizer import _run; "
        "from pipeline.sections import TokenizerConfig; _run(Path(sys.argv[1]), TokenizerConfig(vocabulary=600))"
    )
    for workers in (1, 3):
        environment = {
            **os.environ,
            "DEEPMILL_EXECUTION": json.dumps({"workers": workers}),
            "PYTHONHASHSEED": str(workers),
        }
        folder = tmp_path / str(workers)
        folder.mkdir()
        subprocess.run([sys.executable, "-c", code, str(folder)], check=True, env=environment)
        assert published(folder / "out") == published(artifact)


def test_metrics_and_bounded_sample(tmp_path: Path) -> None:
    _, metrics = _run(tmp_path, TokenizerConfig(vocabulary=300, train_bytes=5000))
    assert metrics["vocabulary"] == 300
    assert metrics["train_bytes"] == {"web": 2500, "wiki": 2500}
    assert set(metrics["bytes_per_token"]) == {"web", "wiki", "reasoning"}
    assert all(value > 1 for value in metrics["bytes_per_token"].values())


def test_shares_pour_over() -> None:
    assert shares({"a": 10, "b": 100, "c": 1000}, 300) == {"a": 10, "b": 100, "c": 190}
    assert shares({"a": 10, "b": 100}, 1000) == {"a": 10, "b": 100}


def test_adopt(artifact: Path, tmp_path: Path) -> None:
    out, metrics = _run(tmp_path, TokenizerConfig(adopt=(str(artifact),)))
    assert metrics["adopted"]
    assert published(out) == published(artifact)


def _foreign(folder: Path) -> Tokenizer:
    """A tokenizer as others make them: a normalizer, a way of its own to split, a BOS before whatever it encodes."""
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

    built = Tokenizer(models.BPE(byte_fallback=False))
    built.normalizer = normalizers.NFC()
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<s>", "</s>", "<|user|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    built.train_from_iterator([PROSE * 20], trainer)
    built.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    folder.mkdir()
    built.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    return built


def test_a_foreign_tokenizer_gets_what_the_chat_format_needs(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    foreign = _foreign(tmp_path / "foreign")
    out, metrics = _run(tmp_path, TokenizerConfig(adopt=(str(tmp_path / "foreign"),), fill_in_middle=True))
    adopted = Tokenizer.from_file(str(out / "tokenizer.json"))
    own = foreign.get_vocab_size()
    added = [token for token in SPECIAL_TOKENS + FIM_TOKENS if token != "<|user|>"]
    assert metrics["vocabulary"] == own + len(added)
    assert [adopted.token_to_id(token) for token in added] == list(range(own, own + len(added)))
    assert adopted.token_to_id("<|user|>") == 2
    assert adopted.encode(PROSE).ids == foreign.encode(PROSE, add_special_tokens=False).ids
    loaded = AutoTokenizer.from_pretrained(out, local_files_only=True)
    solved = chat_text("What is 12 + 5?", "12 + 5 = 17", "17")
    ids = loaded(solved)["input_ids"]
    assert loaded.decode(ids) == solved
    assert ids[0] == loaded.bos_token_id == adopted.token_to_id("<|bos|>")
    assert ids[-1] == loaded.eos_token_id == Encoder(out).eos
    assert loaded.decode(ids, skip_special_tokens=True) == "What is 12 + 5?<think>12 + 5 = 17</think>17"


def test_adopt_refuses_what_is_no_tokenizer(artifact: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c", "torn", "gap"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        _run(tmp_path / "a", TokenizerConfig(adopt=(str(tmp_path / "a"),)))
    for name in ("torn", "gap"):
        (tmp_path / name / "tokenizer_config.json").write_text("{}")
    content = (artifact / "tokenizer.json").read_text()
    (tmp_path / "torn" / "tokenizer.json").write_text(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"torn/tokenizer\.json: cannot be read"):
        _run(tmp_path / "b", TokenizerConfig(adopt=(str(tmp_path / "torn"),)))
    state = json.loads(content)
    state["model"]["vocab"]["far"] = 1000
    (tmp_path / "gap" / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match="ids reach 1000, but there are 601 tokens"):
        _run(tmp_path / "c", TokenizerConfig(adopt=(str(tmp_path / "gap"),)))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% if messages %}", "Unexpected end of template"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ messages[7].content.lost() }}", "list object has no element 7"),
        ("{% for n in range(10**9) %}{% endfor %}", "Range too big"),
        ("{{ raise_exception('no system prompt') }}", "no system prompt"),
    ],
)
def test_a_chat_template_that_does_not_work_is_named_at_once(
    template: str, said: str, artifact: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "adopted"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((artifact / "tokenizer.json").read_bytes())
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError, match=rf"adopted: chat_template: {said}"):
        _run(tmp_path, TokenizerConfig(adopt=(str(folder),), template="adopted"))


def test_sample_is_of_the_least_hashes(tmp_path: Path) -> None:
    """Against the plain way: sort all documents by hash, take from the front."""
    rows = [(f"d{i}", "web" if i % 3 else "wiki", words(i, 20 + i % 7)) for i in range(200)]
    artifact = write_documents(tmp_path / "documents", rows[:90], [], rows[90:])
    sample = Sample(artifact, 20_000)
    taken = sorted(sample.texts())
    expected = []
    for source in ("web", "wiki"):
        left = sample.shares[source]
        texts = [text.encode() for _, name, text in rows if name == source]
        for text in sorted(texts, key=lambda text: hashlib.blake2b(text, digest_size=16).digest()):
            if left > 0:
                expected.append(text[:left].decode())
                left -= min(len(text), left)
    assert taken == sorted(expected)
    assert sample.taken == sample.shares
    assert sum(sample.taken.values()) == 20_000
