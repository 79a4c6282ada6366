"""What tests of the CUDA runner share: small networks, scans for them, and frames compared with fresh runners' ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from contract import scene
from programs import ProgramBuilder
from spcli.engines.base import Frame, Points, Want
from spcli.geometry import regular_geometry, submanifold_geometry
from spcli.grid import VoxelSpec
from spcli.program import Program
from spcli.sparse_tensor import SparseTensor
from strategies import real_features

CUBE3 = submanifold_geometry((3, 3, 3), (1, 1, 1))
DOWN3 = regular_geometry((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1))
DOWN2 = regular_geometry((2, 2, 2), (2, 2, 2), (0, 0, 0), (1, 1, 1))
TALL = regular_geometry((3, 1, 1), (2, 1, 1), (0, 0, 0), (1, 1, 1))
FIXED = VoxelSpec((0.2, 0.2, 0.2), (0, 0, 0, 6.4, 6.4, 2.0), max_points=3, spatial_shape_extra=(1, 0, 0))
FREE = VoxelSpec((0.2, 0.2, 0.2))


def small_net(shape: tuple[int, ...] = (11, 32, 32), strided: Any = DOWN3) -> ProgramBuilder:
    """Down, up again beside a skip, and down in z: every kind of map, a concatenation and a residual."""
    builder = ProgramBuilder([shape], 4)
    same = builder.build_map(0, CUBE3)
    stem = builder.convolve(same, 0, 16)
    down = builder.build_map(0, strided)
    deep = builder.convolve(down, stem, 16)
    up = builder.convolve(builder.invert_map(down), deep, 16)
    joined = builder.concat(up, stem)
    last = builder.convolve(same, joined, 16, add=stem)
    builder.convolve(builder.build_map(0, TALL), last, 8)
    return builder


def everything(builder: ProgramBuilder) -> Want:
    return Want(layers=tuple(builder.layers), rulebooks=True)


def tensor(seed: int, sites: int, shape: tuple[int, ...] = (11, 32, 32)) -> SparseTensor:
    base = scene(seed, sites, shape)
    return SparseTensor(real_features(seed, len(base.indices), 4), base.indices, base.spatial_shape)


def cloud(seed: int, count: int, reach: float = 6.0) -> Points:
    values = np.random.default_rng(seed).uniform(0, 1, (count, 4)) * np.array([reach, reach, 1.8, 1.0])
    return Points(values.astype(np.float32), (0, 1, 2), (0, 1, 2, 3))


def with_points(builder: ProgramBuilder, spec: VoxelSpec) -> Program:
    import msgspec

    program: Program = msgspec.structs.replace(builder.program(), voxelize=spec)
    return program


def assert_same_frame(frame: Frame, expected: Frame) -> None:
    assert frame.sites == expected.sites and frame.shapes == expected.shapes
    assert frame.counts == expected.counts and frame.scan == expected.scan
    assert list(frame.outputs) == list(expected.outputs)
    for name, output in expected.outputs.items():
        np.testing.assert_array_equal(frame.outputs[name].indices, output.indices)
        assert frame.outputs[name].features.tobytes() == output.features.tobytes(), name
        assert frame.outputs[name].features.shape == output.features.shape
        assert frame.outputs[name].spatial_shape == output.spatial_shape
    for key, rulebook in expected.rulebooks.items():
        for field, value in vars(rulebook).items():
            np.testing.assert_array_equal(getattr(frame.rulebooks[key], field), value, f"{key}: {field}")


class Passes:
    """Counts what runners do from now on.

    Attributes:
        captures: of frames.
        passes: how often the work of a frame was carried out, replayed or step by step.
    """

    def __init__(self, monkeypatch: Any) -> None:
        from spcli.engines.cuda import runner as runners

        self.captures = self.passes = 0
        make, start, learn = runners.CapturedFrame, runners.CapturedFrame.start, runners.LearningRunner.learn

        def captured(*arguments: Any) -> Any:
            self.captures += 1
            return make(*arguments)

        def counted(work: Any) -> Any:
            def counting(*arguments: Any) -> Any:
                self.passes += 1
                return work(*arguments)

            return counting

        monkeypatch.setattr(make, "start", counted(start))
        monkeypatch.setattr(runners.LearningRunner, "learn", counted(learn))
        monkeypatch.setattr(runners, "CapturedFrame", captured)


class Rehearsal:
    """Frames through one runner, each compared with a fresh one that goes step by step; captures are counted."""

    def __init__(self, engine: Any, program: Program, builder: ProgramBuilder, monkeypatch: Any) -> None:
        self._count = Passes(monkeypatch)
        self._engine, self._program, self._builder = engine, program, builder
        self._expected: dict[bytes, Frame] = {}
        self.runner = engine.compile(program, builder.parameters, everything(builder))

    @property
    def captures(self) -> int:
        """Frames that were captured."""
        return self._count.captures

    def step_by_step(self, scan: Any) -> Frame:
        runner = self._engine.compile(self._program, self._builder.parameters, everything(self._builder), graph=False)
        frame: Frame = runner.result(runner.submit(scan))
        return frame

    def __call__(self, scan: Any) -> None:
        rows = scan.features if isinstance(scan, SparseTensor) else scan.values
        if rows.tobytes() not in self._expected:
            self._expected[rows.tobytes()] = self.step_by_step(scan)
        assert_same_frame(self.runner.result(self.runner.submit(scan)), self._expected[rows.tobytes()])
