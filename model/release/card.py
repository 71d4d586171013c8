"""The model card: what the model is, how good it is and how to load it. The same inputs give the same text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from infra.units import size
from model.architecture.config import Family, ModelConfig, count_parameters
from model.architecture.transformers_limits import AUTO_TOKENIZER, TRANSFORMERS
from model.facts.evaluation import RELEASE, Evaluation
from model.facts.release import (
    PRUNED,
    STUDENT,
    WHOLE,
    EngineAgreement,
    ExportFacts,
    ExportMetrics,
    MemoryFacts,
    PrecisionFacts,
    Quantization,
)
from model.release.vllm_config import CONFIG, needs_writing_out
from model.sections import ExportConfig

__all__ = ["NO_LICENCE", "card", "measured", "missing_sections"]

SECTIONS = ("Architecture", "Evaluation", "Precision and size", "Files", "Loading", "Limits and licence")
"""What a complete card has."""
NO_LICENCE = "No licence is stated for the weights."

_FAMILIES = {
    Family.LLAMA: "dense transformer (DeepSeek-LLM, arXiv 2401.02954)",
    Family.MISTRAL: "dense transformer (Mistral, arXiv 2310.06825)",
    Family.QWEN2: "dense transformer (Qwen2, arXiv 2407.10671)",
    Family.QWEN3: "dense transformer (Qwen3, arXiv 2505.09388)",
    Family.DEEPSEEK: "mixture of experts (DeepSeekMoE, arXiv 2401.06066)",
    Family.DEEPSEEK_V2: "mixture of experts with latent attention (DeepSeek-V2, arXiv 2405.04434)",
    Family.DEEPSEEK_V3: "mixture of experts with latent attention (DeepSeek-V3, arXiv 2412.19437)",
}


def card(
    config: ExportConfig,
    architecture: ModelConfig,
    quantization: Quantization,
    evaluation: Evaluation,
    export: ExportFacts,
) -> str:
    """The Markdown of ``MODEL_CARD.md``."""
    sections = [
        f"# {config.title}",
        "A language model that reasons between `<think>` and `</think>` before it answers, made from raw text by "
        "Deepmill. The recipe, the inputs and the code are named by the run that the registry's version points to.",
        "## Architecture",
        _table(("", ""), _architecture(architecture)),
        *_evaluation(evaluation, export.precision),
        "## Precision and size",
        "Divergence is KL(full precision || quantized) on held-out text, in nats per token; "
        "*to nearest* is the same without calibration. Bits per weight are those of the whole file.",
        _table(
            (
                *("precision", "bytes", "bits per weight", "divergence", "to nearest", "on tasks", "top-1 agreement"),
                "tasks solved",
            ),
            _quantization(quantization),
        ),
        *_made_smaller(quantization),
        *_by_source(quantization),
        *_further(quantization),
        *_weak_spots(quantization),
        "## Files",
        _table(("file", "bytes"), [(f"`{name}`", f"{size:,}") for name, size in sorted(export.files.items())]),
        *[f"Not written: {what}: {why}." for what, why in sorted(export.left_out.items())],
        *_agreement(export.verified),
        *_memory(export),
        "## Loading",
        _loading(export, architecture),
        "## Limits and licence",
        "It knows the sources listed above and little else, and says wrong things with ease. Nothing but the corpus "
        "rules of its recipe has kept harmful content out.",
        f"Weights: {config.licence}." if config.licence else NO_LICENCE,
        "The licences of the training texts are those of their sources.",
    ]
    return "\n\n".join(sections) + "\n"


def measured(metrics: ExportMetrics, kinds: Iterable[str]) -> str:
    """What goes behind the card where no byte has to be the same again: times and memory on the machine of the export.

    Args:
        metrics: of `export`.
        kinds: of its GGUF files.
    """
    rows = []
    for kind in kinds:
        load, peak, start = metrics.load_bytes(kind), metrics.peak_bytes(kind), metrics.start_seconds(kind)
        speed = metrics.decode_speed(kind)
        if start is not None:
            sizes = [size(value) if value is not None else "" for value in (load, peak)]
            rows.append((kind, *sizes, f"{1000 * start:,.0f} ms", f"{speed:,.0f}" if speed else ""))
    if not rows:
        return ""
    head = ("GGUF file", "memory of loading", "with 512 tokens written", "cold start", "tokens per second")
    told = (
        "Measured with llama.cpp where the model was exported: what a process grew by, and the time to a first token."
    )
    return f"\n## Measured\n\n{told}\n\n{_table(head, rows)}\n"


def missing_sections(text: str) -> list[str]:
    """Sections that a card lacks, or has nothing in."""
    bodies: dict[str, str] = {}
    for part in f"\n{text}".split("\n## ")[1:]:
        title, _, body = part.partition("\n")
        bodies[title.strip()] = body.strip()
    return [title for title in SECTIONS if not bodies.get(title)]


def _architecture(config: ModelConfig) -> list[tuple[str, str]]:
    rows = [
        ("family", f"`{config.model_type.value}`: {_FAMILIES[config.model_type]}"),
        ("parameters", f"{count_parameters(config):,}"),
        ("parameters per token", f"{count_parameters(config, active=True):,}"),
        ("layers", str(config.num_hidden_layers)),
        ("hidden size", str(config.hidden_size)),
        ("attention heads", str(config.num_attention_heads)),
        ("vocabulary", f"{config.vocab_size:,}"),
        ("context", f"{config.max_position_embeddings:,} tokens"),
    ]
    if config.moe_layers:
        experts = f"{config.n_routed_experts} routed, {config.num_experts_per_tok} per token"
        rows.append(("experts", f"{experts}, {config.n_shared_experts} shared"))
    return rows


def _evaluation(evaluation: Evaluation, precision: str) -> Iterable[str]:
    marks = evaluation.checkpoints
    if not marks:
        return
    rows = []
    sources = sorted({name for found in marks.values() for name in found.bits_per_byte})
    for name, found in evaluation.ordered:
        interval = " ({:.1%} to {:.1%})".format(*found.interval) if found.interval else ""
        accuracy = "" if found.accuracy is None else f"{found.accuracy:.1%}{interval}"
        bits = found.bits_per_byte
        rows.append((name, accuracy, *(f"{bits[source]:.3f}" if source in bits else "" for source in sources)))
    problems = next((found.problems for found in marks.values() if found.problems is not None), None)
    yield "## Evaluation"
    counted = f"{problems} held-out problems (95 % interval)" if problems else "held-out problems"
    yield f"Accuracy: share of {counted} answered exactly right. Bits per byte of held-out text, by source."
    if RELEASE in marks:
        yield (
            f"`{RELEASE}` is the {precision} model that is served, which is smaller than the last checkpoint; the "
            "checkpoints were measured in full precision."
        )
    yield _table(("checkpoint", "accuracy", *sources), rows)


def _quantization(quantization: Quantization) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, found in sorted(quantization.precisions.items(), key=lambda item: -(item[1].bytes or 0)):
        size, bits = f"{found.bytes:,}", f"{found.bits_per_weight:.2f}"
        solved = "" if found.accuracy is None else f"{found.accuracy:.1%}"
        plain, tasks = found.rounded_to_nearest, found.reasoning
        if name == WHOLE or tasks is None:
            rows.append((name, size, bits, "", "", "", "", solved))
            continue
        kls = (found.kl, plain.kl if plain else None, tasks.kl)
        rows.append((name, size, bits, *("" if kl is None else f"{kl:.3g}" for kl in kls), f"{found.top1:.1%}", solved))
    return rows


def _made_smaller(quantization: Quantization) -> Iterable[str]:
    """What was taken out of the model that all files hold."""
    if quantization.vocabulary:
        yield (
            f"The vocabulary was trimmed to the {quantization.vocabulary:,} tokens that the training text uses "
            "(`quantize.min_token_count`); other text is written in smaller pieces. Divergence was measured before."
        )
    if found := quantization.pruning:
        healed = f"then it learned the whole model's predictions again in {found.heal_steps} steps"
        told = healed if found.healed else "nothing was learned since"
        yield (
            f"Of the {found.experts_before} routed experts of each layer {found.experts_after} are left "
            f"(`quantize.prune`, by {found.by}); {told}: divergence {found.unhealed.kl:.3g} before, `{PRUNED}` above "
            f"after. The files hold the pruned model; `{WHOLE}` is the whole one."
        )


def _further(quantization: Quantization) -> Iterable[str]:
    """Models that only other engines run."""
    if found := quantization.w8a8:
        yield f"`w8a8/` has 8-bit weights by row and 8-bit activations by token: {_measured(found)}."
    if theirs := quantization.llmcompressor:
        yield (
            f"`llmcompressor/` was quantized by llmcompressor {theirs.version}, each matrix to the bits it has in "
            f"int4, but 16 for the embeddings and the expansion of the latent: {_measured(theirs)}."
        )


def _measured(found: PrecisionFacts) -> str:
    solved = "" if found.accuracy is None else f", {found.accuracy:.1%} of tasks solved"
    return f"{found.bytes:,} bytes, divergence {found.kl:.3g}, top-1 agreement {found.top1:.1%}{solved}"


def _by_source(quantization: Quantization) -> Iterable[str]:
    """Divergence of each quantized model on every source of text."""
    found = {
        name: facts.kl_by_source
        for name, facts in sorted(quantization.precisions.items())
        if facts.kl_by_source and facts.rounded_to_nearest
    }
    if not found:
        return
    sources = sorted(next(iter(found.values())))
    yield "Divergence by source of the text:"
    yield _table(
        ("precision", *sources), [(name, *(f"{kls[source]:.3g}" for source in sources)) for name, kls in found.items()]
    )


def _weak_spots(quantization: Quantization) -> Iterable[str]:
    for name, found in sorted(quantization.precisions.items()):
        experts = found.starved_experts or []
        if experts:
            listed = ", ".join(f"layer {one.layer} expert {one.expert} ({one.tokens})" for one in experts[:20])
            more = f" and {len(experts) - 20} more" if len(experts) > 20 else ""
            yield f"{name}: experts with few calibration tokens, calibrated on their layer's: {listed}{more}."
        if matrices := found.uncalibrated_matrices:
            yield f"{name}: {len(matrices)} matrices had no usable statistics and are rounded to nearest."


def _agreement(verified: Mapping[str, EngineAgreement]) -> Iterable[str]:
    for engine, found in sorted(verified.items()):
        yield (
            f"Checked with {engine}: log probabilities within {found.log_probabilities_within:g} of ours on the "
            "full-precision file, the same likeliest tokens, and the same tokens from hostile text."
        )


def _memory(export: ExportFacts) -> Iterable[str]:
    if not export.memory:
        return
    yield "## On a device"
    yield (
        "Memory that llama.cpp takes on ARM64, computed: weights and their repacked copy, vocabulary, cache, buffers, "
        "program. `deepmill doctor --device MODEL --memory 64MB` says what fits, and what to change."
    )
    rows = [
        (kind, *(size(value) for value in (export.files[f"gguf/model-{kind}.gguf"], *_totals(found))))
        for kind, found in sorted(export.memory.items(), key=lambda item: -item[1].long)
    ]
    context = f"{next(iter(export.memory.values())).context:,}"
    yield _table(
        ("GGUF file", "size", "512 tokens", f"{context} tokens", f"{context} tokens, cache in 8 bits"),
        rows,
    )


def _totals(found: MemoryFacts) -> tuple[int, int, int]:
    return found.short, found.long, found.long_8_bits


def _loading(export: ExportFacts, architecture: ModelConfig) -> str:
    lines = []
    if why := export.not_read_by.get(TRANSFORMERS):
        lines += [f"Not read by transformers: {why}.", ""]
    else:
        words = "PreTrainedTokenizerFast" if AUTO_TOKENIZER in export.not_read_by else AUTO_TOKENIZER
        lines += [
            "```python",
            f"from transformers import AutoModelForCausalLM, {words}",
            "",
            f'model, tokenizer = AutoModelForCausalLM.from_pretrained("hf"), {words}.from_pretrained("hf")',
            'chat = [{"role": "user", "content": "Calculate 4 + 8 + 4."}]',
            'inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")',
            "```",
            "",
            *([f"Not `{AUTO_TOKENIZER}`: {why}.", ""] if (why := export.not_read_by.get(AUTO_TOKENIZER)) else []),
        ]
    if "compressed" not in export.left_out:
        written_out = "VLLM_MLA_DISABLE=1 " if needs_writing_out(architecture) else ""
        config = f" --hf-config-path compressed/{CONFIG}" if architecture.model_type is Family.DEEPSEEK else ""
        lines += ["```sh", f"{written_out}vllm serve compressed{config}  # without a GPU: hf", "```", ""]
    if "gguf" not in export.left_out:
        lines += ["```sh", "llama-cli --model gguf/model-q4_0.gguf --jinja", "```", ""]
    if (path := f"gguf/{STUDENT}") in export.files:
        lines += [f"`{path}`, the student, guesses: llama.cpp's `--model-draft`, `deepmill serve --drafter`.", ""]
    lines.append(f"`model/` holds the {export.precision} weights that the registry's version serves.")
    return "\n".join(lines)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
