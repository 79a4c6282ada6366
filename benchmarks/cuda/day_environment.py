"""The machine: card, driver, versions, and what is missing. Imports nothing that has to be installed."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from glob import glob
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from benchmarks.common.paths import ROOT, data_folder
from benchmarks.cuda.day_steps import FACTS, NotHere, Task, Wrong

NEEDED = ("numpy", "click", "msgspec", "pyyaml", "safetensors", "tqdm", "torch", "triton")
USEFUL = {
    "pytest": "the tests on the card",
    "hypothesis": "the tests on the card",
    "pytest-xdist": "the tests in several processes",
    "spconv": "a peer to compare with",
}
QUERY = ("name", "driver_version", "compute_cap", "memory.total", "clocks.sm", "clocks.max.sm", "power.limit")
# Where NVIDIA's tools are that are not on PATH.
TOOL_FOLDERS = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer", "/opt/nvidia/nsight-compute/*")
PATIENCE = 10  # seconds for a tool that only has to say something; a driver may have to start first


def environment(task: Task) -> None:
    """Facts for the head of the page, then packages and tools.

    Raises:
        NotHere: there is no card.
        Wrong: a package is missing without which nothing runs.
    """
    card = _card()
    facts = [("card", card or "none"), *_software(), *_machine(task.rehearsal)]
    (task.folder / FACTS).write_text("".join(f"* {name}: {value}\n" for name, value in facts), encoding="utf-8")
    missing = [name for name in NEEDED if installed(name) is None]
    task.say("| package | version | without it |", "|---|---|---|")
    for name in NEEDED:
        task.say(f"| {name} | {installed(name) or '**missing**'} | nothing runs |")
    for name, use in USEFUL.items():
        task.say(f"| {name} | {installed(name) or 'missing'} | not: {use} |")
    task.say("", *(f"* {line}" for line in _tools()), "", *_full_report())
    if card is None and not task.rehearsal:
        raise NotHere("there is no CUDA device here")
    if missing:
        raise Wrong(f"missing: {', '.join(missing)}; give a folder with them in DAY_PACKAGES")
    task.conclude(card or "no card: a rehearsal")


def installed(package: str) -> str | None:
    """A package's version, None where it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def tool(name: str) -> str | None:
    """The path of one of NVIDIA's tools, on PATH or where it is usually put."""
    places = (place for folder in TOOL_FOLDERS for place in sorted(glob(folder), reverse=True))
    return shutil.which(name) or next(filter(None, (shutil.which(name, path=place) for place in places)), None)


def said(command: Sequence[str]) -> str | None:
    """What a command prints, None where it is missing, fails or says nothing within seconds."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT, check=True)
        return done.stdout.strip()
    return None


def _card() -> str | None:
    """The first card as nvidia-smi tells, else as torch does."""
    line = said(["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"])
    cells = [cell.strip() for cell in (line or "").split("\n")[0].split(",")]
    if len(cells) == len(QUERY):  # else it says in words that there is none
        name, driver, capability, memory, clock, fastest, power = cells
        chip = f"{name}, sm_{capability.replace('.', '')}, {memory}, driver {driver}"
        return f"{chip}, clock {clock} of at most {fastest}, power limit {power}"
    with suppress(Exception):  # whatever is wrong with torch is told by what needs it
        import torch

        return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    return None


def _software() -> Iterator[tuple[str, str]]:
    smi = re.search(r"CUDA Version: *([\d.]+)", said(["nvidia-smi"]) or "")
    triton = f"Triton {installed('triton')} with ptxas {bundled_ptxas()}"
    driver = f"driver for CUDA {smi[1] if smi else 'unknown'}"
    torch = f"torch {installed('torch')} for CUDA {torch_cuda()}"
    yield "software", f"{torch}, {triton}, {driver}, Python {platform.python_version()}"
    yield "spcli", f"commit {_commit()}, sources {sources_digest()}"


def torch_cuda() -> str:
    """The CUDA that torch was built for, from its file: importing it takes seconds, and may fail."""
    spec = find_spec("torch")
    path = Path(spec.origin if spec and spec.origin else "torch").with_name("version.py")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = re.search(r"^cuda\b.*= *'([^']+)'", text, re.MULTILINE)
    return found[1] if found else "none"


def bundled_ptxas() -> str | None:
    """The version of the ptxas that Triton brings."""
    return ptxas_version(str(triton_programs() / "ptxas"))


def triton_programs() -> Path:
    """Where Triton's own programs lie."""
    spec = find_spec("triton")
    return Path(spec.origin if spec and spec.origin else "triton").parent / "backends" / "nvidia" / "bin"


def ptxas_version(path: str) -> str | None:
    """What a ptxas says it is, None where it says nothing."""
    found = re.search(r"V([\d.]+)", said([path, "--version"]) or "")
    return found[1] if found else None


def _commit() -> str:
    """The commit; a copy without its history may be told it."""
    return os.environ.get("DAY_COMMIT") or said(["git", "describe", "--always", "--dirty", "--abbrev=12"]) or "unknown"


def sources_digest(root: Path = ROOT) -> str:
    """Twelve digits that change with every change of a source file of `spcli/`."""
    total = sha256()
    for path in sorted((root / "spcli").rglob("*")):
        if path.suffix in (".py", ".cpp", ".hpp", ".yaml"):
            total.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:12]


def _machine(rehearsal: bool) -> Iterator[tuple[str, str]]:
    model = "unknown processor"
    with suppress(OSError, IndexError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        model = re.findall(r"^model name\s*: (.*)$", text, re.MULTILINE)[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield "machine", f"{model}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, Linux {platform.release()}"
    folder = None if rehearsal else data_folder()
    yield "scans", f"the real ones in {folder.name}/" if folder else "synthetic streets; the real ones are not here"
    yield "date", datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _tools() -> Iterator[str]:
    """What is there of the programs that steps start."""
    for name in ("nvidia-smi", "ncu", "compute-sanitizer", "cmake", "g++", "gcc"):
        path = tool(name)
        told = said([path, "--version"]) if path else None
        lines = [line for line in (told or "").splitlines() if re.search(r"\d+\.\d+", line)]
        yield f"{name}: {f'{path}, {lines[0].strip()}' if path and lines else path or 'missing'}"
    yield f"Python: {sys.executable}"


def _full_report() -> list[str]:
    text = said(["nvidia-smi"])
    return [] if text is None else ["```text", text, "```"]
