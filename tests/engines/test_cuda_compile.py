"""The convolution kernels compile for a GPU that is not here, and use it as they should.

The whole table (every kernel, sm_80 as well) is `make compile-table`; this is the part that matters most for speed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cuda.compile_table import described, problems
from benchmarks.cuda.machine_code import REGISTER_INPUT, SHARED_LIMIT, Code, Job, unfenced

ROOT = Path(__file__).resolve().parents[2]
CODE = Code(
    registers=64, stack=0, shared=0, spills=0, instructions=1, hmma=0, hgmma=4, ffma=0, copies=0, wide_copies=0,
    weight_width=16, register_inputs=0, unfenced=False, seconds=0.0,
)  # fmt: skip
JOB = Job(
    "spcli.engines.cuda.kernels.convolve:convolve",
    {"x_ptr": "*fp16:16", "add_ptr": "none", "volume": "i32"},
    {"ROWS": 64, "PRECISION": "ieee"},
)


def test_the_convolutions_of_second_kitti_use_the_tensor_cores_of_sm_90(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton, which compiles the kernels, is not installed")
    path = tmp_path / "table.json"
    command = [sys.executable, "-m", "benchmarks.cuda.compile_table", "--network", "second-kitti"]
    command += ["--capability", "90", "--only", "convolve:", "--json", str(path)]
    environ = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environ)
    assert run.returncode == 0, run.stdout + run.stderr
    rows = json.loads(path.read_text())
    # conv_input, conv1 and conv2_down have shapes of their own; conv3_1 and conv4_down among others share one.
    formats = Counter((row["arguments"]["x_ptr"], row["constants"]["PRECISION"]) for row in rows)
    assert {key: count >= 6 for key, count in formats.items()} == {
        ("*fp32:16", "ieee"): True,
        ("*fp32:16", "tf32"): True,
        ("*fp16:16", "ieee"): True,
        ("*bf16:16", "ieee"): True,
    }


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ({"spills": 9}, "9 loads and stores of spilled registers"),
        ({"shared": SHARED_LIMIT[90] + 1}, "bytes of shared memory"),
        ({"hgmma": 0}, "no tensor-core instructions"),
        ({"weight_width": 4}, "weights are loaded 4 bytes at a time"),
        ({"weight_width": 0}, "weights are loaded 0 bytes at a time"),
        ({"register_inputs": 4}, "4 products of a warp group read their input from registers"),
        ({"unfenced": True}, "products of a warp group read asynchronous copies without a fence"),
    ],
)
def test_the_table_complains_of_what_must_not_be(code: dict[str, Any], complaint: str) -> None:
    assert problems(JOB, CODE, 90) == []
    (found,) = problems(JOB, Code(**(vars(CODE) | code)), 90)
    assert complaint in found


PRODUCT = "wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 {%r396,%r397}, "
COPY = "cp.async.cg.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x10;\ncp.async.wait_group 1;\n"
FENCE = "fence.proxy.async.shared::cta;\n"


def test_where_a_warp_groups_input_comes_from_is_read_from_the_ptx() -> None:
    assert REGISTER_INPUT.findall(2 * (PRODUCT + "{%r181,%r182}, %rd53, %p44, 1, 1, 0;\n")) == 2 * [
        PRODUCT + "{",
    ]
    assert REGISTER_INPUT.findall(PRODUCT + "%rd42, %rd43, %p22, 1, 1, 0, 0;\n") == []


@pytest.mark.parametrize(
    ("ptx", "expected"),
    [(COPY + PRODUCT, True), (COPY + FENCE + PRODUCT, False), (PRODUCT, False), (COPY, False)],
    ids=["copied", "fenced", "not copied", "no product"],
)
def test_copies_for_a_warp_group_need_a_fence(ptx: str, expected: bool) -> None:
    assert unfenced(ptx) == expected


def test_exact_float32_and_other_kernels_need_no_tensor_cores() -> None:
    plain = Code(**(vars(CODE) | {"hgmma": 0}))
    assert problems(Job(JOB.kernel, {"x_ptr": "*fp32:16"}, {"PRECISION": "ieee"}), plain, 90) == []
    assert problems(Job(JOB.kernel, {"x_ptr": "*fp32:16"}, {"PRECISION": "tf32"}), plain, 90) != []
    assert problems(Job("spcli.engines.cuda.kernels.pool:pool", {}, {}), plain, 90) == []


def test_a_kernel_that_does_not_compile_is_a_problem() -> None:
    assert problems(JOB, "CompilationError: at 3:4", 90) == ["CompilationError: at 3:4"]
    assert described(JOB) == "convolve fp16 rows=64 precision=ieee without add"
