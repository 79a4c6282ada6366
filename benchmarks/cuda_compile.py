r"""Compiles the CUDA engine's kernels without a GPU and shows what the machine code uses.

    python benchmarks/cuda_compile.py --kernel spcli.engines.cuda.kernels.tiles:list_taps --argument 'table_ptr=*i32:16' \\
        --argument rows=i32 --constant BM=64 --option num_warps=4
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Sequence
from dataclasses import asdict

from cuda_sass import SHARED_LIMIT, Job, compile_job


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """`name=value` texts as a table."""
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def value_of(text: str) -> object:
    """A number, a truth value or None as Python writes them; other text as it stands."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", required=True, help="module:name of one kernel")
    parser.add_argument("--argument", action="append", default=[], help="name=type[:16 | :1], see cuda_sass.Job")
    parser.add_argument("--constant", action="append", default=[], help="name=value of a constexpr parameter")
    parser.add_argument("--option", action="append", default=[], help="num_warps=4, num_stages=3")
    parser.add_argument(
        "--capability", type=int, action="append", choices=SHARED_LIMIT, help="80 or 90; both if not given"
    )
    asked = parser.parse_args()
    constants = {name: value_of(text) for name, text in pairs(asked.constant).items()}
    options = {name: int(text) for name, text in pairs(asked.option).items()}
    job = Job(asked.kernel, pairs(asked.argument), constants, options)
    for capability in asked.capability or SHARED_LIMIT:
        code = compile_job(job, capability)
        print(f"sm_{capability}:", " ".join(f"{name}={value}" for name, value in asdict(code).items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
