"""torch's optimizers without torch's compiler, which they import at their first use to tell it where not to trace.

That takes a second of the processor and some 100 MB in each process that trains, and no optimizer of ours is compiled.
What its decorators wrap is taken as it stands: the same kernels, the same bytes.
"""

from __future__ import annotations

from inspect import unwrap

import torch

__all__ = ["AdamW", "Optimizer"]


class Optimizer(torch.optim.Optimizer):
    """`torch.optim.Optimizer`."""

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)


class AdamW(Optimizer, torch.optim.AdamW):
    """`torch.optim.AdamW`, never differentiated through."""

    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))
