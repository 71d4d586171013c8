"""Which kernel attends over packed documents: what is refused and why, and, where there is a GPU, that all agree."""

from __future__ import annotations

import importlib.metadata
import importlib.util

import pytest
import torch

from infra.errors import UserError
from infra.execution import ENVIRONMENT_KEY, Attention
from model.architecture import varlen
from model.architecture.varlen import PACKAGES, Kernel, choose, load, refused, told
from model.training.engine import SingleEngine
from tests.model.conftest import tiny_model
from tests.model.synthetic import small_training

HOPPER, AMPERE = (9, 0), (8, 6)


def installed(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> None:
    """Let the metadata say that these packages, and no others, are there."""

    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "version", version)


BOTH = {"flash-attn": "2.8.3.post2", "flash-attn-3": "3.0.0+cu130"}


@pytest.mark.parametrize(
    ("wanted", "gpu", "width", "versions", "expected"),
    [
        ("torch", HOPPER, 128, BOTH, Kernel.TORCH),
        ("torch", None, 128, {}, Kernel.TORCH),
        ("auto", HOPPER, 192, BOTH, Kernel.FLASH3),
        ("auto", AMPERE, 192, BOTH, Kernel.TORCH),
        ("auto", HOPPER, 256, BOTH, Kernel.TORCH),
        ("auto", HOPPER, 128, {"flash-attn": "2.8.3.post2"}, Kernel.TORCH),
        ("auto", HOPPER, 128, {"flash-attn-3": "3.0.0b1"}, Kernel.TORCH),
        ("auto", None, 128, BOTH, Kernel.TORCH),
        ("flash2", AMPERE, 256, BOTH, Kernel.FLASH2),
        ("flash3", HOPPER, 192, BOTH, Kernel.FLASH3),
    ],
)
def test_the_rule(
    wanted: str,
    gpu: tuple[int, int] | None,
    width: int,
    versions: dict[str, str],
    expected: Kernel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch, versions)
    assert choose(Attention(wanted), gpu, True, width) is expected


@pytest.mark.parametrize(
    ("wanted", "gpu", "is_bf16", "width", "versions", "said"),
    [
        ("flash2", None, True, 128, BOTH, "runs on a GPU, and this process has none; set it to torch, or to auto$"),
        ("flash2", (7, 5), True, 128, BOTH, "capability 8.x, 9.x, 10.x, 12.x, and this one has 7.5;"),
        ("flash3", AMPERE, True, 128, BOTH, "capability 9.x, and this one has 8.6;"),
        ("flash3", HOPPER, False, 128, BOTH, "computes in 16 bits, and matrix products are in fp32 here"),
        (
            "flash3",
            HOPPER,
            True,
            256,
            BOTH,
            "heads of the model are 256 wide, and flash-attn-3 repeats gradients of 192",
        ),
        ("flash3", HOPPER, True, 128, {"flash-attn": "2.8.3"}, "flash-attn-3 is not installed"),
        ("flash3", HOPPER, True, 128, {"flash-attn-3": "3.0.0b1"}, "3.0.0b1 is installed, and <4,>=3.0.0 is wanted"),
        ("flash2", HOPPER, True, 128, {"flash-attn": "2.7.4"}, "2.7.4 is installed, and <3,>=2.8.3 is wanted"),
    ],
)
def test_what_is_refused(
    wanted: str,
    gpu: tuple[int, int] | None,
    is_bf16: bool,
    width: int,
    versions: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch, versions)
    with pytest.raises(UserError, match=f"^execution.attention {wanted}: .*{said}"):
        choose(Attention(wanted), gpu, is_bf16, width)


def test_what_is_known_before_a_stage_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, {"flash-attn": "2.8.3"})
    assert refused(Attention.FLASH2, 128, here=True) is None
    assert refused(Attention.FLASH3, 128) is None, "it may be installed where the stage will run"
    assert "flash-attn-3 is not installed" in str(refused(Attention.FLASH3, 128, here=True))
    assert "320 wide" in str(refused(Attention.FLASH2, 320))
    assert refused(Attention.AUTO, 320, here=True) is None


def test_a_package_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a build for another torch does: it is installed, and its import fails."""
    if importlib.util.find_spec(PACKAGES[Kernel.FLASH3].module):
        pytest.skip("flash-attn-3 is installed here")
    with pytest.raises(UserError, match=r"flash-attn-3 .* does not load .*: it must be built for torch 2"):
        load(Kernel.FLASH3)


def test_a_training_says_so_before_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU: what is asked for in vain is an error, and `auto` goes on with what there is."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here, on which a kernel may be had")
    monkeypatch.setenv(ENVIRONMENT_KEY, '{"attention": "flash2"}')
    with pytest.raises(UserError, match=r"execution\.attention flash2: it runs on a GPU, and this process has none"):
        SingleEngine(tiny_model(), small_training())
    monkeypatch.setenv(ENVIRONMENT_KEY, '{"attention": "auto"}')
    assert SingleEngine(tiny_model(), small_training()).model.kernel is Kernel.TORCH


def test_what_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, BOTH)
    assert [told(kernel) for kernel in Kernel] == ["torch", "flash-attn 2.8.3.post2", "flash-attn-3 3.0.0+cu130"]


@pytest.mark.drill
@pytest.mark.parametrize("kernel", [Kernel.FLASH2, Kernel.FLASH3])
@pytest.mark.parametrize(("heads", "query", "value"), [((4, 4), 64, 64), ((4, 2), 128, 128), ((4, 4), 192, 128)])
def test_the_packages_equal_the_mask(kernel: Kernel, heads: tuple[int, int], query: int, value: int) -> None:
    """Values and gradients in bf16 within its rounding of the mask's in fp32, and the same bits twice."""
    from model.architecture.packed import Documents, attend, document_mask

    if not torch.cuda.is_available():
        pytest.skip("there is no GPU here: python -m bench.gpu --part attention, where there is one")
    device = torch.device("cuda")
    if reason := varlen.why_not(kernel, torch.cuda.get_device_capability(device), True, query):
        pytest.skip(f"{kernel}: {reason}")
    torch.manual_seed(0)
    sizes = ((heads[0], query), (heads[1], query), (heads[1], value))
    inputs = [torch.randn(2, 512, *size, device=device, dtype=torch.bfloat16, requires_grad=True) for size in sizes]
    ids = (torch.rand(2, 512, device=device) < 0.02).long().cumsum(1)

    def run(mask: object, dtype: torch.dtype) -> list[torch.Tensor]:
        y = attend(*(x.to(dtype) for x in inputs), mask, query**-0.5)  # type: ignore[arg-type]
        return [y, *torch.autograd.grad(y.float().square().sum(), inputs)]

    exact = run(document_mask(ids, torch.float32, query), torch.float32)
    torch.use_deterministic_algorithms(True)
    try:
        documents = Documents(Documents.of(ids).starts_M1, 512, kernel)
        found, again = (run(documents, torch.bfloat16) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    for a, b in zip(found, exact, strict=True):
        assert (a.float() - b.float()).abs().max() <= 2e-2 * b.float().abs().max()
