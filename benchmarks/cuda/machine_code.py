"""What the compiler makes of one Triton kernel, read from its machine code and its PTX; no GPU is needed.

Loads of weights are known from other loads by the source line that the disassembler names: it mentions `weight_ptr`.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

WIDTHS = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024}
WHERE = re.compile(r'//## File "(?P<file>[^"]+)", line (?P<line>\d+)')
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+\s+|@!?UPT\s+|@!?PT\s+)?(?P<code>[A-Z][A-Z0-9_.]*)")

# The sums in braces, then a first factor in braces; one in shared memory is a descriptor instead.
REGISTER_INPUT = re.compile(r"wgmma\.mma_async\S*\s*\{[^}]*\},\s*\{")


@dataclass(frozen=True)
class Job:
    """One kernel as it is launched.

    Attributes:
        kernel: `module:name`.
        arguments: name to type: `*fp16`, `i32`, `i64`, `fp32`, `i1` or `none`. `:16` after a pointer or an integer says
            that it is divisible by 16, `:1` after an integer that it is 1.
        constants: the constexpr parameters by name; dtypes as `dtype:fp16`.
        options: num_warps, num_stages.
    """

    kernel: str
    arguments: dict[str, str]
    constants: dict[str, Any] = field(default_factory=dict)
    options: dict[str, int] = field(default_factory=dict)

    def key(self) -> str:
        """The same text for the same job."""
        return json.dumps(vars(self), sort_keys=True)


@dataclass(frozen=True)
class Code:
    """Measures of the machine code: registers a thread, bytes, and numbers of instructions.

    Attributes:
        spills: loads and stores of registers that did not fit.
        hmma, hgmma: tensor-core instructions of a warp, of four warps.
        copies, wide_copies: asynchronous copies to shared memory, and those of 16 bytes.
        weight_width: bytes of the narrowest load of weights, 0 where there is none.
        register_inputs: products of four warps (wgmma) whose first factor comes from registers.
        unfenced: whether products of four warps read what asynchronous copies wrote without a fence between them.
    """

    registers: int
    stack: int
    shared: int
    spills: int
    instructions: int
    hmma: int
    hgmma: int
    ffma: int
    copies: int
    wide_copies: int
    weight_width: int
    register_inputs: int
    unfenced: bool
    seconds: float


def compile_job(job: Job, capability: int) -> Code:
    """Compiles for a compute capability (80, 90) and reads the result."""
    start = time.perf_counter()
    compiled = _compile(job, capability)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage, listing = _tool("cuobjdump", "-res-usage", file.name), _tool("nvdisasm", "-c", "-g", file.name)
    registers, stack = (int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK"))
    codes, widths = _read(listing)
    count = Counter(code.split(".")[0] for code in codes)
    return Code(
        registers,
        stack,
        compiled.metadata.shared,
        count["LDL"] + count["STL"],
        len(codes),
        count["HMMA"],
        count["HGMMA"],
        count["FFMA"],
        count["LDGSTS"],
        sum(code.startswith("LDGSTS") and _width(code) == 16 for code in codes),
        min(widths, default=0),
        len(REGISTER_INPUT.findall(compiled.asm["ptx"])),
        unfenced(compiled.asm["ptx"]),
        round(time.perf_counter() - start, 2),
    )


def unfenced(ptx: str) -> bool:
    """Whether warp groups multiply what was copied to shared memory by cp.async, and no fence stands between.

    Copies go through one proxy of memory and wgmma reads through another.
    """
    return "wgmma.mma_async" in ptx and "cp.async.c" in ptx and "fence.proxy.async" not in ptx


def _compile(job: Job, capability: int) -> Any:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if triton.knobs.runtime.interpret:
        raise SystemExit("kernels cannot be compiled with TRITON_INTERPRET=1")
    module, name = job.kernel.split(":")
    kernel = getattr(import_module(module), name)
    signature, constants, attributes = {}, {}, {}
    for place, parameter in enumerate(kernel.params):
        if parameter.name in job.constants:
            signature[parameter.name] = "constexpr"
            constants[(place,)] = _constant(job.constants[parameter.name])
            continue
        kind, _, divisor = job.arguments[parameter.name].partition(":")
        fixed = kind == "none" or (divisor == "1" and not parameter.do_not_specialize)
        signature[parameter.name] = "constexpr" if fixed else kind
        if fixed:
            constants[(place,)] = None if kind == "none" else 1
        elif divisor == "16" and not (parameter.do_not_specialize or parameter.do_not_specialize_on_alignment):
            attributes[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constexprs=constants, attrs=attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=dict(job.options))


def _constant(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("dtype:"):
        import triton.language as tl

        return tl.dtype(value[6:])
    return tuple(_constant(part) for part in value) if isinstance(value, list | tuple) else value


def _read(listing: str) -> tuple[list[str], list[int]]:
    """Every instruction, and the widths of those that load weights."""
    codes, widths, line = [], [], ""
    for text in listing.splitlines():
        where = WHERE.search(text)
        if where:
            line = _lines(where["file"]).get(int(where["line"]), "")
            continue
        instruction = INSTRUCTION.search(text)
        if instruction is None:
            continue
        codes.append(instruction["code"])
        if instruction["code"].split(".")[0] in ("LDG", "LDGSTS") and "weight_ptr" in line:
            widths.append(_width(instruction["code"]))
    return codes, widths


@cache
def _lines(file: str) -> Mapping[int, str]:
    path = Path(file)
    return dict(enumerate(path.read_text().splitlines(), start=1)) if path.is_file() else {}


def _width(code: str) -> int:
    return next((WIDTHS[part] for part in reversed(code.split(".")) if part in WIDTHS), 4)


def _tool(name: str, *arguments: str) -> str:
    import triton

    path = Path(triton.__file__).parent / "backends/nvidia/bin" / name
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=True).stdout
