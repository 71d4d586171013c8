"""`deepmill doctor --device`: what a model takes of a device, by name, folder or file, and what to change."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app, main
from flows.operations.device import Device, fits
from infra.settings import Settings
from infra.units import read_size
from model.release.footprint import DeviceFile, Loading, Processor
from tests.flows.prepared import prepare_mlflow
from tests.flows.registry.test_release import GOOD, versions

FILE = DeviceFile(
    path=Path("model-q4_0.gguf"),
    bytes=101_000_000,
    weights=100_000_000,
    experts=16,
    spare=4,
    expert_bytes=60_000_000,
    repackable={Processor.ARM64: 90_000_000, Processor.X86_64: 80_000_000},
    entries=200_000,
    vocabulary=100_000,
    context=8192,
    cached=8_000,
    takes_8_bits=True,
    width=10_000,
)


def advice(memory: str, file: DeviceFile = FILE, context: int | None = None) -> str:
    (fit,) = fits([file], Device(read_size(memory), context))
    assert fit.fits is not bool(fit.advice)
    return fit.advice


def test_advice_ends_where_it_fits() -> None:
    whole = FILE.footprint(8192).total
    assert advice(f"{whole}") == ""
    assert re.fullmatch(r"the cache in 8 bits: 3\d\d MB", advice(f"{whole - 1}"))
    assert advice("250MB").endswith("weights not repacked (slower): 229 MB")
    assert re.search(r"; and a context of \d,\d{3} tokens$", advice("200MB"))
    assert advice("64MB", context=1024).count("at the least") == 1
    assert "4 of the 16 experts of each layer pruned save 15.0 MB" in advice("64MB")
    assert "half of the vocabulary trimmed saves 23.0 MB" in advice("64MB")


def test_advice_is_only_what_llama_cpp_takes() -> None:
    assert "8 bits" not in advice("250MB", replace(FILE, takes_8_bits=False))
    assert "experts" not in advice("64MB", replace(FILE, spare=0))


def test_the_context_that_is_advised_fits_and_no_longer_one() -> None:
    how = Loading(in_8_bits=True, batch=16, repack=False)
    most = FILE.longest_context(200_000_000, how)

    def total(context: int) -> int:
        return FILE.footprint(context, how).total

    assert total(most) <= 200_000_000 < total(most + 1)


@pytest.mark.parametrize(("text", "bytes_"), [("64MB", 64_000_000), ("64MiB", 64 << 20), ("1.5 gb", 1_500_000_000)])
def test_sizes_are_read_as_people_write_them(text: str, bytes_: int) -> None:
    assert read_size(text) == bytes_


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "{folder}"], "no GGUF file; export the model with export.gguf: true"),
        (["--device", "{folder}/x.gguf"], "x.gguf: no such file; name one, a folder that holds one, or MODEL@ALIAS"),
        (["--device", "told@champion"], "told@champion: not in the registry"),
        (["--device", "told/1"], "export/artifact1: the artifact is gone; run again to build it"),
        (["--device", "{folder}", "--memory", "much"], "much: not a number of bytes; write it as 64MB"),
    ],
)
def test_what_is_no_model_is_said_in_a_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPMILL_ROOT", str(tmp_path / "store"))
    if "told" in arguments[1]:
        prepare_mlflow(tmp_path / "store")
    if "told/1" in arguments:
        versions(Settings(), "told", GOOD)
    (tmp_path / "empty").mkdir()
    words = [word.format(folder=tmp_path / "empty") for word in arguments]
    error = CliRunner().invoke(app, ["doctor", *words]).exception
    assert message in str(error)


def test_the_exit_status_says_whether_one_fits(
    gguf_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for memory, status in (("64MB", 0), ("2MB", 1)):
        monkeypatch.setattr("sys.argv", ["deepmill", "doctor", "--device", str(gguf_folder), "--memory", memory])
        if status:
            with pytest.raises(SystemExit) as left:
                main()
            assert left.value.code == status
        else:
            main()
    printed = capsys.readouterr().out
    assert "✓  f32" in printed
    assert "✗  f32" in printed
    assert "too much: take a lower precision or a smaller model" in printed


@pytest.fixture
def gguf_folder(tmp_path: Path) -> Path:
    from model.release.gguf import write_gguf
    from model.release.quantized import plain_unit
    from model.release.units import units
    from tests.model.conftest import tiny_model
    from tests.model.serving.talker import save_tokenizer, words

    model = tiny_model(vocab_size=words().get_vocab_size())
    stored = {name: plain_unit(weight, None) for name, weight in units(model).items()}
    (tmp_path / "gguf").mkdir()
    write_gguf(
        tmp_path / "gguf" / "model-f32.gguf", model.config, stored, save_tokenizer(tmp_path / "tokenizer"), name="tiny"
    )
    return tmp_path
