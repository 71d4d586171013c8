"""What only a GPU can verify: ``python -m bench.gpu [--quick] [--json FILE] [--part SECTION ...]``.

`attention` (`bench.gpu_attention`): every kernel for packed documents that is installed, and `kernels`: the experts'
grouped products, against plain versions, in value, gradient and time. `exactness` (`bench.gpu_exactness`): one training
in every layout that one GPU has, against the CPU's losses; twice the same bits; a resumed run. `speed`
(`bench.gpu_speed`): tokens per second against transformers, the share of the GPU's matrix peak, memory against
`deepmill plan`, generation. `finetune` (`bench.gpu_finetune`): the stages `sft` and `grpo` against the CPU's losses and
rewards, killed and resumed, and beside TRL. A section that fails is told at the end, and the others run. Without a GPU
it says so and verifies nothing: there, CPU tests hold the wrappers' shapes and masks
(`tests/model/architecture/test_packed.py`, `tests/model/architecture/test_grouped.py`).
``--device cpu`` goes through the motions in small.
"""

from __future__ import annotations

import argparse
import importlib
import time
import traceback
from collections.abc import Callable

import torch
from torch import Tensor

from bench.table import Row, bench_parser, print_table, row, write_rows

SECTIONS = {
    "attention": "bench.gpu_attention",
    "kernels": "bench.gpu",
    "exactness": "bench.gpu_exactness",
    "speed": "bench.gpu_speed",
    "finetune": "bench.gpu_finetune",
}
"""Where each section's `measure(device, quick)` is."""
EXPERTS = {
    # tokens, routed experts, experts per token, hidden, expert width
    "DeepSeekMoE 16B": (8192, 64, 6, 2048, 1408),
    "DeepSeek-V3, 32 of its experts": (8192, 32, 8, 7168, 2048),
}
TOLERANCE = 2e-2
"""bf16 keeps 8 bits; both paths are compared with fp32, whose values are of order one."""


def main() -> None:
    """Verify and print; with ``--json`` write the rows. Ends with status 1 when a section failed."""
    parser = bench_parser(__doc__, "shorter rows, fewer rounds")
    parser.add_argument("--part", "--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    rows: list[Row] = []
    failed = []
    if chosen.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here: nothing of the GPU path was verified (CPU tests hold its shapes and masks)")
    else:
        device = torch.device(chosen.device)
        name = torch.cuda.get_device_name() if device.type == "cuda" else "the CPU, for practice"
        print(f"{name}, torch {torch.__version__}")
        for section in chosen.part:
            begun = time.perf_counter()
            try:
                found = importlib.import_module(SECTIONS[section]).measure(device, chosen.quick)
                print_table(found)
                rows += found
                write_rows(rows, chosen.json)  # what there is, should the time run out
            except Exception:  # the other sections are worth having
                traceback.print_exc()
                failed.append(section)
            print(f"{section}: {time.perf_counter() - begun:.0f} s", flush=True)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def measure(device: torch.device, quick: bool) -> list[Row]:
    """The experts' kernels."""
    if device.type == "cpu":
        return experts("a small one", (64, 8, 2, 32, 16), device)
    return [found for name, shape in EXPERTS.items() for found in experts(name, shape, device)]


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """From an idle device until it is idle again."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def milliseconds(call: Callable[[], object], device: torch.device) -> float:
    """Best of five, after two to warm up."""
    return 1000 * min([seconds(call, device) for _ in range(7)][2:])


def error(found: list[Tensor], exact: list[Tensor]) -> float:
    """The largest difference, of the largest value of each tensor."""
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(found, exact, strict=True))


def experts(name: str, shape: tuple[int, int, int, int, int], device: torch.device) -> list[Row]:
    """The grouped kernel against one product per expert and against fp32; one expert has no token."""
    import model.architecture.grouped
    from model.architecture.grouped import Routing, gated_experts

    tokens, count, chosen, hidden, width = shape
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32

    def draw(*sizes: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*sizes, device=device).mul_(scale).to(dtype).requires_grad_()

    inputs = [
        draw(tokens, hidden),
        torch.rand(tokens * chosen, device=device).to(dtype).requires_grad_(),
        draw(count, hidden, width, scale=width**-0.5),
        draw(count, 2 * width, hidden, scale=hidden**-0.5),
    ]
    experts_t = torch.rand(tokens, count - 1, device=device).topk(chosen).indices.flatten()
    dy = torch.randn(tokens, hidden, device=device)

    def run(*operands: Tensor) -> list[Tensor]:
        routing = Routing(experts_t, count, chosen)
        y = gated_experts(operands[0], operands[1], routing, *operands[2:])
        return [y, *torch.autograd.grad(y, operands, dy.to(y.dtype))]

    takes = model.architecture.grouped.takes_grouped
    grouped = run(*inputs)
    fast = milliseconds(lambda: run(*inputs), device)
    is_same = all(torch.equal(a, b) for a, b in zip(run(*inputs), grouped, strict=True))
    plain, model.architecture.grouped._activation = (
        model.architecture.grouped._activation,
        model.architecture.grouped._Activation(),
    )
    model.architecture.grouped.compile_activations()
    compiled = milliseconds(lambda: run(*inputs), device)
    model.architecture.grouped._activation = plain
    model.architecture.grouped.takes_grouped = lambda *operands: False
    try:
        apart = run(*inputs)
        slow = milliseconds(lambda: run(*inputs), device)
        exact = run(*(x.detach().float().requires_grad_() for x in inputs))
    finally:
        model.architecture.grouped.takes_grouped = takes
    a, b = draw(tokens * chosen, hidden), draw(hidden, 3 * width)
    with torch.no_grad():
        limit = 3 * milliseconds(lambda: a @ b, device)
    what = f"experts of {name}, {tokens} tokens: "
    peers = {"one product per expert": slow, "three dense products of their size": limit}
    return [
        row(what + "error of values and gradients", "of max", error(grouped, exact), {}, TOLERANCE, most=True),
        row(what + "that error against one by one", "of max", error(grouped, exact),
            {"one by one": error(apart, exact)}, 1.5, most=True),
        row(what + "same bits twice", "", float(is_same), {}, 1.0),
        row(what + "gradients of the expert without a token", "", max(g[-1].abs().max().item() for g in grouped[3:]),
            {}, 0.0, most=True),
        row(what + "forward and backward", "ms", fast, peers, None, most=True),
        row(what + "the same, compiled", "ms", compiled, {"not compiled": fast}, None, most=True),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
