"""Anything narrower than float32 is chosen in one place, which asks the device."""

import ast
from pathlib import Path

import pytest
import torch

from ldm import precision
from ldm.errors import UserError
from ldm.training import Muon, TrainerSettings
from ldm.training.optim.muon import COEFFICIENTS, orthogonalise

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
BF16, AMX, AVX2 = {"avx2", "avx512_bf16"}, {"avx512_bf16", "amx_bf16", "amx_tile"}, {"avx2", "fma"}
CASES = [  # flags, environment, whether bf16 is multiplied in hardware
    (BF16, {}, True),
    (AMX, {}, True),
    ({"amx_bf16"}, {}, True),
    (AVX2, {}, False),
    (set(), {}, False),
    (BF16, {"ATEN_CPU_CAPABILITY": "avx2"}, False),
    (AMX, {"ATEN_CPU_CAPABILITY": "default"}, False),
    (BF16, {"ATEN_CPU_CAPABILITY": "AVX2"}, False),
    (BF16, {"ATEN_CPU_CAPABILITY": "avx512"}, True),
    (BF16, {"ATEN_CPU_CAPABILITY": ""}, True),
    *((AMX, {"ONEDNN_MAX_CPU_ISA": name}, False) for name in ("SSE41", "AVX", "AVX2", "avx2", "AVX2_VNNI", "AVX512_CORE")),
    (AMX, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}, False),
    (AMX, {"DNNL_MAX_CPU_ISA": "AVX2"}, False),
    (AMX, {"DNNL_MAX_CPU_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": ""}, False),  # an empty one says nothing
    (AMX, {"DNNL_MAX_CPU_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": "ALL"}, True),
    (AMX, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, True),
    (AMX, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}, True),
    (AMX, {"ONEDNN_MAX_CPU_ISA": "DEFAULT"}, True),
    (AMX, {"ONEDNN_MAX_CPU_ISA": "ALL", "ATEN_CPU_CAPABILITY": "avx2"}, False),
    (AVX2, {"ONEDNN_MAX_CPU_ISA": "ALL"}, False),
]


@pytest.mark.parametrize(("flags", "environment", "native"), CASES)
def test_bf16_on_a_cpu_only_where_it_multiplies_it(flags, environment, native, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset(flags))
    for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings, told = TrainerSettings(1, accelerator="cpu").resolve_precision()
    assert settings.precision == ("bf16-mixed" if native else "32-true") and not told
    assert precision.for_sampling("auto", CPU) == ("bf16" if native else "fp32")
    assert spied_dtype(monkeypatch) == (torch.bfloat16 if native else torch.float32)


def spied_dtype(monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    """The type in which a step of Muon orthogonalises."""
    seen = []
    monkeypatch.setattr("ldm.training.optim.muon.orthogonalise", lambda x, dtype: seen.append(dtype) or x)
    p = torch.nn.Parameter(torch.randn(4, 6))
    p.grad = torch.randn(4, 6)
    Muon([("weight", p)]).step()
    (dtype,) = seen
    return dtype


def test_a_gpu_that_only_emulates_bf16_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert precision.narrowest(torch.device("cuda")) == torch.float32


def test_what_is_not_auto_is_as_asked() -> None:
    assert [precision.for_sampling(name, CPU) for name in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]
    assert TrainerSettings(1, precision="bf16-mixed").resolve_precision()[0].precision == "bf16-mixed"
    with pytest.raises(UserError, match="'fp8' is unknown; there are auto, fp32, bf16, fp16"):
        precision.for_sampling("fp8", CPU)


@pytest.mark.parametrize(
    ("kept", "native", "then", "said"),
    [
        ("bf16-mixed", True, "bf16-mixed", ""),
        ("32-true", True, "32-true", ""),
        ("32-true", False, "32-true", ""),
        (
            "bf16-mixed",
            False,
            "32-true",
            "the run began in bf16-mixed, which this cpu does not multiply in hardware: continues in 32-true",
        ),
    ],
)
def test_a_resumed_run_keeps_what_auto_was(kept, native, then, said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: native)
    settings, told = TrainerSettings(1, accelerator="cpu").resolve_precision(kept)
    assert (settings.precision, told) == (then, said)


def test_muon_goes_on_as_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldm.training.optim.muon.narrowest", lambda device: torch.float32)
    p = torch.nn.Parameter(torch.randn(4, 6))
    p.grad = torch.randn(4, 6)
    begun = Muon([("weight", p)])
    begun.step()
    monkeypatch.setattr("ldm.training.optim.muon.narrowest", lambda device: torch.bfloat16)
    again, seen = Muon([("weight", p)]), []
    again.load_state_dict(begun.state_dict())
    monkeypatch.setattr("ldm.training.optim.muon.orthogonalise", lambda x, dtype: seen.append(dtype) or x)
    again.step()
    Muon([("weight", p)]).step()
    assert seen == [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("shape", [(2, 8, 40), (2, 40, 8), (2, 8, 9), (1, 1, 7)])
def test_orthogonalising_in_float32_is_the_iteration(shape: tuple[int, int, int]) -> None:
    """Whichever way it multiplies, the result is that of the definition in float64, also for matrices of almost no rank."""
    a, b, c = COEFFICIENTS
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    x[:, 1:] *= 1e-5
    y = x.double() / x.double().norm(dim=(1, 2), keepdim=True)
    for _ in range(5):
        gram = y @ y.mT
        y = a * y + (b * gram + c * gram @ gram) @ y
    torch.testing.assert_close(orthogonalise(x).double(), y, atol=3e-4, rtol=0)
    assert torch.equal(orthogonalise(x), orthogonalise(x))


NARROW = {"bfloat16", "float16", "half", "autocast", "allow_tf32", "set_float32_matmul_precision", "fp32_precision"}
# What compares precisions names them, and sets nothing for anybody else.
NAMED = {"benchmarks/attention.py", "benchmarks/training.py"}


def narrowings(source: str) -> list[str]:
    """Where a source file names a narrower type, autocast or TF32."""
    attributes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return [f"line {node.lineno}: .{node.attr}" for node in attributes if node.attr in NARROW]


def test_a_narrower_precision_is_chosen_nowhere_else() -> None:
    files = [path for folder in ("ldm", "scripts", "benchmarks") for path in (ROOT / folder).rglob("*.py")] + [ROOT / "main.py"]
    found = {str(path.relative_to(ROOT).as_posix()): narrowings(path.read_text(encoding="utf-8")) for path in files}
    assert len(found) > 200 and len(found.pop("ldm/precision.py")) > 5
    elsewhere = {name: where for name, where in found.items() if where and name not in NAMED}
    assert not elsewhere, f"choose it in ldm/precision.py: {elsewhere}"


@pytest.mark.parametrize(
    "text", ["x.bfloat16()", "x.half()", "x.to(torch.float16)", "torch.autocast('cpu')", "torch.backends.cudnn.allow_tf32 = True"]
)
def test_the_search_finds_each_of_them(text: str) -> None:
    assert narrowings(f"import torch\n{text}\n")


def test_exact_means_exact_and_gives_back_what_was(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        with torch.autocast("cpu", torch.bfloat16):
            with precision.exact(CPU):
                assert torch.get_float32_matmul_precision() == "highest" and not torch.backends.cudnn.allow_tf32
                assert torch.backends.cuda.matmul.fp32_precision != "tf32" and not torch.is_autocast_enabled("cpu")
            assert torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "high" and torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
