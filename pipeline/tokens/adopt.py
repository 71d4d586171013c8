"""A tokenizer that exists is taken over: from a Hugging Face folder, or out of a GGUF file.

What it makes of text stays the same. Its chat template and special tokens stay its own, and the marks of the reasoning
are added behind its tokens; one without a template gets the chat format of tokenizers trained here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from infra import events
from infra.errors import UserError
from infra.json_objects import JsonObject, read_object
from pipeline.sections import TokenizerConfig
from pipeline.tokens.chat import ChatFormat
from pipeline.tokens.chat_template import (
    FIM_TOKENS,
    SPECIAL_TOKENS,
    VISIBLE_TOKENS,
    TemplateFormat,
    read_format,
    template_of,
    token_names,
    write_own_settings,
    write_settings,
)
from pipeline.tokens.files import TOKENIZER_FILES, copy_tokenizer
from pipeline.tokens.llama_names import unnamed
from pipeline.tokens.sentencepiece import as_llama_cpp, is_in_pieces
from pipeline.tokens.sentencepiece_model import MODEL, read_model, with_added

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["VOCABULARIES", "Foreign", "adopt", "check_adoption", "read_foreign"]

GENERATION = "generation_config.json"
VOCABULARY, SETTINGS, NAMES = TOKENIZER_FILES[:3]
VOCABULARIES = (VOCABULARY, MODEL)
"""Files of a folder that hold one, the first where there are two."""
AS_WRITTEN = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Classes with which transformers takes ``tokenizer.json`` as it is. Those of a family, which it chooses where a folder
names none, set blanks or cut text in a way of their own."""
OTHERS = ("vocab.json", "tekken.json", "*.tiktoken", "*.model", "vocab.txt")
"""Vocabularies in files that are not read."""


@dataclass(frozen=True)
class Foreign:
    """A tokenizer from elsewhere."""

    path: Path
    tokenizer: Tokenizer
    settings: JsonObject
    """As in ``tokenizer_config.json``, the chat template among them."""
    generation: JsonObject = field(default_factory=dict)
    """How its model is to be sampled, as in ``generation_config.json``."""
    is_changed: bool = False
    """Whether the tokenizer is no longer what its files say."""


def read_foreign(path: Path) -> Foreign:
    """The tokenizer of a folder or a GGUF file.

    Raises:
        UserError: there is none, or it is of a kind that is not read.
    """
    if path.is_file() and path.suffix == ".gguf":
        from pipeline.tokens.gguf_tokenizer import read_gguf_tokenizer

        return Foreign(path, *read_gguf_tokenizer(path))
    from tokenizers import Tokenizer

    is_listed = (path / VOCABULARY).is_file()
    if not is_listed and not (path / MODEL).is_file():
        raise UserError(f"{path}: no {VOCABULARY}; {_instead(path)}")
    settings = read_object(path / SETTINGS) if (path / SETTINGS).is_file() else {}
    try:
        tokenizer = (
            with_added(Tokenizer.from_file(str(path / VOCABULARY)), path, settings)
            if is_listed
            else read_model(path, settings)
        )
    except UserError:
        raise
    except Exception as error:  # a bare Exception is what the library raises
        raise UserError(f"{path / VOCABULARY}: cannot be read ({error}); copy it again") from None
    beside, generation = path / "chat_template.jinja", path / GENERATION
    if beside.is_file():
        try:
            settings["chat_template"] = beside.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{beside}: no UTF-8 ({error}); save it so") from None
    sampled = read_object(generation) if generation.is_file() else {}
    return Foreign(path, tokenizer, settings | _named_elsewhere(path, tokenizer, settings, sampled), sampled)


def _instead(path: Path) -> str:
    """What to do where a folder has no vocabulary that is read."""
    for pattern in OTHERS:
        for file in path.glob(pattern):
            return (
                f"{file.name} alone is not read: save it with transformers (AutoTokenizer.from_pretrained, then "
                "save_pretrained), and name that folder"
            )
    return "tokenizer.adopt wants a Hugging Face tokenizer folder, or a GGUF file"


def _named_elsewhere(path: Path, tokenizer: Tokenizer, settings: JsonObject, sampled: JsonObject) -> JsonObject:
    """Special tokens that ``tokenizer_config.json`` leaves to other files: older ones have them in one beside it, and
    the end of a text is among the model's ids."""
    beside, model = path / NAMES, path / "config.json"
    named = token_names(read_object(beside)) if beside.is_file() else {}
    found = {f"{role}_token": name for role, name in named.items() if f"{role}_token" not in settings}
    if "eos" in token_names(settings | found):
        return found
    stated = ((read_object(model) if model.is_file() else {}) | sampled).get("eos_token_id")
    number = stated[0] if isinstance(stated, list) and stated else stated
    end = tokenizer.id_to_token(number) if isinstance(number, int) and number >= 0 else None
    return found if end is None else found | {"eos_token": end}


def adopt(config: TokenizerConfig, out_dir: Path) -> Tokenizer:
    """Write the tokenizer of `config.adopt` to `out_dir`, with the tokens that it lacks.

    Raises:
        UserError: it is no tokenizer, or none that llama.cpp can follow where that is asked for.
    """
    found, template, missing = _examined(config)
    has_settings = template is not None or template_of(found.settings) is None
    if not missing and has_settings and _is_as_written(found):
        copy_tokenizer(found.path, out_dir)
        tokenizer = found.tokenizer
    else:
        tokenizer = _grown(found, missing)
        tokenizer.save(str(out_dir / VOCABULARY))
        if template:
            write_settings(out_dir, _settings(found, template))
        else:
            write_own_settings(out_dir)
    _write_generation(found, tokenizer, out_dir)
    if found.is_changed:
        events.note(
            f"{found.path}: read as llama.cpp can, with blanks before every text or none, added tokens as they "
            "stand; tokenizer.llama_cpp: false keeps its own way"
        )
    if missing:
        first = tokenizer.token_to_id(missing[0])
        events.note(f"{found.path}: the tokens {', '.join(missing)} were added, as ids {first} and after")
    return tokenizer


def check_adoption(config: TokenizerConfig) -> None:
    """See that `adopt` would go through, before anything is made for it.

    Raises:
        UserError: as of `adopt`.
    """
    found, template, missing = _examined(config)
    if template:
        names = tuple(token_names(found.settings).items())
        ChatFormat(_grown(found, missing), TemplateFormat(template, names, f"{found.path}: chat_template"))


def _examined(config: TokenizerConfig) -> tuple[Foreign, str | None, list[str]]:
    """The tokenizer, the chat template that it keeps, and the tokens that it lacks."""
    if len(config.adopt) != 1:
        raise UserError(f"tokenizer.adopt: {len(config.adopt)} folders given; name one")
    found = read_foreign(Path(config.adopt[0]))
    found = _checked(found, config)
    template = template_of(found.settings) if config.template == "adopted" else None
    if template is None and config.template == "adopted" and found.settings.get("chat_template"):
        raise UserError(
            f"{_settings_file(found)}: its chat_template is several, none of them named default; name one so, or set "
            "tokenizer.template to own"
        )
    if template:  # now, and not when the first conversation is written
        tokens = tuple(token_names(found.settings).items())
        trial = [{"role": "user", "content": "?"}]
        TemplateFormat(template, tokens, f"{found.path}: chat_template").render(trial, open_answer=True)
        end = dict(tokens).get("eos")
        if end is None or found.tokenizer.token_to_id(end) is None:
            raise UserError(
                f"{_settings_file(found)}: no eos_token of its vocabulary, so that no text would end; name one"
            )
    wanted = (VISIBLE_TOKENS if template else SPECIAL_TOKENS) + (FIM_TOKENS if config.fill_in_middle else ())
    missing = [token for token in wanted if found.tokenizer.token_to_id(token) is None]
    return found, template, missing


def _settings_file(found: Foreign) -> Path:
    return found.path / SETTINGS if found.path.is_dir() else found.path


def _is_as_written(found: Foreign) -> bool:
    """Whether its files say all that is known: every special token by name, and the tokenizer itself."""
    if found.is_changed or not all((found.path / name).is_file() for name in (VOCABULARY, SETTINGS)):
        return False
    settings, state = (read_object(found.path / name) for name in (SETTINGS, VOCABULARY))
    if len(state["added_tokens"]) != len(found.tokenizer.get_added_tokens_decoder()):
        return False  # others are named in a file beside it
    return settings.get("tokenizer_class") in AS_WRITTEN and token_names(settings) == token_names(found.settings)


def _checked(found: Foreign, config: TokenizerConfig) -> Foreign:
    """The tokenizer, as llama.cpp can follow it where that is asked for."""
    tokenizer, path = found.tokenizer, found.path
    state: JsonObject = json.loads(tokenizer.to_str())
    is_byte_level = state["model"]["type"] == "BPE" and "ByteLevel" in json.dumps(state["pre_tokenizer"])
    if not is_byte_level and not is_in_pieces(tokenizer):
        raise UserError(
            f"{path}: its tokenizer is neither a byte-level BPE nor a BPE of SentencePiece that falls back on bytes; "
            "others, as unigrams, are not read"
        )
    if state["model"].get("dropout"):
        raise UserError(f"{path}: its BPE leaves out merges by chance; set model.dropout of its tokenizer.json to null")
    last = max(tokenizer.get_vocab().values())
    if last >= tokenizer.get_vocab_size():
        where = path / VOCABULARY if path.is_dir() else path
        raise UserError(
            f"{where}: ids reach {last}, but there are {tokenizer.get_vocab_size()} tokens; "
            "give the ids between to tokens of no use"
        )
    if not config.llama_cpp:
        return found
    settled = as_llama_cpp(tokenizer)
    if reason := unnamed(settled):
        raise UserError(f"{path}: {reason}; set tokenizer.llama_cpp to false for a model without GGUF files")
    return found if settled is tokenizer else replace(found, tokenizer=settled, is_changed=True)


def _grown(found: Foreign, missing: list[str]) -> Tokenizer:
    """With the missing tokens behind its own, and nothing that adds tokens by itself."""
    from tokenizers import AddedToken, Tokenizer

    grown = Tokenizer.from_str(found.tokenizer.to_str())
    grown.add_tokens([AddedToken(token, special=token not in VISIBLE_TOKENS, normalized=False) for token in missing])
    state = json.loads(grown.to_str())
    # The chat format places its own control tokens, and rows are packed to their full length.
    state |= {"post_processor": None, "truncation": None, "padding": None}
    return Tokenizer.from_str(json.dumps(state))


def _settings(found: Foreign, template: str) -> JsonObject:
    kept = {f"{role}_token": name for role, name in token_names(found.settings).items()}
    return kept | {
        "add_bos_token": False,
        "add_eos_token": False,
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1 << 30,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def _write_generation(found: Foreign, tokenizer: Tokenizer, out_dir: Path) -> None:
    """How the adopted model is sampled, and where its answers end if not at the end of a text alone."""
    kept = {key: value for key, value in found.generation.items() if not key.endswith(("_token_id", "_version"))}
    written = read_format(out_dir)
    text_end = tokenizer.token_to_id(written.token("eos") or "")
    ends = [number for number in (text_end, ChatFormat(tokenizer, written).eos) if number is not None]
    if written.template == template_of(found.settings):
        stated = found.generation.get("eos_token_id")
        others = stated if isinstance(stated, list) else [stated]
        known = range(tokenizer.get_vocab_size())
        ends += [number for number in others if isinstance(number, int) and number in known]
    ends = list(dict.fromkeys(ends))
    if ends != [text_end]:
        kept["eos_token_id"] = ends
    if kept:
        text = json.dumps(kept, ensure_ascii=False, indent=2, sort_keys=True)
        (out_dir / GENERATION).write_text(text + "\n", encoding="utf-8")
