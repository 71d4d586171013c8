"""Learning from what answers earn, or from which of two is better: GRPO, DPO, rejection sampling."""
