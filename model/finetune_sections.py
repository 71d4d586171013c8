"""Recipe sections of the stages that make a domain expert and a reasoner of a base model.

Light on purpose: the command line loads them to plan.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from infra.section import Added, ExternalPaths, Formerly, Section
from model.sections import OptimizerConfig, Schedule, TrainingConfig
from pipeline.text.language import LANGUAGES
from pipeline.text.languages import understood

__all__ = [
    "Advantage",
    "ContinuedConfig",
    "DpoConfig",
    "EsftScore",
    "GrpoConfig",
    "Held",
    "LoraConfig",
    "LoraTarget",
    "LossNormalisation",
    "OnPolicyConfig",
    "ReinforcementReplayConfig",
    "RejectionConfig",
    "ReplayConfig",
    "SftConfig",
    "StartConfig",
    "Trained",
]


class StartConfig(Section):
    """A model that exists, to begin with instead of pretraining one; with it `pretrain` is left out and `tokenizer`
    adopts the checkpoint's own, unless the recipe says otherwise."""

    checkpoint: ExternalPaths = Field(min_length=1)
    """A Hugging Face checkpoint folder, or one GGUF file (its blocks are worked out to fp32)."""

    @field_validator("checkpoint", mode="before")
    @classmethod
    def _one_is_enough(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class LoraTarget(StrEnum):
    """Which weights get an adapter."""

    ATTENTION = "attention"
    EXPERTS = "experts"
    """The routed experts, each one of its own."""
    FEED_FORWARD = "feed_forward"
    """Dense layers and shared experts."""


class Held(StrEnum):
    """How the weights that do not move are held in training."""

    FP32 = "fp32"
    Q8_0 = "q8_0"
    """In 8-bit codes: 8.5 bits per weight."""
    Q4_0 = "q4_0"
    """In 4-bit codes: 4.5 bits per weight."""


class LoraConfig(Section):
    """Low-rank adapters (LoRA, arXiv 2106.09685): the weights stay, and two narrow matrices beside each are trained.

    The artifact has the adapter in peft's format, and the model with it merged.
    """

    rank: int = Field(16, ge=1)
    """Width of an adapter; of each expert's too."""
    alpha: float = Field(32.0, gt=0)
    """The adapter counts alpha / rank times (LoRA learns less and forgets less, arXiv 2405.09673: twice the rank)."""
    targets: tuple[LoraTarget, ...] = Field(tuple(LoraTarget), min_length=1)
    """Which weights get one (arXiv 2405.09673: all)."""
    held: Held = Held.FP32
    """How the weights beside them are held: codes of 8 or 4 bits make it QLoRA (arXiv 2305.14314), where rows are a
    multiple of 32 weights. What is merged is then what the codes say."""
    adapter: ExternalPaths = Field((), max_length=1)
    """Folder of an adapter in peft's format to go on from, made for the very model that the stage starts from."""


class ContinuedConfig(TrainingConfig):
    """Continued pretraining on a mixture of domain and general text (defaults: DeepSeekMath, section 2.3)."""

    checkpoint: ExternalPaths = ()
    """A Hugging Face checkpoint folder to start from instead of `pretrain`'s model; its tokenizer is the one to
    `tokenizer.adopt`."""
    steps: int = Field(50_000, ge=1)
    """Optimizer steps (DeepSeekMath: 500 B tokens at 10 M a batch)."""
    batch_size: int = Field(2_500, ge=1)
    """Sequences per step, over all ranks (DeepSeekMath: 10 M tokens of 4 K)."""
    mixture: dict[str, Annotated[float, Field(ge=0)]] | None = None
    """Weight of each source when sequences are drawn (DeepSeekMath: 56 % maths, 4 % AlgebraicStack, 10 % arXiv, 20 %
    code, 10 % natural language); as they come in the shards when empty."""
    lora: Annotated[LoraConfig | None, Added] = None
    """Train adapters instead of the weights themselves; ``{}`` for the defaults. Rows of the vocabulary stay as they
    are, those of new tokens too."""
    domain: tuple[str, ...] = ()
    """Sources that are the domain; all others are general, and are watched for what is forgotten."""
    max_forgetting: float = Field(0.0, ge=0)
    """The stage ends with an error when general bits per byte end this share above where they began; 0: never."""


class ReplayConfig(Section):
    """What fine-tuning goes on reading beside its own data, so that the model does not unlearn it.

    A share is that of the gradient: each kind counts by its mean loss per token, however many rows it has, and the rows
    come on top of the stage's own (`model.training.replay`).
    """

    text: float = Field(0.2, ge=0, lt=1)
    """Share of plain text from the token shards (arXiv 2403.08763: 5 % for a weak shift, 25 % for a strong one)."""
    conversations: float = Field(0.1, ge=0, lt=1)
    """Share of the conversations of `conversations`, where the recipe has them."""
    mixture: dict[str, Annotated[float, Field(ge=0)]] | None = None
    """Weight of each source of the text; as they come in the shards when empty."""
    rows: int = Field(0, ge=0)
    """Rows of text, and of conversations, per update; 0 for as many as have that share of its tokens."""
    validation_sequences: int = Field(16, ge=0)
    """Held-out rows of each source that bits per byte are measured on at every validation, to see what is forgotten;
    0: not measured."""

    @model_validator(mode="after")
    def _leaves_a_share(self) -> ReplayConfig:
        """The stage's own data have one too."""
        if self.text + self.conversations >= 1:
            raise ValueError("text and conversations together leave the stage's own data no share; lower one")
        return self


class ReinforcementReplayConfig(ReplayConfig):
    """As `sft.replay`; what a model writes itself moves it less, so that less is enough."""

    text: float = Field(0.1, ge=0, lt=1)
    """Share of plain text from the token shards (InstructGPT's PPO-ptx, arXiv 2203.02155, Eq 2)."""
    rows: int = Field(4, ge=1)
    """Rows of text, and of conversations, per update."""


class Trained(StrEnum):
    """Which weights fine-tuning moves."""

    ALL = "all"
    EXPERTS = "experts"
    """The routed experts that the tasks use most, and nothing else: expert-selective fine-tuning (ESFT)."""


class EsftScore(StrEnum):
    """How the use of an expert is measured."""

    GATE = "gate"
    """Mean gate value over the tokens (ESFT-Gate)."""
    TOKEN = "token"
    """Share of the tokens' choices (ESFT-Token)."""


class SftConfig(TrainingConfig):
    """Supervised fine-tuning on chains of thought (defaults: DeepSeekMath, arXiv 2402.03300, section 3.2)."""

    steps: int = Field(500, ge=1)
    """Optimizer steps (DeepSeekMath: 500)."""
    batch_size: int = Field(256, ge=1)
    """Sequences per step, over all ranks (DeepSeekMath: 256)."""
    sequence_length: int = Field(4096, ge=8)
    """Tokens of a sequence that tasks are packed into (DeepSeekMath: 4 K); a longer task is left out."""
    learning_rate: float = Field(5e-5, gt=0)
    """Peak learning rate (DeepSeekMath: 5e-5)."""
    schedule: Schedule = Schedule.CONSTANT
    """How the learning rate moves after warm-up (DeepSeekMath: not at all)."""
    warmup_steps: int = Field(0, ge=0)
    """Steps of linear warm-up."""
    trained: Trained = Trained.ALL
    """Which weights move."""
    lora: Annotated[LoraConfig | None, Added] = None
    """Train adapters instead of the weights themselves; ``{}`` for the defaults."""
    follow_ups: float = Field(0.1, ge=0, le=1)
    """Share of the tasks that are asked as the second question of a conversation, after another task and its answer."""
    esft_score: EsftScore = EsftScore.TOKEN
    """How much a task uses an expert (ESFT, arXiv 2407.01906, section 3.2)."""
    esft_threshold: float = Field(0.2, gt=0, le=1)
    """Experts of a layer are trained, the most used first, until together they have this share of the use (ESFT: 0.2
    for token selection, 0.1 for gate scores, of 66 experts; few experts want more)."""
    esft_rows: int = Field(32, ge=1)
    """Packed rows on which the use of experts is measured (ESFT: 32 samples of 4,096 tokens)."""
    accuracy_tasks: int = Field(256, ge=0)
    """Held-out tasks that the finished model is asked, for the stage's report; 0 for none."""
    max_new_tokens: int = Field(1024, ge=1)
    """Most tokens it may write for one of them."""
    replay: ReplayConfig = ReplayConfig()
    """What is read besides, so that the model does not unlearn it."""

    @model_validator(mode="after")
    def _one_way_to_train_less(self) -> SftConfig:
        """Adapters leave all weights alone, the chosen experts too."""
        if self.lora is not None and self.trained is not Trained.ALL:
            raise ValueError("lora and trained: experts exclude each other; leave one out")
        return self


class Advantage(StrEnum):
    """How much an answer's reward above the mean of its group counts."""

    STD = "std"
    """In standard deviations of the group: a question that is nearly always or hardly ever solved counts more (GRPO,
    DeepSeekMath, section 4.1.2)."""
    MEAN = "mean"
    """As it is (Dr. GRPO, arXiv 2503.20783, section 3.2)."""


class LossNormalisation(StrEnum):
    """What the sum over the tokens of an update's answers is divided by."""

    ANSWER = "answer"
    """The length of the token's own answer, then the number of answers (GRPO, DeepSeekMath, Eq 3)."""
    TOKEN = "token"
    """The number of all tokens: long answers count by their length (DAPO, arXiv 2503.14476, section 3.3)."""
    CONSTANT = "constant"
    """`max_new_tokens`, then the number of answers: no length is favoured (Dr. GRPO, arXiv 2503.20783, section 3.2)."""


class GrpoConfig(OptimizerConfig):
    """Group relative policy optimization with verifiable rewards (defaults: DeepSeekMath, section 4.2).

    Answers are sampled from the policy itself, at temperature 1 (DeepSeek-R1), so that its probabilities are those of
    the samples.
    """

    steps: int = Field(1000, ge=1)
    """Rollouts, each followed by `minibatches` updates."""
    questions: int = Field(16, ge=1)
    """Questions per step (DeepSeekMath: 1,024 answers of 64 each)."""
    group_size: int = Field(64, ge=2)
    """Answers per question, judged against each other (DeepSeekMath: 64; R1: 16)."""
    max_new_tokens: int = Field(1024, ge=1)
    """Most tokens of an answer (DeepSeekMath: 1,024); one without an end earns nothing."""
    minibatches: int = Field(1, ge=1)
    """Updates per step, each on a share of its questions (DeepSeekMath: 1; R1: 16)."""
    lora: Annotated[LoraConfig | None, Added] = None
    """Train adapters instead of the weights themselves; ``{}`` for the defaults. The reference is then the model
    without what they have learned, and needs no copy of its own."""
    passes: Annotated[int, Added] = Field(1, ge=1)
    """How often the answers of a step are gone through (DeepSeekMath, Algorithm 1: mu, which is 1)."""
    micro_tokens: int = Field(16_384, ge=1)
    """Most tokens that go through the model at once in an update; a longer answer goes alone."""
    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate (DeepSeekMath: 1e-6; R1-Zero: 3e-6)."""
    schedule: Schedule = Schedule.CONSTANT
    """How the learning rate moves after warm-up."""
    warmup_steps: int = Field(0, ge=0)
    """Steps of linear warm-up."""
    balance_loss: float = Field(0.0, ge=0)
    """Factor of the balance loss; none, for the gates come balanced from pretraining."""
    bias_update_speed: float = Field(0.0, ge=0)
    """Step by which deepseek_v3's selection bias moves; not at all, for it would change the policy from outside."""
    clip: float = Field(0.2, gt=0)
    """How far the probability ratio of a token may move before its gradient ends (PPO: 0.2; R1's first stage: 10)."""
    clip_high: Annotated[float | None, Added] = Field(None, gt=0)
    """The same upwards alone, so that unlikely tokens may become likely (DAPO's clip-higher: 0.28); `clip` when
    empty."""
    advantage: Annotated[Advantage, Added] = Advantage.STD
    """How much an answer's reward above the mean of its group counts."""
    loss_normalisation: Annotated[LossNormalisation, Added] = LossNormalisation.ANSWER
    """What the sum over the tokens of an update's answers is divided by."""
    sampling_rounds: Annotated[int, Added] = Field(1, ge=1)
    """Most rounds of `questions` that a step asks until so many of them have answers that differ in reward; the others
    are left out (DAPO's dynamic sampling, section 3.2: as many as it takes)."""
    overlong_tokens: Annotated[int, Added] = Field(0, ge=0)
    """Last tokens of `max_new_tokens` over which an answer's reward falls by up to 1; one without an end loses 1
    (DAPO's soft overlong punishment, section 3.4: 4,096 of 20,480); 0: neither."""
    kl_weight: float = Field(0.04, ge=0)
    """Weight of the divergence from the reference model (DeepSeekMath: 0.04; R1-Zero: 0.001); 0 for no reference."""
    reference_every: int = Field(0, ge=0)
    """Steps after which the policy becomes its own reference (R1-Zero: 400); 0 keeps the fine-tuned model."""
    accuracy_reward: float = Field(1.0, ge=0)
    """Reward of a right answer."""
    format_reward: float = Field(1.0, ge=0)
    """Reward of one piece of reasoning inside its tags, an answer after it and an end (R1: as much as accuracy)."""
    language: str = ""
    """Language that reasoning should keep to, by its code, such as en or zh; empty for no such reward (R1, 2.3.2)."""
    language_reward: float = Field(1.0, ge=0)
    """Reward of reasoning all of whose words are in `language`; of a part of them, that part of it."""
    programs: bool = True
    """Run answers that are one block of Python, sandboxed; what they print is the answer. Else they are wrong."""
    program_seconds: float = Field(1.0, gt=0)
    """Most processor time of such a program."""
    program_megabytes: int = Field(128, ge=16)
    """Most memory of such a program."""
    accuracy_tasks: int = Field(256, ge=1)
    """Held-out tasks asked at a validation, greedily."""
    replay: ReinforcementReplayConfig = ReinforcementReplayConfig()
    """What is read besides, so that the model does not unlearn it."""
    tasks: tuple[str, ...] = ()
    """Kinds of tasks that are asked, by name; all when empty."""
    logged_completions: Annotated[int, Formerly("kept_answers")] = Field(4, ge=0)
    """Completions per step that `rollouts.jsonl` keeps, all to one question."""
    collapse_below: float = Field(0.5, ge=0, lt=1)
    """The stage ends with an error when the mean reward of 10 steps falls below this share of its best, or accuracy
    does while the reward holds; 0: never."""
    max_kl: float = Field(2.0, ge=0)
    """The stage ends with an error when the mean divergence of 10 steps exceeds this (nats per token); 0: never."""
    min_finished: float = Field(0.05, ge=0, le=0.5)
    """The stage ends with an error when fewer answers of 10 steps than this share end, and twice as many once did."""
    hacking_margin: float = Field(0.2, ge=0, le=1)
    """The stage ends with an error when held-out accuracy falls this far below its best while that of the questions
    trained on does not; 0: never."""

    @field_validator("language")
    @classmethod
    def _known_language(cls, value: str) -> str:
        language = understood(value) if value else ""
        if language and language not in LANGUAGES:
            raise ValueError(f"there are {', '.join(sorted(LANGUAGES))}")
        return language


class OnPolicyConfig(GrpoConfig):
    """Distillation on the student's own answers: the reverse divergence from the teacher at every token (GKD, arXiv
    2306.13649, section 3, with all data its own). The keys of `grpo`; rewards are reported, and teach nothing."""

    steps: int = Field(100, ge=1)
    """Rollouts, each followed by `minibatches` updates."""
    group_size: int = Field(4, ge=2)
    """Answers per question; different questions teach more than more answers to one."""
    minibatches: int = Field(2, ge=1)
    """Updates per pass over the answers of a step, each on a share of its questions."""
    passes: Annotated[int, Added] = Field(4, ge=1)
    """How often the answers of a step are gone through: a whole distribution at each token has more to say than one
    update takes (docs/experiments.md)."""
    learning_rate: float = Field(1e-4, gt=0)
    """Peak learning rate."""
    kl_weight: float = Field(0.0, ge=0, le=0)
    """None: there is a teacher, and no reference."""
    collapse_below: float = Field(0.0, ge=0, lt=1)
    """As in `grpo`; never, for on its way to the teacher a student may solve fewer."""
    hacking_margin: float = Field(0.0, ge=0, le=1)
    """As in `grpo`; never."""
    loss_normalisation: Annotated[LossNormalisation, Added] = LossNormalisation.TOKEN
    """What the sum over the tokens of an update's answers is divided by."""


class RejectionConfig(Section):
    """Rejection sampling: of the policy's own answers the right ones become training data (R1, section 2.3.3)."""

    questions: int = Field(0, ge=0)
    """Questions of the training split that are asked; 0 for all."""
    samples: int = Field(16, ge=1)
    """Answers to each."""
    kept: int = Field(4, ge=1)
    """Most answers to a question that are kept: right, well-formed, different from each other, the shortest first."""
    temperature: float = Field(0.6, gt=0)
    """Of the samples (R1's recommendation: 0.6)."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Sample from the likeliest tokens that together have this probability (R1: 0.95)."""
    max_new_tokens: int = Field(1024, ge=1)
    """Most tokens of an answer."""
    general_share: float = Field(0.25, ge=0, lt=1)
    """Share of the data that is the tasks as they came, for what sampling does not reach (R1: 200 K of 800 K)."""
    batch_size: int = Field(256, ge=1)
    """Answers written at once."""
    seed: int = Field(0, ge=0)
    """Of questions and samples."""


class DpoConfig(OptimizerConfig):
    """Direct preference optimization (arXiv 2305.18290; defaults: DeepSeek-LLM, section 4).

    Pairs come from files, or from the model's own answers to the training tasks: a right one is preferred to a wrong
    one.
    """

    files: ExternalPaths = ()
    """JSON, Parquet, Arrow or CSV files of rows with prompt, chosen and rejected, as texts or as messages of one
    question; without any, pairs are sampled."""
    questions: int = Field(1000, ge=1)
    """Training questions that are asked for pairs."""
    samples: int = Field(8, ge=2)
    """Answers to each, at temperature 1."""
    max_new_tokens: int = Field(1024, ge=1)
    """Most tokens of an answer."""
    steps: int = Field(200, ge=1)
    """Optimizer steps."""
    batch_size: int = Field(512, ge=1)
    """Pairs per step (DeepSeek-LLM: 512)."""
    lora: Annotated[LoraConfig | None, Added] = None
    """Train adapters instead of the weights themselves; ``{}`` for the defaults. The reference is the model that the
    stage begins with, the adapter of `lora.adapter` in it."""
    micro_tokens: int = Field(16_384, ge=1)
    """Most tokens that go through the model at once; a longer pair goes alone."""
    beta: float = Field(0.1, gt=0)
    """How dearly the distance from the reference is paid for (DPO: 0.1)."""
    learning_rate: float = Field(5e-6, gt=0)
    """Peak learning rate (DeepSeek-LLM: 5e-6)."""
    schedule: Schedule = Schedule.COSINE
    """How the learning rate moves after warm-up (DeepSeek-LLM: cosine)."""
    warmup_steps: int = Field(10, ge=0)
    """Steps of linear warm-up."""
    balance_loss: float = Field(0.0, ge=0)
    """Factor of the balance loss; none, for the gates come balanced from pretraining."""
    bias_update_speed: float = Field(0.0, ge=0)
    """Step by which deepseek_v3's selection bias moves."""
    accuracy_tasks: int = Field(256, ge=1)
    """Held-out tasks asked before and after, greedily."""
    replay: ReinforcementReplayConfig = ReinforcementReplayConfig()
    """What is read besides, so that the model does not unlearn it."""
