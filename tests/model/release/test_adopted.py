"""Models and tokenizers that come from elsewhere: read from GGUF files, named as llama.cpp names them, given back."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFEndian, GGUFReader, GGUFValueType, GGUFWriter
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from infra.errors import UserError
from model.architecture.checkpoint import load_model, save_model
from model.architecture.config import Family
from model.architecture.first_look import look_at
from model.architecture.grid import Grid
from model.architecture.transformer import Transformer
from model.architecture.transformers_limits import read_otherwise
from model.architecture.vocabulary import fit_vocabulary
from model.release.gguf import unsupported, write_gguf
from model.release.quantized import plain_unit, rounded_unit
from model.release.units import units
from model.release.verify import HOSTILE, Llama
from pipeline.sections import TokenizerConfig
from pipeline.tokens.adopt import adopt, check_adoption, read_foreign
from pipeline.tokens.chat import Turn, chat_format, read_tokenizer
from pipeline.tokens.chat_template import write_settings
from pipeline.tokens.llama_names import PROBE, WAYS, Way, llama_name, pre_tokenizer_of
from pipeline.tokens.sentencepiece import Prefix
from tests.model.conftest import tiny_config, tiny_model
from tests.model.release.test_engines import CASES, YARN, make, write
from tests.model.release.test_one_prompt import CHATML
from tests.model.serving.talker import save_tokenizer
from tests.pipeline.tokens.pieces import LLAMA2, TEXTS, learned, save_pieces
from tests.pipeline.tokens.pieces import NAMES as PIECE_NAMES

LLAMA3 = {"low_freq_factor": 1.0, "factor": 4.0, "original_max_position_embeddings": 64}
LINEAR = {"rope_type": "linear", "factor": 4.0}
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


LETTERS = "aab bc  \n▁<>s/é我🦙x1"


@pytest.mark.parametrize("prefix", Prefix)
def test_sentencepieces_tokens_are_the_same_everywhere(prefix: Prefix, tmp_path: Path) -> None:
    """Here, in transformers and in llama.cpp: of text, however it begins, and of what a chat template renders."""
    (tmp_path / "out").mkdir()
    source = save_pieces(tmp_path / "published", prefix)
    if prefix is Prefix.EVERY:  # the merges as they were learned, one for each piece
        state = json.loads((source / "tokenizer.json").read_text())
        state["model"]["merges"] = learned()[0]["merges"]
        (source / "tokenizer.json").write_text(json.dumps(state))
    adopt(TokenizerConfig(adopt=(str(source),)), tmp_path / "out")
    words = read_tokenizer(tmp_path / "out")
    model = tiny_model(Family.LLAMA, vocab_size=words.get_vocab_size() + 3, hidden_size=32, num_hidden_layers=1)
    path = written(model, tmp_path / "out", tmp_path)
    draw = random.Random(0)
    texts = ["".join(draw.choices(LETTERS, k=draw.randint(1, 40))) for _ in range(30)]
    texts += [*HOSTILE, *TEXTS, *(f"{'a' * length}  b" for length in range(1, 20))]
    llama, theirs = Llama(path, context=32), AutoTokenizer.from_pretrained(tmp_path / "out")
    again = read_foreign(path)
    for text in texts:
        ids = words.encode(text, add_special_tokens=False).ids
        assert llama.tokens(text) == ids, text
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids, text
        assert again.tokenizer.encode(text, add_special_tokens=False).ids == ids, text
    assert again.settings == {**PIECE_NAMES, "chat_template": LLAMA2}
    kinds = GGUFReader(path).fields["tokenizer.ggml.token_type"].contents()
    assert kinds[:5] == [2, 3, 3, 6, 6]
    assert kinds[-6:] == [1, 4, 4, 5, 5, 5]  # a piece, the marks of the reasoning, rows that fill up


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
    assert kept["eos_token_id"] == ([1, 2] if kind == "folder" else 1)
    assert kept.get("temperature") == (0.2 if kind == "folder" else None)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": Family.QWEN2, "head_dim": 16}, "no head_dim"),
        ({"model_type": Family.QWEN3, "rope_scaling": LLAMA3}, "in its llama architecture alone"),
        ({"model_type": Family.DEEPSEEK_V3, "rope_scaling": LINEAR}, "latent attention scales its logits"),
        ({"model_type": Family.DEEPSEEK_V3, "rope_scaling": YARN | {"mscale_all_dim": 0.5}}, "alike, and neither 0"),
        ({"model_type": Family.LLAMA, "rope_scaling": YARN}, "outside latent attention"),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_known(config: dict[str, Any], reason: str, own: Path) -> None:
    """Each of these was seen: other logits, or a file that it does not load."""
    said = unsupported(tiny_config(config.pop("model_type"), **config), own)
    assert said
    assert reason in said


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
    lower = foreign(tmp_path / "lower", WAYS[0])
    edited(lower / "tokenizer.json", normalizer={"type": "Lowercase"})
    with pytest.raises(UserError, match=r"lower: llama\.cpp leaves text as it is .* set tokenizer\.llama_cpp to false"):
        adopt(TokenizerConfig(adopt=(str(lower),)), tmp_path)
    unigram = foreign(tmp_path / "unigram", WAYS[0])
    Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0)).save(str(unigram / "tokenizer.json"))
    with pytest.raises(UserError, match=r"unigram: its tokenizer is neither a byte-level BPE nor a BPE of Sentence"):
        adopt(TokenizerConfig(adopt=(str(unigram),)), tmp_path)


def edited(file: Path, **changes: object) -> Path:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return file.parent


NAMED = [{"name": "tool_use", "template": CHATML}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: edited(folder / "tokenizer_config.json", chat_template=NAMED), "none of them named default"),
        (lambda folder: (folder / "tokenizer.json").write_text("version https://git-lfs"), "cannot be read"),
        (lambda folder: (folder / "tokenizer.json").rename(folder / "vocab.json"), "vocab.json alone is not read"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "wants a Hugging Face tokenizer folder"),
        (lambda folder: (folder / "chat_template.jinja").write_bytes(b"\xe9"), "no UTF-8"),
    ],
)
def test_a_tokenizer_that_is_not_read_is_told_why(change: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    change(foreign(tmp_path / "foreign", WAYS[0]))
    with pytest.raises(UserError, match=f"foreign.*{said}"):
        check_adoption(TokenizerConfig(adopt=(str(tmp_path / "foreign"),)))


@pytest.mark.parametrize("file", ["tokenizer_config.json", "added_tokens.json"])
def test_tokens_that_stand_beside_the_vocabulary_are_tokens(file: str, tmp_path: Path) -> None:
    folder = foreign(tmp_path / "foreign", WAYS[0])
    size = read_tokenizer(folder).get_vocab_size()
    added = {size: "<tool>", size + 1: "<think>"}
    if file == "added_tokens.json":
        (folder / file).write_text(json.dumps({text: number for number, text in added.items()}))
    else:
        edited(folder / file, added_tokens_decoder={str(number): {"content": text} for number, text in added.items()})
    edited(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    (tmp_path / "out").mkdir()
    adopt(TokenizerConfig(adopt=(str(folder),)), tmp_path / "out")
    words, theirs = read_tokenizer(tmp_path / "out"), AutoTokenizer.from_pretrained(folder)
    for text in ("a<tool> b", "<think>"):
        assert words.encode(text).ids == theirs(text)["input_ids"]
        assert {size, size + 1} & set(words.encode(text).ids)
    edited(folder / "tokenizer_config.json", added_tokens_decoder={str(size + 7): {"content": "<far>"}})
    with pytest.raises(UserError, match="the added token '<far>' would not get its number"):
        check_adoption(TokenizerConfig(adopt=(str(folder),)))


@pytest.mark.parametrize("stated", ["Qwen2Tokenizer", "LlamaTokenizerFast", None, "no settings"])
def test_transformers_cuts_as_the_file_says_whatever_class_was_stated(stated: str | None, tmp_path: Path) -> None:
    """Classes of a family have a rule of their own in transformers 5, and one is chosen where none is stated."""
    folder = foreign(tmp_path / "foreign", WAYS[0])
    words = read_tokenizer(folder)
    words.add_tokens(["<think>", "</think>"])  # so that nothing is missing
    words.save(str(folder / "tokenizer.json"))
    if stated == "no settings":
        (folder / "tokenizer_config.json").unlink()
        (folder / "chat_template.jinja").write_text(CHATML)
    else:
        edited(folder / "tokenizer_config.json", tokenizer_class=stated)
    (tmp_path / "out").mkdir()
    adopt(TokenizerConfig(adopt=(str(folder),)), tmp_path / "out")
    (tmp_path / "out" / "config.json").write_text(json.dumps(tiny_config(Family.QWEN3).to_hf()))
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in HOSTILE:
        assert theirs(text, add_special_tokens=False)["input_ids"] == words.encode(text).ids


@pytest.mark.parametrize(
    ("family", "way", "normalizer", "said"),
    [
        (Family.QWEN2, "qwen2", {"type": "NFC"}, {}),
        (Family.QWEN2, "qwen2", None, {"AutoTokenizer"}),
        (Family.QWEN2, "gpt-2", {"type": "NFC"}, {"AutoTokenizer"}),
        (Family.QWEN3, "gpt-2", None, {}),
        (Family.DEEPSEEK, "gpt-2", None, {"transformers"}),
    ],
)
def test_what_transformers_reads_otherwise_is_told(
    family: Family, way: str, normalizer: object, said: set[str], tmp_path: Path
) -> None:
    folder = foreign(tmp_path / "words", next(each for each in WAYS if each.name == way))
    edited(folder / "tokenizer.json", normalizer=normalizer)
    config = tiny_config(family)
    assert read_otherwise(config, folder).keys() == set(said)
    if family is Family.DEEPSEEK:
        return
    (folder / "config.json").write_text(json.dumps(config.to_hf()))
    edited(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    words = read_tokenizer(folder)
    for kind in (AutoTokenizer, PreTrainedTokenizerFast):
        theirs = kind.from_pretrained(folder)
        same = [theirs(text)["input_ids"] == words.encode(text).ids for text in HOSTILE]
        assert all(same) == (kind is PreTrainedTokenizerFast or not said)


def test_rows_that_fill_an_embedding_up_become_new_tokens(tmp_path: Path) -> None:
    """As in Qwen2, whose embedding has 271 rows more than its tokenizer has tokens."""
    folder = foreign(tmp_path / "foreign", WAYS[0])
    own = read_tokenizer(folder)
    size = own.get_vocab_size()
    model = tiny_model(Family.LLAMA, vocab_size=size + 27)
    out = tmp_path / "out"
    out.mkdir()
    adopt(TokenizerConfig(adopt=(str(folder),)), out)
    save_model(model, folder, None)
    grown = fit_vocabulary(model, folder, out)
    assert grown.config.vocab_size == size + 27
    pieces = own.encode("<think>", add_special_tokens=False).ids
    for rows, wanted in (
        (grown.model.embed_tokens.weight, model.model.embed_tokens.weight),
        (grown.lm_head.weight, model.lm_head.weight),
    ):
        torch.testing.assert_close(rows[size], wanted[pieces].mean(0))
        assert torch.equal(rows[:size], wanted[:size])
        assert torch.equal(rows[size + 2 :], wanted[size + 2 :])


def ends(folder: Path, changes: dict[str, object], **files: dict[str, object]) -> Path:
    """A tokenizer whose end is named elsewhere, or nowhere."""
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "eos_token": None, **changes}))
    (folder / "special_tokens_map.json").unlink()
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_the_end_of_a_text_is_looked_for_or_asked_for(tmp_path: Path) -> None:
    folder = ends(foreign(tmp_path / "foreign", WAYS[0]), {})
    with pytest.raises(UserError, match=r"foreign/tokenizer_config\.json: no eos_token of its vocabulary"):
        adopt(TokenizerConfig(adopt=(str(folder),)), tmp_path)
    ends_at = {"eos_token_id": [2, 1, -1, 9999]}
    (folder / "special_tokens_map.json").write_text("{}")
    adopt(TokenizerConfig(adopt=(str(ends(folder, {}, generation_config=ends_at)),)), tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["eos_token"] == "<|endoftext|>"
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == [2, 1]


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ("llama.block_count", "its metadata lacks block_count; copy it again"),
        ("llama.attention.head_count", "its metadata lacks attention.head_count"),
        ("llama.attention.layer_norm_rms_epsilon", "its metadata lacks attention.layer_norm_rms_epsilon"),
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
        with pytest.raises(
            UserError, match=r"model\.gguf: cannot be read|model\.gguf: not a readable GGUF file|model\.gguf: its"
        ):
            read(path)


def changed(
    source: Path,
    target: Path,
    *,
    arch: str | None = None,
    without: str = "(?!)",
    kept: Collection[str] | None = None,
    more: Mapping[str, torch.Tensor] | None = None,
    named: Mapping[str, str] | None = None,
    endian: GGUFEndian = GGUFEndian.LITTLE,
    **values: tuple[Any, GGUFValueType],
) -> Path:
    """A GGUF file as other programs would have written it. `values` have two underscores for every point."""
    reader = GGUFReader(source)
    writer = GGUFWriter(target, arch or reader.fields["general.architecture"].contents(), endianess=endian)
    keys = {key.replace("__", "."): value for key, value in values.items()}
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key not in {"general.architecture", *keys} and not re.search(without, key):
            inner = field.types[-1] if field.types[0] is GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], inner)
    for key, (value, kind) in keys.items():
        writer.add_key_value(key, value, kind, GGUFValueType.INT32 if kind is GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        if kept is None or tensor.name in kept:
            writer.add_tensor((named or {}).get(tensor.name, tensor.name), np.array(tensor.data))
    for name, weight in (more or {}).items():
        writer.add_tensor(name, weight.detach().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


U32, F32, TEXT = GGUFValueType.UINT32, GGUFValueType.FLOAT32, GGUFValueType.STRING


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arch": "gemma2"}, "its architecture 'gemma2' is not one of llama, qwen2, qwen3, deepseek2"),
        ({"llama__rope__dimension_count": (4, U32)}, "a rotary embedding of 4 of 8 numbers is not supported"),
        ({"llama__attention__value_length": (4, U32)}, "keys and values of different widths"),
        ({"llama__attention__causal": (False, GGUFValueType.BOOL)}, "llama.attention.causal False is not supported"),
        ({"more": {"rope_freqs.weight": torch.ones(2)}}, "rope_freqs.weight is not of Llama 3.1's kind"),
        ({"more": {"rope_freqs.weight": torch.full((4,), torch.nan)}}, "rope_freqs.weight is not of Llama 3.1's kind"),
        ({"llama__attn_logit_softcapping": (30.0, F32)}, "llama.attn_logit_softcapping 30.0 is not supported"),
        ({"llama__attention__head_count": ([4, 4, 4], GGUFValueType.ARRAY)}, "attention.head_count differs from layer"),
        ({"llama__expert_count": (8, U32)}, "llama with experts is no family"),
        ({"llama__rope__scaling__type": ("longrope", TEXT), "llama__rope__scaling__factor": (4.0, F32)}, "'longrope'"),
        ({"named": {"output_norm.weight": "rope_factors_long.weight"}}, "tensor rope_factors_long.weight is none of"),
        ({"named": {"output_norm.weight": "blk.0.ffn_up.bias"}}, "mlp.up_proj.bias not known"),
        ({"named": {"token_embd.weight": "blk.0.attn_q.scale"}}, "token_embd.weight is missing"),
        ({"endian": GGUFEndian.BIG}, "its numbers are big-endian"),
    ],
)
def test_a_file_that_is_computed_otherwise_is_refused(
    changes: dict[str, Any], said: str, own: Path, tmp_path: Path
) -> None:
    path = changed(write(make("dense"), own, tmp_path), tmp_path / "changed.gguf", **changes)
    with pytest.raises(UserError, match=rf"changed\.gguf: .*{said}"):
        load_model(path)
    if "up_proj.bias" not in said and "rope_freqs" not in said:  # which are seen when the weights are read
        with pytest.raises(UserError, match=r"changed\.gguf: "):
            look_at(path)


def test_a_type_of_blocks_that_is_not_known(own: Path, tmp_path: Path) -> None:
    path = write(make("dense"), own, tmp_path)
    field, content = GGUFReader(path).tensors[0].field, bytearray(path.read_bytes())
    place = field.offset + sum(part.nbytes for part in field.parts[:4])
    content[place : place + 4] = (99).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(UserError, match="blocks of a type not known here"):
        load_model(path)


def test_a_file_in_parts(own: Path, tmp_path: Path) -> None:
    model = make("dense")
    whole = GGUFReader(write(model, own, tmp_path))
    names = [tensor.name for tensor in whole.tensors]
    parts = [tmp_path / f"model-0000{number}-of-00002.gguf" for number in (1, 2)]
    for number, path in enumerate(parts):
        count = {"split__count": (2, GGUFValueType.UINT16), "split__no": (number, GGUFValueType.UINT16)}
        changed(tmp_path / "model-f32.gguf", path, **count, kept=set(names[number::2]))
    again = load_model(parts[0]).state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in model.state_dict().items())
    with pytest.raises(UserError, match=r"model-00002-of-00002\.gguf: not the first of its 2 parts; name model-00001"):
        load_model(parts[1])
    parts[1].unlink()
    with pytest.raises(UserError, match=r"its part model-00002-of-00002\.gguf is not there"):
        load_model(parts[0])
    renamed = parts[0].rename(tmp_path / "first.gguf")
    with pytest.raises(UserError, match=r"first\.gguf: one of 2 parts, and not named so"):
        load_model(renamed)


def test_a_file_from_before_keys_and_values_were_apart(own: Path, tmp_path: Path) -> None:
    model = make("softmax gate")
    config, path = model.config, write(model, own, tmp_path)
    joined = {
        f"blk.{number}.attn_kv_b.weight": layer.self_attn.kv_b_proj.weight
        for number, layer in enumerate(model.model.layers)
    }
    width = config.qk_nope_head_dim + config.qk_rope_head_dim
    lengths = {
        "deepseek2__attention__key_length": (width, U32),
        "deepseek2__attention__value_length": (config.v_head_dim, U32),
    }
    names = [
        tensor.name
        for tensor in GGUFReader(path).tensors
        if "attn_k_b" not in tensor.name and "attn_v_b" not in tensor.name
    ]
    early = changed(
        path,
        tmp_path / "early.gguf",
        without=r"_mla$|expert_weights_norm|gating_func",
        kept=set(names),
        more=joined,
        **lengths,
    )
    again = load_model(early).state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in model.state_dict().items())
