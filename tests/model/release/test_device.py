"""The C example on this machine and on emulated ARM processors: the tokens of llama.cpp's server, whatever the kernels.

The memory that it takes is what `model.release.footprint` computes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from infra.errors import UserError
from model.architecture.grid import Grid
from model.architecture.transformer import Transformer
from model.facts.release import ExportMetrics
from model.release.card import measured
from model.release.footprint import CELLS, PROGRAM, TOLERANCE, Loading, Processor, read_device_file
from model.release.gguf import write_gguf
from model.release.probe import probe
from model.release.quantized import plain_unit, rounded_unit
from model.release.units import units
from model.release.verify import Llama
from tests.model.conftest import tiny_model
from tests.model.release.device_programs import Program, arm_program, native_program, on
from tests.model.serving.talker import ANSWER, QUESTION, THOUGHT, save_tokenizer, taught, words

KINDS = ("f32", "q8_0", "q4_0")
LITERAL = "What is <|eos|> 4 + 8?"
"""A question that looks as if it had a control token."""
WIDTHS: dict[str, Any] = {
    "hidden_size": 128,
    "kv_lora_rank": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": 32,
    "intermediate_size": 256,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model that knows an answer, in three precisions."""
    folder = tmp_path_factory.mktemp("taught")
    return {kind: _written(taught(), save_tokenizer(folder / "tokenizer"), folder, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wider one that knows nothing, and whose cache may have 8 bits."""
    folder = tmp_path_factory.mktemp("wide")
    model = tiny_model(**WIDTHS, moe_intermediate_size=64, vocab_size=words().get_vocab_size())
    return {kind: _written(model, save_tokenizer(folder / "tokenizer"), folder, kind) for kind in KINDS}


def _written(model: Transformer, tokenizer: Path, folder: Path, kind: str) -> Path:
    path = folder / f"model-{kind}.gguf"
    grid = None if kind == "f32" else Grid(kind)
    stored = {
        name: rounded_unit(weight, grid)
        if grid is not None and weight.dim() > 1 and weight.shape[-1] % 32 == 0
        else plain_unit(weight, None)
        for name, weight in units(model).items()
    }
    write_gguf(path, model.config, stored, tokenizer, name="tiny")
    return path


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return native_program(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return arm_program(tmp_path_factory.mktemp("arm"))


def served(path: Path, question: str) -> list[int]:
    """What llama.cpp's server writes after the same question, without the end."""
    ids = words().encode("<|bos|><|user|>", add_special_tokens=False).ids
    asked = Llama(path, context=256)
    ids += asked._ask("/tokenize", {"content": question, "add_special": False, "parse_special": False})["tokens"]
    ids += words().encode("<|assistant|>", add_special_tokens=False).ids
    body = {"prompt": ids, "n_predict": 16, "temperature": 0, "return_tokens": True, "cache_prompt": False}
    found = [int(token) for token in asked._ask("/completion", body)["tokens"]]
    return found[:-1] if found[-1] == words().token_to_id("<|eos|>") else found


@pytest.mark.parametrize("kind", ["f32", "q4_0"])
def test_the_example_writes_what_the_server_writes(kind: str, files: dict[str, Path], native: Program) -> None:
    for question in (QUESTION, LITERAL):
        found = native.run(files[kind], question, "-n", 16)
        assert found.ids == served(files[kind], question)
        assert native.run(files[kind], question, "-n", 16, "-b", 3, "-r", "-t", 2).ids == found.ids
    assert native.called(files[kind], QUESTION).stdout == f"<think>{THOUGHT}</think>{ANSWER}\n"


def test_the_example_says_what_is_wrong(files: dict[str, Path], native: Program, tmp_path: Path) -> None:
    (tmp_path / "empty.gguf").touch()
    for arguments, said in (
        ([tmp_path / "empty.gguf", "?"], "not loaded"),
        (["-c", 8, files["q8_0"], "word " * 400], "does not fit into 8 tokens"),
    ):
        done = native.called(*arguments)
        assert done.returncode == 1
        assert said in done.stderr


@pytest.mark.parametrize(
    ("processor", "features", "kind"),
    [
        ("max", {"DOTPROD", "MATMUL_INT8"}, "q4_0"),
        ("max", {"DOTPROD", "MATMUL_INT8"}, "q8_0"),
        ("cortex-a76", {"DOTPROD"}, "q4_0"),
        ("cortex-a53", set(), "q4_0"),
    ],
)
def test_arm_writes_the_same(
    processor: str, features: set[str], kind: str, files: dict[str, Path], native: Program, arm: Program
) -> None:
    """With 8-bit matrix products, with dot products alone, with neither: other kernels, the same tokens."""
    found = on(arm, processor).run(files[kind], QUESTION)
    assert {name for name in ("DOTPROD", "MATMUL_INT8") if found.features.get(name)} == features
    assert found.ids == native.run(files[kind], QUESTION).ids
    assert words().decode(found.ids, skip_special_tokens=False) == f"<think>{THOUGHT}</think>{ANSWER}"


@pytest.mark.parametrize("kind", ["f32", "q4_0"])
@pytest.mark.parametrize(("context", "in_8_bits"), [(256, False), (8192, False), (8192, True)])
def test_the_estimate_is_near_what_is_taken(
    context: int, in_8_bits: bool, kind: str, wide: dict[str, Path], native: Program
) -> None:
    options = ["-c", context, "-n", 8] + (["-8"] if in_8_bits else [])
    grown = native.run(wide[kind], "word " * 60, *options).grown  # the wheel's library is Python's extension besides
    how = Loading(in_8_bits=in_8_bits, processor=Processor.X86_64)
    computed = read_device_file(wide[kind]).footprint(context, how).total
    above, below = TOLERANCE
    assert computed * (1 - below) < grown + PROGRAM < computed * (1 + above)


def test_a_context_that_is_said_to_fit_fits(wide: dict[str, Path]) -> None:
    file = read_device_file(wide["q8_0"])
    longest = file.longest_context(file.footprint(10 * CELLS).total)
    assert longest == min(10 * CELLS, file.context)
    assert file.longest_context(1 << 20) == 0
    assert file.weights == sum(int(tensor.n_bytes) for tensor in GGUFReader(file.path).tensors)
    assert 0 < file.expert_bytes < file.weights
    assert file.takes_8_bits


def test_a_probe_measures_a_process_of_its_own(files: dict[str, Path]) -> None:
    found = probe(files["q8_0"], context=128, threads=1)
    assert found.tokens == 120
    assert found.load_bytes is not None
    assert files["q8_0"].stat().st_size < found.load_bytes <= (found.peak_bytes or 0) < 100 << 20
    assert 0 < found.start_seconds < 60
    assert found.tokens_per_second > 0


def test_what_was_measured_stands_behind_the_card() -> None:
    told = {"start_seconds_q4_0": 0.0512, "load_bytes_q4_0": 14_000_000, "peak_bytes_q4_0": 15_000_000}
    metrics = ExportMetrics.read(told | {"decode_tokens_per_second_q4_0": 1418.5})
    assert "| q4_0 | 14.0 MB | 15.0 MB | 51 ms | 1,418 |" in measured(metrics, ["q4_0", "q8_0"])
    assert measured(ExportMetrics(), ["q4_0"]) == "", "exported before anything was measured"


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model-q4_0.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"model-q4_0\.gguf: not a readable GGUF file"):
        read_device_file(tmp_path / "model-q4_0.gguf")
    with pytest.raises(UserError, match=r"model-q4_0\.gguf: llama\.cpp does not run with it"):
        probe(tmp_path / "model-q4_0.gguf", context=128, threads=1)
