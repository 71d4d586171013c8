"""Several tokens for one pass through the model: a layer of multi-token prediction guesses, the model checks.

The layer that training added (DeepSeek-V3, section 2.2) says what comes after the next token; fed with its own state
and its own guess it goes on saying so. The model then computes the next token and the guesses in one pass, which costs
little more than a pass for one: a step's time is that of reading weights and of calling operators. What is chosen is
always chosen from the model's own logits, by the very rule and the very random number of plain decoding, and a guess
that is not what was chosen is forgotten with all that came of it. So the answer is that of plain decoding, sampled ones
too, token by token and not only in distribution as by rejection sampling (arXiv 2211.17192): rounding apart, for a pass
over several tokens adds up in another order, and a tie of two tokens may fall the other way, as it may between batches.

Shapes: T tokens, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.generation.decode import Predictor, StepDecoder
from model.generation.past import Past

__all__ = ["Ahead", "Drafted"]

PROMPT = 512
"""Last tokens of a prompt that the layer of multi-token prediction reads."""
Guess = Callable[[Tensor, int], int]
"""The token to guess from logits [V], and how many places after the prompt's end it stands (0 is the first)."""


@dataclass
class Drafted:
    """How often guesses were right."""

    passes: int = 0
    """Passes through the model."""
    guessed: int = 0
    """Tokens that such a pass computed beside the one that was chosen before."""
    right: int = 0
    """Of those, the ones that were then chosen."""

    @property
    def acceptance(self) -> float:
        """Share of the guesses that were right."""
        return self.right / max(self.guessed, 1)


class Ahead:
    """The logits after each token of one growing row, computed for some tokens ahead. Called once per chosen token."""

    def __init__(
        self,
        decoder: StepDecoder,
        predictor: Predictor,
        past: Past,
        prompt: Sequence[int],
        states_TD: Tensor,
        most: int,
        guess: Guess,
        told: Drafted | None = None,
    ) -> None:
        """
        Args:
            past: of the one row, after the prompt.
            states_TD: normed states of the prompt's last tokens, as many as are known.
            most: tokens to guess at a time.
            guess: how a guess is made from logits: as the token itself will be chosen.
        """
        self._decoder, self._predictor, self._past, self._most, self._guess = decoder, predictor, past, most, guess
        self.told = told or Drafted()
        self._begun, self._device = past.seen, past.turns_Sr.device
        known = min(len(states_TD), PROMPT)
        self._states_TD = states_TD[len(states_TD) - known :]
        """States that the predictor has not read: the tokens that follow them are `_followers` and the next to come."""
        self._followers = list(prompt[len(prompt) - known + 1 :])
        self._read = predictor.past(known + past.capacity - past.seen)
        self._certain = 0
        """Slots of `_read` that hold true states: later ones hold guesses."""
        self._guesses: list[int] = []
        self._checked_TV: Tensor | None = None
        self._place = 0
        """Which of the tokens of the last pass was chosen last."""

    def __call__(self, token: int) -> Tensor:
        """The logits [V] after `token`, the one chosen from what was returned last."""
        if self._checked_TV is not None:
            right = self._place < len(self._guesses) and self._guesses[self._place] == token
            if right:
                self._place += 1
                self.told.right += 1
                return self._checked_TV[self._place]
            self._settle()
        return self._pass(token)

    def _settle(self) -> None:
        """Keep of the last pass what was chosen, and forget the rest."""
        kept = self._place + 1
        self._past.rewind(self._past.seen - len(self._guesses) - 1 + kept)
        self._states_TD = self._pass_TD[:kept]
        self._followers = self._guesses[: self._place]

    def _pass(self, token: int) -> Tensor:
        room = self._past.capacity - self._past.seen - 1
        self._guesses = self._draft(token, min(self._most, room))
        self._pass_TD, self._checked_TV = self._decoder.several(self._tensor([token, *self._guesses]), self._past)
        self._place = 0
        self.told.passes += 1
        self.told.guessed += len(self._guesses)
        return self._checked_TV[0]

    def _draft(self, token: int, most: int) -> list[int]:
        """What may follow `token`, one guess after another."""
        if most < 1:
            return []
        predictor, read = self._predictor, self._read
        read.rewind(self._certain)
        state_1D = predictor(self._states_TD, self._tensor([*self._followers, token]), read)[-1:]
        self._certain = read.seen
        place = self._past.seen + 1 - self._begun
        guesses: list[int] = []
        while True:
            guesses.append(self._guess(predictor.logits(state_1D)[0], place + len(guesses)))
            if len(guesses) == most:
                return guesses
            state_1D = predictor(state_1D, self._tensor(guesses[-1:]), read)

    def _tensor(self, tokens: list[int]) -> Tensor:
        return torch.tensor(tokens, device=self._device)
