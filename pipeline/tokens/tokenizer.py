"""The tokenizer: byte-level BPE trained on the corpus, as a Hugging Face folder.

Pre-tokenization is DeepSeek-LLM's (arXiv 2401.02954, section 2.1; the regular expressions of its published tokenizer,
which llama.cpp knows as `deepseek-llm`): no token crosses a line break or a change of character class, digits stand
alone, CJK is apart. The text is any bytes; nothing is unknown.

The ids of `SPECIAL_TOKENS` come first. `<think>` and `</think>` are ordinary added tokens, so that decoding without
special tokens still shows where the reasoning ends.

Training reads a bounded sample, an equal share of each source (what a small source leaves, the others get), chosen by a
hash of the text, and the reasoning tasks of the training split. BPE counts words, so neither order nor threads matter.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from infra import events
from infra.errors import UserError
from infra.execution import execution
from pipeline.sections import TokenizerConfig
from pipeline.tokens.chat_template import (
    CHAT_TEMPLATE,
    OWN_FORMAT,
    SPECIAL_TOKENS,
    VISIBLE_TOKENS,
    chat_text,
    write_settings,
)
from pipeline.tokens.metrics import TokenizerMetrics

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import Sequence

    from pipeline.tokens.tokenizer_sample import Sample

__all__ = [
    "CHAT_TEMPLATE",
    "FIM_TOKENS",
    "SPECIAL_TOKENS",
    "chat_text",
    "pre_tokenizer",
    "tokenizer",
    "train_tokenizer",
]

FIM_TOKENS = ("<|fim_begin|>", "<|fim_hole|>", "<|fim_end|>")
"""Before the prefix, the suffix and the middle; they come after `SPECIAL_TOKENS` where the recipe asks for them."""
# Code points, for several of these characters look like, and normalise to, others: the cased letters of Unicode 11.
LETTERS = """
41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376-377 37B-37D 37F 386 388-38A 38C 38E-3A1
3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B 1D6B-1D77 1D79-1D9A
1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4
1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128
212A-212D 212F-2134 2139 213C-213F 2145-2149 214E 2183-2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2-2CF3 A640-A66D
A680-A69B A722-A76F A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3
104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF 1E900-1E943
"""
PUNCTUATION = "21-2F 3A-7E FF01-FF0F FF1A-FF5E 2018-201F 3000-3002"
EAST_ASIAN = "4E00-9FA5 800-4E00 AC00-D7FF"


def _characters(ranges: str) -> str:
    """A regular expression class of the characters in these ranges of hexadecimal code points."""
    pieces = ("-".join(f"\\x{{{point}}}" for point in item.split("-")) for item in ranges.split())
    return f"[{''.join(pieces)}]"


SPLITS = (
    "[\\r\\n]",
    rf"\s?{_characters(LETTERS)}+",
    rf"\s?{_characters(PUNCTUATION)}+",
    r"\s+$",
    f"{_characters(EAST_ASIAN)}+",
)
"""DeepSeek-LLM's pre-tokenization: each pattern splits the pieces that the one before it has left."""


def tokenizer(config: TokenizerConfig, inputs: Mapping[str, Path], out_dir: Path) -> TokenizerMetrics:
    """Train on `inputs["decontaminate"]` and `inputs["reasoning"]`, or adopt an existing tokenizer.

    Raises:
        UserError: the folder to adopt is no tokenizer; there is nothing to train on.
    """
    from pipeline.tokens.tokenizer_sample import MEASURED, Sample  # datatrove: who only encodes goes without

    # Read by the tokenizers library when its thread pool starts; the result does not depend on the number of threads.
    os.environ["RAYON_NUM_THREADS"] = str(execution().processes)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    sample = Sample(inputs["decontaminate"], config.train_bytes)
    tasks = inputs["reasoning"] / "train.jsonl"
    events.begin("reading" if config.adopt else "training", sum(sample.shares.values()), "bytes")
    if config.adopt:
        trained = _adopt(config, out_dir)
        for text in sample.texts():
            events.advance(len(text))
    else:
        trained = train_tokenizer(config, _texts(sample, tasks))
        if trained.get_vocab_size() < config.vocabulary:
            events.note(f"the text yields {trained.get_vocab_size()} tokens of the {config.vocabulary} asked for")
        trained.save(str(out_dir / "tokenizer.json"))
        _write_settings(out_dir)
    events.flush()
    measured = {**sample.measured(), "reasoning": "\n".join(islice(_tasks(tasks), 1000))[:MEASURED]}
    return TokenizerMetrics(
        adopted=bool(config.adopt),
        bytes_per_token=_bytes_per_token(trained, measured),
        train_bytes=sample.taken,
        vocabulary=trained.get_vocab_size(),
    )


def _texts(sample: Sample, tasks: Path) -> Iterator[str]:
    for text in sample.texts():
        yield text
        events.advance(len(text))
    yield from _tasks(tasks)


def pre_tokenizer() -> Sequence:
    """DeepSeek-LLM's pre-tokenization, digits one by one, then bytes."""
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in SPLITS),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def train_tokenizer(config: TokenizerConfig, texts: Iterator[str]) -> Tokenizer:
    """A byte-level BPE tokenizer of at most `config.vocabulary` tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizer()
    built.decoder = decoders.ByteLevel()
    special_tokens = SPECIAL_TOKENS + (FIM_TOKENS if config.fill_in_middle else ())
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary,
        min_frequency=config.min_frequency,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special_tokens],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    built.train_from_iterator(texts, trainer)
    # The trainer knows only special tokens; mend the flag of the visible ones in the saved form.
    state = json.loads(built.to_str())
    for token in state["added_tokens"]:
        token["special"] = token["content"] not in VISIBLE_TOKENS
    return Tokenizer.from_str(json.dumps(state))


def _tasks(file: Path) -> Iterator[str]:
    """The training tasks in the chat format without its control tokens."""
    with file.open(encoding="utf-8") as handle:
        for line in handle:
            row = json.loads(line)
            yield "\n".join((row["question"], row["reasoning"], row["answer"]))


def _bytes_per_token(trained: Tokenizer, measured: Mapping[str, str]) -> dict[str, float]:
    """By source."""
    return {
        source: round(len(text.encode()) / len(trained.encode(text, add_special_tokens=False).ids), 4)
        for source, text in measured.items()
        if text
    }


def _write_settings(out_dir: Path) -> None:
    settings = {
        **{f"{role}_token": name for role, name in OWN_FORMAT.tokens},
        "add_bos_token": False,
        "add_eos_token": False,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1 << 30,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    write_settings(out_dir, settings)


def _adopt(config: TokenizerConfig, out_dir: Path) -> Tokenizer:
    """The tokenizer of a folder, with the tokens of the chat format behind its own where it lacks them.

    What it makes of text stays the same. One that lacks nothing is copied as it is; else the settings are ours.
    """
    from tokenizers import AddedToken, Tokenizer

    if len(config.adopt) != 1:
        raise UserError(f"tokenizer.adopt: {len(config.adopt)} folders given; name one")
    folder = Path(config.adopt[0])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: no {name}; tokenizer.adopt wants a Hugging Face tokenizer folder")
    try:
        adopted = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # a bare Exception is what the library raises
        raise UserError(f"{folder / 'tokenizer.json'}: cannot be read ({error}); save it again") from None
    wanted = SPECIAL_TOKENS + (FIM_TOKENS if config.fill_in_middle else ())
    missing = [token for token in wanted if adopted.token_to_id(token) is None]
    last = max(adopted.get_vocab().values())
    if last >= adopted.get_vocab_size():
        raise UserError(
            f"{folder / 'tokenizer.json'}: ids reach {last}, but there are {adopted.get_vocab_size()} tokens; "
            "give the ids between to tokens of no use"
        )
    if not missing:
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, out_dir / name)
        return adopted
    adopted.add_tokens([AddedToken(token, special=token not in VISIBLE_TOKENS, normalized=False) for token in missing])
    state = json.loads(adopted.to_str())
    # The chat format places its own control tokens, and rows are packed to their full length.
    state |= {"post_processor": None, "truncation": None, "padding": None}
    adopted = Tokenizer.from_str(json.dumps(state))
    adopted.save(str(out_dir / "tokenizer.json"))
    _write_settings(out_dir)
    events.note(f"{folder}: the tokens {', '.join(missing)} were added, as ids {last + 1} and after")
    return adopted
