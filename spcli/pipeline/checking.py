"""The first frame of a network on a device, compared with the CPU engine's before anything of it is given out.

Rulebooks must be equal, features within what the number format allows. The first frame is carried out step by step
with every layer brought back, so that a fault is found where it begins. Later ones are compared where the engine took
another way than before (`Frame.way`): the first that is played from a recording, the first with larger blocks of rows.
Where one is wrong, another engine goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from msgspec import Struct, structs

from spcli.engines import load_engine
from spcli.engines.base import Engine, Frame, LayerParameters, Points, Runner, Want
from spcli.engines.device import fallback_for
from spcli.errors import CheckFailed, DeviceError, EngineError, SpcliError
from spcli.pipeline.comparing import overflows_float16, verdict_on
from spcli.pipeline.verdicts import Subject, Verdict, Verdicts, keep, layer_blocks, recall, subject_of
from spcli.program import Program
from spcli.sparse_tensor import SparseTensor

CHECKS = ("first", "strict", "all", "none")
ENOUGH = 3  # scans that show too little, after which none is compared any more


class Task(Struct, frozen=True):
    """What is to be computed, on whatever engine.

    Attributes:
        network: the configuration's name.
        program, parameters, want, graph: as `Engine.compile` takes them.
    """

    network: str
    program: Program
    parameters: Mapping[str, LayerParameters]
    want: Want
    graph: bool = True


class CheckedFrame(Struct, frozen=True):
    """A frame that may be used.

    Attributes:
        frame: what an engine brought back.
        engine: which.
        verdict: on it, or on one before it of the same kind; None where nothing was compared.
        itself: whether it was this very frame that was compared.
        warnings: that another engine went on, and why.
    """

    frame: Frame
    engine: Engine
    verdict: Verdict | None = None
    itself: bool = False
    warnings: tuple[str, ...] = ()


class _InFlight(Struct, frozen=True):
    """A frame that has begun: its scan, and its ticket at the runner that computes it."""

    scan: Points | SparseTensor
    runner: Runner
    ticket: int


class CheckedRunner:
    """A task on an engine whose first frames are compared with the CPU engine's, and on another where they are wrong.

    Attributes:
        engine: what computes now.
    """

    def __init__(self, engine: Engine, task: Task, check: str, only: bool = False) -> None:
        """Packs parameters; `check` is one of `CHECKS`, and `only` that no other engine will do where it cannot work.

        Raises:
            CheckFailed: an earlier frame was wrong, and `check` is "strict".
        """
        self._task, self._check, self._only = task, check, only
        self._done: dict[int, CheckedFrame] = {}
        self._in_flight: dict[int, _InFlight] = {}
        self._tickets = 0
        self._reference: Runner | None = None
        self._said: list[str] = []
        self._take(engine)

    @property
    def depth(self) -> int:
        """Frames that may be in flight at once."""
        return self._runner.depth

    def submit(self, scan: Points | SparseTensor) -> int:
        """Begin one frame and return its ticket; the first of all is over when this returns.

        Raises:
            CheckFailed: it is wrong, and the check is "strict".
        """
        self._tickets += 1
        if self._subject is not None and not self._known:
            self._done[self._tickets] = self._computed(scan)
        else:
            self._in_flight[self._tickets] = _InFlight(scan, self._runner, self._runner.submit(scan))
        return self._tickets

    def result(self, ticket: int) -> CheckedFrame:
        """Wait for a frame. Each ticket is redeemed once.

        Raises:
            CheckFailed: it is wrong, and the check is "strict".
        """
        found = self._done.pop(ticket, None)
        if found is None:
            found = self._landed(self._in_flight.pop(ticket))
        said, self._said = tuple(self._said), []
        return structs.replace(found, warnings=said)

    def _take(self, engine: Engine) -> None:
        """Make the task ready on an engine, unless its frames are known to be wrong."""
        task = self._task
        self.engine = engine
        self._subject: Subject | None = None
        if engine.name != "cpu" and self._check != "none":
            self._subject = subject_of(task.network, engine, task.program, task.parameters)
        self._known: Verdicts = {} if self._subject is None or self._check == "all" else recall(self._subject)
        self._shown_nothing = 0
        wrong = next((verdict for verdict in self._known.values() if not verdict.ok), None)
        if wrong is not None:
            self._give_up("an earlier frame", wrong)
        else:
            self._runner = engine.compile(task.program, task.parameters, task.want, task.graph)

    def _landed(self, flight: _InFlight) -> CheckedFrame:
        if flight.runner is self._runner:
            return self._judged(self._runner.result(flight.ticket), flight.scan)
        with suppress(SpcliError):  # begun by an engine that was found wrong since
            flight.runner.result(flight.ticket)
        return self._computed(flight.scan)

    def _computed(self, scan: Points | SparseTensor) -> CheckedFrame:
        """One frame, from its scan to a frame that may be used."""
        try:
            if self._subject is not None and not self._known:
                return self._judged(self._whole(scan), scan)
            return self._judged(self._runner.result(self._runner.submit(scan)), scan)
        except EngineError as error:
            if self._only or self.engine.name != "cuda":
                raise
            self._go_on(str(error))
            return self._computed(scan)

    def _judged(self, frame: Frame, scan: Points | SparseTensor) -> CheckedFrame:
        """The frame, where nothing is to be compared or all is right; else that of another engine."""
        if self._subject is None or (frame.way in self._known and self._check != "all"):
            return CheckedFrame(frame, self.engine, self._worst)
        verdict = self._verdict(frame, scan)
        if verdict is None:
            self._shown_nothing += 1
            if self._shown_nothing == ENOUGH and self._check != "all":
                self._subject = None  # no scan of this kind shows more, and each costs a frame of the CPU engine's
            return CheckedFrame(self._limited(frame), self.engine)
        which = "a frame" if self._known else "the first frame"
        self._known[frame.way] = verdict
        keep(self._subject, frame.way, verdict)
        if verdict.ok:
            return CheckedFrame(self._limited(frame), self.engine, verdict, True)
        self._give_up(which, verdict)
        return self._computed(scan)

    @property
    def _worst(self) -> Verdict | None:
        """What is known of the engine's frames: the largest error."""
        return max(self._known.values(), key=lambda verdict: verdict.error or 0.0, default=None)

    def _whole(self, scan: Points | SparseTensor) -> Frame:
        """A frame step by step with every layer and all rules; where memory is short for that, with what is wanted."""
        task = self._task
        for want in (_everything(task), replace(task.want, rulebooks=True)):
            try:
                runner = self.engine.compile(task.program, task.parameters, want, False)
                return runner.result(runner.submit(scan))
            except EngineError:
                raise
            except DeviceError as error:
                reason = error
        raise reason

    def _limited(self, frame: Frame) -> Frame:
        """The frame with no more than is wanted."""
        want = self._task.want
        outputs = {name: frame.outputs[name] for name in want.layers if name in frame.outputs}
        counts = frame.counts
        if not want.counts:
            counts = {key: replace(each, pairs_per_output_max=0) for key, each in counts.items()}
        return replace(frame, outputs=outputs, counts=counts, rulebooks=frame.rulebooks if want.rulebooks else {})

    def _verdict(self, frame: Frame, scan: Points | SparseTensor) -> Verdict | None:
        """How a frame compares with the CPU engine's; None where all agrees and the scan shows too little."""
        task = self._task
        if self._reference is None:
            self._reference = load_engine("cpu").compile(task.program, task.parameters, _everything(task))
        right = self._reference.result(self._reference.submit(scan))
        if self._check != "all":
            self._reference = None  # its weights and buffers are seldom needed again
        overflows = self.engine.dtype == "float16" and overflows_float16(right)
        verdict = verdict_on(replace(frame, outputs={}) if overflows else frame, right, self.engine.dtype, self._words)
        return None if verdict.ok and (overflows or not all(right.sites)) else verdict

    def _words(self, layer: str) -> str:
        cut = layer_blocks(self.engine, self._task.parameters, layer)
        return f"layer {layer} ({cut})" if cut else f"layer {layer}"

    def _give_up(self, which: str, verdict: Verdict) -> None:
        """Go on with another engine.

        Raises:
            CheckFailed: the check is "strict".
        """
        card = self.engine.identity().get("card", "the processor")
        engine = f"the {self.engine.label} engine on {card}"
        found = f"{which} of {self._task.network} by {engine} is wrong: {verdict.wrong}"
        if self._check == "strict":
            raise CheckFailed(f"{found}; leave out --check strict to go on with another engine")
        self._go_on(found)

    def _go_on(self, reason: str) -> None:
        following = fallback_for(self.engine)
        dtype = "" if following.dtype == self.engine.dtype else f" in {following.dtype}"
        self._said.append(f"{reason}; the {following.label} engine goes on{dtype}")
        self._take(following)


def _everything(task: Task) -> Want:
    """All that can be compared."""
    return Want(tuple(task.program.layers) if task.want.values else (), True, True, task.want.values)
