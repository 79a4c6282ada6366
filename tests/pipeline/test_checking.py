"""First frames compared with the CPU engine's: what is found, what is kept, and what follows where they are wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from programs import ProgramBuilder
from rehearsal import CUBE3, FIXED, cloud, small_net, tensor, with_points
from spcli.engines import load_engine
from spcli.engines.base import Frame, Want
from spcli.engines.torch.engine import TorchEngine
from spcli.errors import CheckFailed, DeviceError, EngineError, UsageError
from spcli.pipeline.checking import CheckedFrame, CheckedRunner, Task
from spcli.pipeline.comparing import relative_error, verdict_on
from spcli.pipeline.session import Session
from spcli.pipeline.verdicts import Verdict, kept, subject_of

torch.set_num_threads(1)  # beside other workers its threads would only wait for each other
BUILDER = small_net()
LAYERS = tuple(BUILDER.layers)


class Engine(TorchEngine):
    """torch on the processor, under a name that has a fallback; counts its frames and gets `wrong` ones wrong.

    Frames are counted over all runners, from 0. An engine of depth 3 replays what its runner has seen before, and takes
    larger blocks from 150 rows on.
    """

    name = "cuda"
    label = "triton"
    dtypes = TorchEngine.dtypes

    def __init__(self, wrong: Any = (), depth: int = 1, dtype: str = "float32", cut: str = "64x64x32") -> None:
        super().__init__("cpu", dtype)
        self.wrong, self.depth, self.cut = wrong, depth, cut
        self.frames: list[tuple[int, str]] = []

    def blocks(self, in_channels: int, out_channels: int, volume: int) -> str:
        return self.cut

    def identity(self) -> dict[str, str]:
        return {**super().identity(), "card": "H100"}

    def compile(self, program: Any, parameters: Any, want: Want, graph: bool = True) -> Any:
        return Runner(self, super().compile(program, parameters, want), len(want.layers), graph)


class Runner:
    """Another's frames, some of them spoilt."""

    def __init__(self, engine: Engine, runner: Any, layers: int, graph: bool) -> None:
        self.engine, self.runner, self.layers = engine, runner, layers
        self.depth = engine.depth if graph else 1
        self.seen = 0

    def submit(self, scan: Any) -> int:
        ticket: int = self.runner.submit(scan)
        return ticket

    def result(self, ticket: int) -> Frame:
        frame = self.runner.result(ticket)
        if self.engine.depth > 1:
            way = ["64", "128"][frame.sites[0] > 150]
            frame = replace(frame, way=f"replayed, {way}" if self.depth > 1 and self.seen else way)
        self.seen += 1
        self.engine.frames.append((self.layers, frame.way))
        if len(self.engine.frames) - 1 in self.engine.wrong:
            for output in frame.outputs.values():
                output.features[:] *= 1.5
        return frame


def task(layers: tuple[str, ...] = (LAYERS[-1],), rulebooks: bool = False, builder: ProgramBuilder = BUILDER) -> Task:
    return Task("small", builder.program(), builder.parameters, Want(layers, rulebooks, False))


def run(runner: CheckedRunner, seed: int = 1, sites: int = 200) -> CheckedFrame:
    return runner.result(runner.submit(tensor(seed, sites)))


def bits(frame: Frame) -> bytes:
    return b"".join(output.features.tobytes() for output in frame.outputs.values())


def by_cpu(seed: int = 1) -> Frame:
    wanted = task()
    runner = load_engine("cpu").compile(wanted.program, wanted.parameters, wanted.want)
    return runner.result(runner.submit(tensor(seed, 200)))


# What is compared, and when


def test_the_first_frame_is_compared_with_every_layer_and_given_out_with_what_was_wanted() -> None:
    engine = Engine()
    found = run(CheckedRunner(engine, task(), "first"))
    assert found.engine is engine and found.itself and found.warnings == ()
    assert found.verdict is not None and found.verdict.ok and found.verdict.layer in LAYERS
    assert 0 < found.verdict.error < found.verdict.allowed == 1e-5
    assert engine.frames == [(len(LAYERS), "")]
    assert list(found.frame.outputs) == [LAYERS[-1]] and found.frame.rulebooks == {}
    assert {counts.pairs_per_output_max for counts in found.frame.counts.values()} == {0}


def test_what_was_found_once_is_not_compared_again() -> None:
    """Neither by the same runner, nor by another, nor by one that wants other layers."""
    engine = Engine()
    first = CheckedRunner(engine, task(), "first")
    assert [run(first, seed).itself for seed in range(1, 4)] == [True, False, False]
    again = run(CheckedRunner(engine, task(LAYERS[:2], True), "first"))
    assert not again.itself and again.verdict is not None and again.verdict.ok
    assert len(engine.frames) == 4


def test_the_first_frame_of_every_way_that_an_engine_takes_is_compared() -> None:
    """The second goes as the first did, step by step, to learn how long lists are: nothing new is to be seen in it."""
    engine = Engine(depth=3)
    runner = CheckedRunner(engine, task(), "first")
    compared = [run(runner, seed, sites).itself for seed, sites in enumerate((200, 200, 200, 200, 100, 100, 200))]
    assert compared == [True, False, True, False, True, False, False]
    assert [way for _, way in engine.frames] == ["128", "128", *["replayed, 128"] * 2, *["replayed, 64"] * 2,
                                                 "replayed, 128"]  # fmt: skip
    again = CheckedRunner(engine, task(), "first")
    assert run(again, 8, 200).itself is False and run(again, 9, 200).itself is False


def test_frames_in_flight_of_an_engine_that_was_found_wrong_are_computed_anew() -> None:
    """The third frame is the first that is replayed, and wrong; the two behind it have begun by then."""
    engine = Engine(wrong={2, 3, 4}, depth=3)
    runner = CheckedRunner(engine, task(), "first")
    for seed in (1, 2):
        run(runner, seed)
    tickets = [runner.submit(tensor(seed, 200)) for seed in (3, 4, 5)]
    found = [runner.result(ticket) for ticket in tickets]
    assert [each.engine.label for each in found] == ["torch"] * 3
    assert [len(each.warnings) for each in found] == [1, 0, 0]
    for seed, each in zip((3, 4, 5), found, strict=True):
        right = by_cpu(seed).outputs[LAYERS[-1]].features
        assert relative_error(each.frame.outputs[LAYERS[-1]].features, right) < 1e-5


def test_every_frame_is_compared_where_all_are_to_be() -> None:
    engine = Engine(wrong={3}, depth=3)
    runner = CheckedRunner(engine, task(), "all")
    found = [run(runner, seed) for seed in range(1, 6)]
    assert [each.itself for each in found] == [True] * 5
    assert [each.engine.label for each in found] == ["triton"] * 3 + ["torch"] * 2
    assert bits(found[3].frame) == bits(run(CheckedRunner(load_engine("torch", None, "cpu"), task(), "none"), 4).frame)


def test_no_frame_is_compared_where_none_is_to_be_nor_any_of_the_cpu_engine() -> None:
    engine = Engine(wrong={0})
    found = run(CheckedRunner(engine, task(), "none"))
    assert (found.engine, found.verdict, found.warnings) == (engine, None, ())
    assert run(CheckedRunner(load_engine("cpu"), task(), "all")).verdict is None
    assert kept() == []


def test_a_check_of_another_name_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no check 'some'; there are first, strict, all, none"):
        Session("quickstart", check="some")


# What follows


def test_after_a_wrong_frame_the_torch_engine_goes_on_and_one_sentence_says_why() -> None:
    engine = Engine(wrong={0})
    runner = CheckedRunner(engine, task(), "first")
    found = run(runner)
    assert (found.engine.label, found.itself) == ("torch", True)
    assert relative_error(found.frame.outputs[LAYERS[-1]].features, by_cpu().outputs[LAYERS[-1]].features) < 1e-5
    (sentence,) = found.warnings
    assert sentence == (
        f"the first frame of small by the triton engine on H100 is wrong: layer {LAYERS[0]} (64x64x32) has a relative "
        "L2 error of 0.5, and 1e-05 is allowed; the torch engine goes on"
    )
    assert run(runner, 2).warnings == ()
    assert len(engine.frames) == 1


def test_a_wrong_replay_is_found_in_what_is_wanted() -> None:
    engine = Engine(wrong={2}, depth=3)
    runner = CheckedRunner(engine, task(), "first")
    found = [run(runner, seed) for seed in (1, 2, 3)]
    assert [each.engine.label for each in found] == ["triton", "triton", "torch"]
    assert found[2].warnings[0].startswith("a frame of small by the triton engine on H100 is wrong: layer ")


def test_where_torch_is_wrong_too_the_cpu_engine_goes_on_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Engine(wrong={0})
    wrong.name, wrong.label = "torch", "torch"
    runner = CheckedRunner(wrong, task(), "first")
    found = run(runner)
    assert (found.engine.label, found.verdict) == ("cpu", None)
    assert bits(found.frame) == bits(by_cpu())
    half = Engine(wrong={0}, dtype="float16")
    half.name = "torch"
    assert run(CheckedRunner(half, task(), "first")).warnings[0].endswith("; the cpu engine goes on in float32")


def test_what_was_wrong_once_is_not_tried_again() -> None:
    run(CheckedRunner(Engine(wrong={0}), task(), "first"))
    engine = Engine()
    found = run(CheckedRunner(engine, task(), "first"))
    assert found.engine.label == "torch" and engine.frames == []
    assert found.warnings[0].startswith("an earlier frame of small by the triton engine on H100 is wrong: layer ")


@pytest.mark.parametrize("earlier", [False, True])
def test_a_strict_check_ends_with_an_error_of_its_own(earlier: bool) -> None:
    if earlier:
        run(CheckedRunner(Engine(wrong={0}), task(), "first"))
    with pytest.raises(CheckFailed, match=r"is wrong: layer .*; leave out --check strict to go on") as error:
        run(CheckedRunner(Engine(wrong={0}), task(), "strict"))
    assert error.value.exit_code == 7


@pytest.mark.parametrize("only", [False, True])
def test_an_engine_that_cannot_work_leaves_it_to_another_unless_no_other_will_do(only: bool) -> None:
    class Broken(Engine):
        def compile(self, program: Any, parameters: Any, want: Want, graph: bool = True) -> Any:
            if not graph:
                raise EngineError("Triton's assembler ptxas cannot compile a kernel for this device")
            return super().compile(program, parameters, want, graph)

    runner = CheckedRunner(Broken(), task(), "first", only)
    if only:
        with pytest.raises(EngineError):
            run(runner)
        return
    found = run(runner)
    assert (found.engine.label, found.itself) == ("torch", True)
    assert found.warnings == (
        "Triton's assembler ptxas cannot compile a kernel for this device; the torch engine goes on",
    )


def test_where_memory_is_short_for_every_layer_only_what_is_wanted_is_compared() -> None:
    class Small(Engine):
        def compile(self, program: Any, parameters: Any, want: Want, graph: bool = True) -> Any:
            if len(want.layers) > 1:
                raise DeviceError("the device has not enough memory")
            return super().compile(program, parameters, want, graph)

    engine = Small()
    assert run(CheckedRunner(engine, task(), "first")).itself
    assert engine.frames == [(1, "")]


# What a scan shows


@pytest.mark.parametrize("sites", [0, 1])
def test_a_scan_that_leaves_layers_empty_shows_too_little_to_be_kept(sites: int) -> None:
    engine = Engine()
    runner = CheckedRunner(engine, task(), "first")
    assert run(runner, 1, 0).verdict is None
    assert kept() == []
    assert run(runner, 1, 200).itself


def test_what_float16_cannot_hold_is_no_fault_of_the_engine() -> None:
    scan = tensor(1, 200)
    large = replace(scan, features=scan.features * np.float32(1e5))
    runner = CheckedRunner(Engine(dtype="float16"), task(), "first")
    found = runner.result(runner.submit(large))
    assert (found.engine.label, found.verdict, found.warnings) == ("triton", None, ())
    assert run(runner).itself


@pytest.mark.parametrize(("check", "compared"), [("first", 3), ("all", 6)])
def test_scans_that_never_show_enough_are_compared_three_times(
    check: str, compared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each costs a frame of the CPU engine."""
    frames = []
    verdict = CheckedRunner._verdict
    monkeypatch.setattr(CheckedRunner, "_verdict", lambda *given: frames.append(given) or verdict(*given))
    runner = CheckedRunner(Engine(), task(), check)
    for seed in range(6):
        assert run(runner, seed, 0).verdict is None
    assert len(frames) == compared
    assert kept() == []


def test_points_may_be_compared_as_well() -> None:
    points = Task("points", with_points(BUILDER, FIXED), BUILDER.parameters, Want((LAYERS[-1],)))
    runner = CheckedRunner(Engine(), points, "first")
    assert runner.result(runner.submit(cloud(3, 400))).itself


def test_without_values_the_rulebooks_are_compared() -> None:
    only_rules = Task("small", BUILDER.program(), {}, Want(rulebooks=True, values=False))
    engine = Engine()
    found = run(CheckedRunner(engine, only_rules, "first"))
    assert found.verdict == Verdict("", "", 0.0, 1e-5) and found.itself
    assert run(CheckedRunner(engine, task(), "first")).itself, "features were not compared then"


def spoilt(change: Any) -> str:
    """What is said of a frame that was changed after it was computed."""
    right = load_engine("cpu").compile(BUILDER.program(), BUILDER.parameters, Want(LAYERS, True, True))
    frame = right.result(right.submit(tensor(1, 200)))
    again = right.result(right.submit(tensor(1, 200)))
    return verdict_on(change(frame), again, "float32", lambda layer: f"layer {layer}").wrong


def other_rule(frame: Frame) -> Frame:
    book = next(iter(frame.rulebooks.values()))
    book.in_rows[[0, 1]] = book.in_rows[[1, 0]]
    return frame


def fewer_rules(frame: Frame) -> Frame:
    key, counts = next(iter(frame.counts.items()))
    fewer = (counts.pairs_per_offset[0] - 1, *counts.pairs_per_offset[1:])
    return replace(frame, counts={**frame.counts, key: replace(counts, pairs_per_offset=fewer)})


def moved_site(frame: Frame) -> Frame:
    frame.outputs[LAYERS[0]].indices[0, 1] += 1
    return replace(frame, rulebooks={})


def one_nan(frame: Frame) -> Frame:
    frame.outputs[LAYERS[1]].features[3, 2] = np.nan
    return frame


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame, ""),
        (other_rule, "has other sites or rules"),
        (fewer_rules, " rules, and "),
        (lambda frame: replace(frame, sites=(*frame.sites[:-1], 7)), " sites, and "),
        (moved_site, f"layer {LAYERS[0]} has other sites"),
        (one_nan, f"layer {LAYERS[1]} has values that are finite on one side only"),
    ],
)
def test_everything_that_differs_is_found(change: Any, said: str) -> None:
    found = spoilt(change)
    assert said in found and bool(found) == bool(said)


@pytest.mark.parametrize(
    ("found", "right", "error"),
    [
        ([1, 2], [1, 2], 0),
        ([3, 4.5], [3, 4], 0.1),
        ([0, 0], [0, 0], 0),
        ([0, 1e-30], [0, 0], np.inf),
        ([np.nan, 2], [np.nan, 2], 0),
        ([np.nan, 2], [1, 2], np.inf),
        ([1, 2], [np.nan, 2], np.inf),
        ([np.inf, 2], [np.inf, 2], 0),
        ([-np.inf, 2], [np.inf, 2], np.inf),
        ([np.inf, 2], [1, 2], np.inf),
        ([], [], 0),
        ([[1.0]], [1.0], np.inf),
    ],
)
def test_the_relative_error(found: Any, right: Any, error: float) -> None:
    assert relative_error(np.array(found, np.float32), np.array(right, np.float32)) == pytest.approx(error)


# What is kept


def test_a_verdict_is_kept_with_what_it_is_about(own_cache: str) -> None:
    run(CheckedRunner(Engine(), task(), "first"))
    (path,) = (Path(own_cache) / "checks").iterdir()
    stored = json.loads(path.read_text())
    assert path.stem == stored["subject"].pop("digest")
    assert stored["schema"] == "spcli.check/1"
    assert {way: verdict["wrong"] for way, verdict in stored["verdicts"].items()} == {"": ""}
    versions = stored["subject"].pop("identity")
    assert versions.pop("card") == "H100" and {"torch", "spcli"} <= set(versions)
    assert stored["subject"] == {
        "network": "small", "engine": "triton", "device": "cpu", "dtype": "float32", "values": True,
    }  # fmt: skip


def test_whatever_may_change_the_bits_changes_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(engine: Any, builder: ProgramBuilder = BUILDER, parameters: Any = None) -> str:
        given = builder.parameters if parameters is None else parameters
        return subject_of("small", engine, builder.program(), given).digest

    other = Engine()
    other.identity = lambda: {"card": "A100"}  # type: ignore[method-assign]
    newer = Engine()
    newer.identity = lambda: {**Engine().identity(), "triton": "9"}  # type: ignore[method-assign]
    digests = [
        digest(Engine()),
        digest(Engine(dtype="float16")),
        digest(Engine(cut="128x64x32")),
        digest(Engine(), parameters={}),
        digest(Engine(), small_net()),
        digest(other),
        digest(newer),
        digest(load_engine("torch", None, "cpu")),
    ]
    shallow = ProgramBuilder([(11, 32, 32)], 4)
    shallow.convolve(shallow.build_map(0, CUBE3), 0, 16)
    digests.append(digest(Engine(), shallow))
    assert digests.pop(4) == digests[0], "the same program, made anew"
    assert len(set(digests)) == len(digests)
    monkeypatch.setattr("spcli.pipeline.verdicts.__version__", "9")
    assert digest(Engine()) not in digests


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": "spcli.check/0"}', b"\xff"])
def test_a_file_of_the_cache_that_is_no_verdict_is_written_anew(own_cache: str, content: bytes) -> None:
    engine = Engine()
    run(CheckedRunner(engine, task(), "first"))
    (path,) = (Path(own_cache) / "checks").iterdir()
    path.write_bytes(content)
    assert kept() == []
    assert run(CheckedRunner(engine, task(), "first")).itself
    assert len(kept()) == 1


def test_without_a_place_for_verdicts_every_process_compares(
    own_cache: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPCLI_CACHE_DIR", str(tmp_path / "file"))
    for _ in range(2):
        assert run(CheckedRunner(Engine(), task(), "first")).itself


WRITER = """
import sys
from spcli import __version__
from spcli.pipeline.verdicts import Subject, Verdict, keep, recall

subject = Subject("small", "triton", "cuda", "float32", {"spcli": __version__}, True, "digest")
for _ in range(50):
    keep(subject, "", Verdict("", "a" * (1 + 1000 * int(sys.argv[1])), 1e-7, 1e-5))
    assert recall(subject)[""].ok
"""


def test_processes_that_write_the_same_verdict_leave_a_whole_one(own_cache: str) -> None:
    """Each sees a whole one at any moment."""
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(number)]) for number in range(3)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    assert [path.name for path in (Path(own_cache) / "checks").iterdir()] == ["digest.json"]
    assert len(kept()) == 1
