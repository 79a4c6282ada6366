"""Steps that send frames through sessions and compare bits: another assembler, races, captures under load or broken."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

import spcli
from benchmarks.common.paths import data_folder
from benchmarks.cuda.day_environment import bundled_ptxas, ptxas_version, tool, triton_programs
from benchmarks.cuda.day_steps import NotHere, Task, Wrong, is_rehearsal
from benchmarks.cuda.day_tests import DTYPES, together
from spcli.config import load_config

EVERY_LAYER = Path(__file__).with_name("every_layer.yaml")
TINY = """\
version: 1
name: tiny
voxelize: {voxel_size: [0.5, 0.5, 0.5], point_cloud_range: [0, -10, -3, 30, 10, 3], columns: [x, y, z, intensity]}
layers:
  - {name: same, type: SubMConv3d, out_channels: 8, kernel_size: 3}
  - {name: down, type: SparseConv3d, out_channels: 8, kernel_size: 2, stride: 2}
"""
# These steps look at the Triton engine: a check of first frames would let another go on, and they would pass.
TRITON: dict[str, Any] = {"engine": "triton", "check": "none"}
POINTS, FEW = 60_000, 120  # of a synthetic scan, and of one in a rehearsal


def network(task: Task, name: str) -> str:
    """A preset, or in a rehearsal two layers; a file is taken as it is."""
    if not task.rehearsal or name.endswith(".yaml"):
        return name
    path = task.folder / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return str(path)


def formats(task: Task) -> Sequence[str]:
    """The number formats; two in a rehearsal."""
    return DTYPES[-2:] if task.rehearsal else DTYPES


def street(task: Task, seed: int = 0, share: float = 1.0) -> np.ndarray:
    """A synthetic scan of x, y, z and intensity: a share of `POINTS`, or of `FEW` in a rehearsal."""
    count = round(share * (FEW if task.rehearsal else POINTS))
    values = spcli.street_scan(seed, count).values
    return values[np.linspace(0, len(values) - 1, min(count, len(values))).astype(int)]


def three_scans(task: Task) -> list[np.ndarray]:
    """Three different scans of x, y, z and intensity; real ones where they are here."""
    folder = data_folder()
    found = [] if folder is None or task.rehearsal else sorted(folder.glob("kitti_*.bin"))[:2]
    scans = [np.fromfile(path, np.float32).reshape(-1, 4) for path in found]
    return [*scans, *(street(task, seed, 1 - seed / 4) for seed in range(3))][:3]


def session(task: Task, dtype: str, name: str = "second-kitti", **options: Any) -> spcli.Session:
    """A network on the device, without its rulebooks; no other engine goes on where its frames are wrong."""
    if task.rehearsal:  # the interpreter is made faster as in the tests
        from interpreter import speed_up

        speed_up()
    return spcli.Session(network(task, name), device="cuda", dtype=dtype, rulebooks=False, **TRITON, **options)


def bits(result: spcli.RunResult) -> bytes:
    """Sites and features of the last layer."""
    return result.features.indices.tobytes() + result.features.features.tobytes()


# Races


def races(task: Task) -> None:
    """Frames of three scans in turn, as many in flight as a session takes; each must have its scan's first bits.

    Raises:
        Wrong: a frame has other bits.
    """
    count, wrong = 6 if task.rehearsal else 1000, 0
    scans = three_scans(task)
    task.say("| format | frames | differing |", "|---|--:|--:|")
    for dtype in formats(task):
        differing = flights(session(task, dtype), scans, count)
        wrong += len(differing)
        which = f" ({', '.join(map(str, differing[:9]))})" if differing else ""
        task.say(f"| {dtype} | {count:,} | {len(differing)}{which} |")
        task.conclude(f"{count:,} frames in each of the formats up to {dtype}, {wrong} differ from their scan's first")
    if wrong:
        raise Wrong(f"{wrong} frames differ from the first of their scan")


def flights(running: spcli.Session, scans: Sequence[np.ndarray], count: int) -> list[int]:
    """Which of `count` frames have other bits than the first of the same scan."""
    first: dict[int, bytes] = {}
    flying: deque[tuple[int, int]] = deque()
    differing = []

    def land() -> None:
        number, ticket = flying.popleft()
        found = bits(running.result(ticket))
        if first.setdefault(number % len(scans), found) != found:
            differing.append(number)

    with running:
        for number in range(count):
            flying.append((number, running.submit(scans[number % len(scans)])))
            if len(flying) >= running.depth:
                land()
        while flying:
            land()
    return differing


# Another assembler


def other_assembler(task: Task) -> None:
    """The same frames with kernels that another ptxas made, in a cache of their own: every layer must have equal bits.

    Raises:
        NotHere: there is no ptxas of another version.
        Wrong: bits differ, or kernels cannot be made or loaded.
    """
    path, versions = another_ptxas()
    child = [sys.executable, "-m", "benchmarks.cuda.child_day", "benchmarks.cuda.day_frames:digests", str(task.folder)]
    labels = [f"{side}-{dtype}" for dtype in formats(task) for side in ("bundled", "other")]
    own = {"TRITON_PTXAS_PATH": path, "TRITON_CACHE_DIR": str(task.folder / "kernels")}
    commands = {label: [*child, label.partition("-")[2], label] for label in labels}
    ended = together(commands, task.folder, {label: own for label in labels if label.startswith("other")})
    task.say(f"Bundled: {versions[0]}. Other: {path}, {versions[1]}.", "")
    task.say("| format | outcome |", "|---|---|")
    bad = []
    for dtype in formats(task):
        outcome = compared(task.folder, dtype, ended)
        task.say(f"| {dtype} | {outcome or 'equal bits in every layer'} |")
        bad += [f"{dtype}: {outcome}"] if outcome else []
    if bad:
        raise Wrong("; ".join(bad))
    task.conclude(f"equal bits in every layer from ptxas {versions[0]} and {versions[1]}")


def another_ptxas() -> tuple[str, tuple[str, str]]:
    """A ptxas of another version than the one Triton takes, and both versions."""
    mine = bundled_ptxas()
    for path in (str(triton_programs() / "ptxas-blackwell"), tool("ptxas")):
        theirs = ptxas_version(path) if path else None
        if path and mine and theirs and theirs != mine:
            return path, (mine, theirs)
    raise NotHere(f"no ptxas here is of another version than Triton's own, {mine}")


def compared(folder: Path, dtype: str, ended: dict[str, tuple[int, str]]) -> str:
    """What differs between both sides' digests; "" where nothing does."""
    failed = [label for label in (f"bundled-{dtype}", f"other-{dtype}") if ended[label][0]]
    if failed:
        return f"{failed[0]} ended with status {ended[failed[0]][0]}"
    one, other = (json.loads((folder / f"{side}-{dtype}.json").read_text()) for side in ("bundled", "other"))
    return ", ".join(name for name in one if one[name] != other[name])[:200]


def digests(task: Task, dtype: str, label: str) -> None:
    """Writes digests of every layer of three scans, each step by step and as a recording, into a file."""
    config = load_config(network(task, "second-kitti"))
    layers = [layer.name for layer in config.layers]
    found = {}
    with spcli.Session(config, device="cuda", dtype=dtype, rulebooks=False, layers=layers, **TRITON) as running:
        for turn in range(2):
            for number, scan in enumerate(three_scans(task)):
                for name, tensor in running.run(scan).outputs.items():
                    content = tensor.indices.tobytes() + tensor.features.tobytes()
                    found[f"scan {number}, turn {turn}, {name}"] = sha256(content).hexdigest()
    (task.folder / f"{label}.json").write_text(json.dumps(found))


# Captures


def batch(task: Task) -> None:
    """`spcli run` over scans that grow, so that frames are captured again and again while results are being written.

    Raises:
        Wrong: the command failed, nothing was captured, or a file has not the bits of its scan alone.
    """
    count = 6 if task.rehearsal else 200
    scans, out = task.folder / "scans", task.folder / "out"
    sizes = growing(task, scans, count)
    words = ["-q", "run", "--config", network(task, "second-kitti"), str(scans), "-o", str(out), "--device", "cuda"]
    words += ["--engine", "triton", "--check", "none"]
    with counted_captures() as captures:
        code = command_line([*words, "--dtype", "float16", "--write", "features,rulebooks", "--format", "ndjson"])
    written = sorted(out.glob("*.features.npz"))
    task.say(f"{count} scans of {sizes[0]:,} to {sizes[-1]:,} points: {len(captures)} captures, status {code}.")
    if code or len(written) != count or not captures:
        raise Wrong(f"status {code}, {len(written)} of {count} files written, {len(captures)} captures")
    wrong = [path.name for path in written[:: max(1, count // 20)] if not as_alone(task, scans, path)]
    if wrong:
        raise Wrong(f"other bits than the scan alone: {', '.join(wrong)}")
    task.conclude(f"{count} scans, {len(captures)} captures; the files compared have the bits of each scan alone")


def growing(task: Task, folder: Path, count: int) -> list[int]:
    """Scans of growing size in a folder, random parts of one street; gives their sizes."""
    values = street(task, share=2.0)
    order = np.random.default_rng(0).permutation(len(values))
    sizes = np.geomspace(max(20, len(values) // 200), len(values), count).astype(int).tolist()
    folder.mkdir()
    for number, size in enumerate(sizes):
        values[np.sort(order[:size])].tofile(folder / f"{number:03}.bin")
    return sizes


def command_line(words: Sequence[str]) -> int:
    """The exit code of spcli in this process."""
    from spcli.cli.main import _guarded

    return _guarded(list(words))


def as_alone(task: Task, scans: Path, written: Path) -> bool:
    """Whether a file of features has the bits that its scan gives step by step, in a session of its own."""
    with session(task, "float16", graph=False) as alone:
        result = alone.run(scans / written.name.replace(".features.npz", ".bin"))
    with np.load(written, allow_pickle=False) as file:
        stored, indices = file["features"], file["indices"]
    features = result.features.features.astype(stored.dtype)
    return stored.tobytes() == features.tobytes() and np.array_equal(indices, result.features.indices)


@contextmanager
def counted_captures() -> Iterator[list[None]]:
    """One entry for every capture made inside."""
    made: list[None] = []
    with changed_captures(lambda work: (made.append(None), work)[1]):
        yield made


@contextmanager
def changed_captures(change: Callable[[Callable[[], Any]], Callable[[], Any]]) -> Iterator[None]:
    """What is captured inside is `change` of what would be."""
    from spcli.engines.cuda.capture import Stream

    usual = Stream.capture
    Stream.capture = lambda stream, work: usual(stream, change(work))  # type: ignore[method-assign]
    try:
        yield
    finally:
        Stream.capture = usual  # type: ignore[method-assign]


def broken_capture(task: Task) -> None:
    """An illegal call inside a capture; the session must say so, and its next capture must work.

    Raises:
        Wrong: nothing happened, or later frames are not the first one's.
    """
    scan = three_scans(task)[0]
    with session(task, "float16") as running:
        first = bits(running.run(scan))
        with changed_captures(spoilt):
            # An engine may take some frames step by step before it captures one.
            error = next(filter(None, (error_of(lambda: running.run(scan)) for _ in range(20))), None)
        if error is None:
            raise Wrong("an illegal call inside a capture had no consequence")
        task.say(f"Said when a capture broke: `{error}`.", "")
        later = [bits(running.run(scan)) == first for _ in range(5)]
    fresh = bits(session(task, "float16").run(scan)) == first
    task.say(f"Afterwards: {sum(later)} of {len(later)} frames of the session and a new session's agree: {fresh}.")
    if not all(later) or not fresh:
        raise Wrong("frames after a broken capture have other bits")
    task.conclude("the next capture works, in the same session and in a new one")


def spoilt(work: Callable[[], Any]) -> Callable[[], Any]:
    """The work, and inside a capture a wait after it, which no capture allows."""
    import torch

    def inside() -> Any:
        made = work()
        if is_rehearsal():
            raise RuntimeError("broken on purpose")
        if torch.cuda.is_current_stream_capturing():
            torch.cuda.synchronize()
        return made

    return inside


def error_of(work: Callable[[], object]) -> str | None:
    """The first line of the error that `work` ends with, None where it does not."""
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    return None


# Parts of other steps


def warmed(task: Task, dtype: str) -> None:
    """What `spcli doctor --warmup` does, on one small preset, and the device's lines of `spcli doctor`."""
    from spcli.doctor import checkup
    from spcli.engines.device import choose_engine, with_dtype
    from spcli.pipeline.warmup import warm_up

    for check in checkup():
        print(f"{check.name}: {check.detail}")
    done = warm_up(with_dtype(choose_engine("cuda", print), dtype), ["quickstart"], FEW)
    print(f"{done.compiled} kernels compiled and {done.found} found")


def every_kernel(task: Task) -> None:
    """Frames step by step of two networks in every format, small enough for a checker that slows down everything."""
    box = np.random.default_rng(0).uniform(0, 1.6, (40 if task.rehearsal else 3000, 3)).astype(np.float32)
    # In a rehearsal every layer goes through the interpreter once.
    jobs = [("second-kitti", street(task, share=0.1), dtype) for dtype in formats(task)]
    jobs += [(str(EVERY_LAYER), box, dtype) for dtype in (formats(task)[-1:] if task.rehearsal else formats(task))]
    for name, scan, dtype in jobs:
        with session(task, dtype, name, graph=False) as running:
            running.run(scan)
        print(f"done: {Path(name).stem} {dtype}", flush=True)
