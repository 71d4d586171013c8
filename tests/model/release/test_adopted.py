"""Models and tokenizers that come from elsewhere: read from GGUF files, named as llama.cpp names them, given back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from infra.errors import UserError
from model.architecture.checkpoint import load_model, save_model
from model.architecture.config import Family
from model.architecture.transformer import Transformer
from model.architecture.vocabulary import fit_vocabulary
from model.release.gguf import write_gguf
from model.release.grid import Grid
from model.release.quantized import plain_unit, rounded_unit
from model.release.units import units
from model.release.verify import HOSTILE, Llama
from pipeline.sections import TokenizerConfig
from pipeline.tokens.adopt import adopt, read_foreign
from pipeline.tokens.chat import Turn, chat_format, read_tokenizer
from pipeline.tokens.chat_template import write_settings
from pipeline.tokens.llama_names import PROBE, WAYS, Way, llama_name, pre_tokenizer_of
from tests.model.conftest import tiny_model
from tests.model.release.test_engines import CASES, make, write
from tests.model.release.test_one_prompt import CHATML
from tests.model.serving.talker import save_tokenizer

NAMES = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>"}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("own"))


def foreign(folder: Path, way: Way) -> Path:
    """A tokenizer of another make, with a chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    built = Tokenizer(models.BPE(ignore_merges=way.ignore_merges))
    built.pre_tokenizer = pre_tokenizer_of(way)
    built.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=list(NAMES.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    built.train_from_iterator([PROBE * 4, *HOSTILE], trainer)
    built.save(str(folder / "tokenizer.json"))
    write_settings(folder, {**NAMES, "chat_template": CHATML})
    return folder


def is_rounded(weight: torch.Tensor) -> bool:
    return weight.dim() > 1 and weight.shape[-1] % 32 == 0


def written(model: Transformer, tokenizer: Path, folder: Path, grid: Grid | None = None) -> Path:
    path = folder / ("model-f32.gguf" if grid is None else "model-q8_0.gguf")
    stored = {
        name: rounded_unit(weight, grid) if grid is not None and is_rounded(weight) else plain_unit(weight, None)
        for name, weight in units(model).items()
    }
    write_gguf(path, model.config, stored, tokenizer, name="tiny")
    return path


@pytest.mark.parametrize("case", CASES)
def test_a_gguf_file_is_the_model_it_was_made_from(case: str, own: Path, tmp_path: Path) -> None:
    model = make(case)
    again = load_model(write(model, own, tmp_path))
    tokens_BT = torch.randint(7, model.config.vocab_size, (1, 24), generator=torch.Generator().manual_seed(1))
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in model.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(again(tokens_BT), model(tokens_BT), atol=1e-5, rtol=0)


def test_blocks_are_worked_out(own: Path, tmp_path: Path) -> None:
    model = make("dense")
    again = load_model(written(model, own, tmp_path, Grid.Q8_0))
    for name, weight in units(model).items():
        wanted = rounded_unit(weight, Grid.Q8_0).weight() if is_rounded(weight) else weight
        assert torch.equal(units(again)[name], wanted), name


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_a_tokenizer_is_named_by_what_it_does_and_llama_cpp_agrees(way: Way, tmp_path: Path) -> None:
    folder = foreign(tmp_path / "foreign", way)
    assert llama_name(folder) == way.name
    words = read_tokenizer(folder)
    model = tiny_model(Family.LLAMA, vocab_size=words.get_vocab_size(), hidden_size=32, num_hidden_layers=1)
    path = written(model, folder, tmp_path)
    llama = Llama(path, context=32)
    for text in (*HOSTILE, PROBE):
        assert llama.tokens(text) == words.encode(text, add_special_tokens=False).ids
    again = read_foreign(path)
    assert [again.tokenizer.encode(text).ids for text in HOSTILE] == [words.encode(text).ids for text in HOSTILE]
    assert again.settings == {**NAMES, "chat_template": CHATML}


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_it_keeps_its_template_and_tokens(kind: str, tmp_path: Path) -> None:
    folder = foreign(tmp_path / "foreign", WAYS[0])
    words = read_tokenizer(folder)
    model = tiny_model(Family.LLAMA, vocab_size=words.get_vocab_size())
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.2, "eos_token_id": 2}))
    source = written(model, folder, tmp_path) if kind == "file" else folder
    out = tmp_path / "out"
    out.mkdir()
    adopted = adopt(TokenizerConfig(adopt=(str(source),)), out)
    size = words.get_vocab_size()
    assert adopted.get_vocab_size() == size + 2
    assert [adopted.token_to_id(token) for token in ("<think>", "</think>")] == [size, size + 1]
    settings = json.loads((out / "tokenizer_config.json").read_text())
    assert settings["chat_template"] == CHATML
    assert {key: settings[key] for key in NAMES} == NAMES
    chat = chat_format(read_tokenizer(out))
    assert adopted.decode(chat.prompt([Turn("system", "S"), Turn("user", "U")]), skip_special_tokens=False) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    )
    assert adopted.decode(chat.response("r", "a"), skip_special_tokens=False) == "<think>r</think>a<|im_end|>"
    grown = fit_vocabulary(load_model(source) if kind == "file" else model, source, out)
    assert grown.config.vocab_size == size + 2
    save_model(grown, tmp_path / "model", out)
    kept = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert kept["eos_token_id"] == 1
    assert kept.get("temperature") == (0.2 if kind == "folder" else None)


def test_a_recipe_may_say_otherwise(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "foreign", WAYS[0])
    out = tmp_path / "out"
    out.mkdir()
    adopt(TokenizerConfig(adopt=(str(folder),), template="own"), out)
    words = read_tokenizer(out)
    prompt = chat_format(words).question("U")
    assert words.decode(prompt, skip_special_tokens=False) == "<|bos|><|user|>U<|assistant|>"


def test_what_llama_cpp_cannot_follow_is_refused_at_once(tmp_path: Path) -> None:
    odd = foreign(tmp_path / "odd", Way("odd", (r"\p{L}{1,2}",)))
    with pytest.raises(UserError, match=r"odd: llama\.cpp knows no pre-tokenizer .* set tokenizer\.llama_cpp to false"):
        adopt(TokenizerConfig(adopt=(str(odd),)), tmp_path)
    adopt(TokenizerConfig(adopt=(str(odd),), llama_cpp=False), tmp_path)
    metaspace = foreign(tmp_path / "metaspace", WAYS[0])
    state = json.loads((metaspace / "tokenizer.json").read_text())
    state["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    (metaspace / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match=r"metaspace: its tokenizer is no byte-level BPE"):
        adopt(TokenizerConfig(adopt=(str(metaspace),)), tmp_path)


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ("llama.block_count", "its metadata lacks block_count; copy it again"),
        ("llama.attention.head_count", "its metadata lacks attention.head_count"),
        ("tokenizer.ggml.tokens", "its tokenizer is not whole"),
        ("tokenizer.ggml.merges", "its tokenizer is not whole"),
    ],
)
def test_a_file_without_a_key_is_named(lacking: str, said: str, own: Path, tmp_path: Path) -> None:
    path = write(make("dense"), own, tmp_path)
    content = path.read_bytes()
    assert content.count(lacking.encode()) >= 1
    path.write_bytes(content.replace(lacking.encode(), lacking[:-1].encode() + b"X"))
    with pytest.raises(UserError, match=rf"{path.name}: {said}"):
        (read_foreign if lacking.startswith("tokenizer") else load_model)(path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + bytes(40))
    for read in (load_model, read_foreign):
        with pytest.raises(UserError, match=r"model\.gguf: not a readable GGUF file|model\.gguf: its"):
            read(path)
