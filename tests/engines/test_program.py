"""Contract of `Engine.compile` and its runner: whole programs against the oracle, and what a frame promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given

import oracle
from contract import assert_close, assert_same_rules, magnitude_through, scene, tuples
from fences import Fences
from programs import ACTIVATIONS, Evaluation, ProgramBuilder, evaluate, programs
from spcli.engines.base import Frame, Points, Want
from spcli.geometry import regular_geometry, submanifold_geometry
from spcli.grid import VoxelSpec
from spcli.program import INPUT, Activation
from spcli.sparse_tensor import SparseTensor
from strategies import examples, real_features

CUBE3 = submanifold_geometry((3, 3, 3), (1, 1, 1))
DOWN3 = regular_geometry((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1))
DOWN2 = regular_geometry((2, 2, 2), (2, 2, 2), (0, 0, 0), (1, 1, 1))


def run(engine: Any, builder: ProgramBuilder, tensor: SparseTensor, want: Want, misalign: int = 0) -> Frame:
    """One frame through a fresh runner, everything fenced."""
    fences = Fences(misalign)
    parameters = {
        name: type(p)(**{field: None if a is None else fences.around(a) for field, a in vars(p).items()})
        for name, p in builder.parameters.items()
    }
    runner = engine.compile(builder.program(), parameters, want)
    indices, features = fences.around(tensor.indices), fences.around(tensor.features)
    frame: Frame = runner.result(
        runner.submit(SparseTensor(features, indices, tensor.spatial_shape, tensor.batch_size))
    )
    fences.check()
    return frame


def everything(builder: ProgramBuilder) -> Want:
    return Want(layers=tuple(builder.layers), rulebooks=True)


def assert_frame(frame: Frame, builder: ProgramBuilder, tensor: SparseTensor) -> None:
    """Sites, shapes, rules, counts and all features of a frame are the oracle's."""
    program = builder.program()
    expected = evaluate(program, builder.parameters, tensor)
    assert frame.sites == tuple(len(sites) for sites in expected.sites)
    assert frame.shapes == tuple(expected.shapes) == tuple(builder.shapes)
    assert frame.scan is None and frame.grid is None
    assert set(frame.rulebooks) == set(frame.counts) == {key.key for key in program.keys}
    for key in program.keys:
        assert_same_rules(frame.rulebooks[key.key], expected.rules[key.map])
        assert_counts(frame, key.key, expected.rules[key.map], tensor.batch_size)
    assert list(frame.outputs) == list(program.layers)
    for name, slot in program.layers.items():
        assert_output(frame.outputs[name], program.values[slot], slot, expected, tensor.batch_size)


def assert_counts(frame: Frame, key: str, rules: oracle.Rules, batch_size: int) -> None:
    counts = frame.counts[key]
    assert (counts.in_sites, counts.out_sites) == (len(rules.in_sites), len(rules.out_sites))
    assert (counts.in_spatial_shape, counts.out_spatial_shape) == (rules.in_shape, rules.out_shape)
    assert counts.batch_size == batch_size
    assert counts.pairs_per_offset == tuple(len(tap) for tap in rules.by_tap)
    per_output = np.bincount([out for tap in rules.by_tap for _, out in tap], minlength=1)
    assert counts.pairs_per_output_max == per_output.max()
    assert counts.pairs == len([rule for tap in rules.by_tap for rule in tap])


def assert_output(output: SparseTensor, value: Any, slot: int, expected: Evaluation, batch_size: int) -> None:
    assert tuples(output.indices) == expected.sites[value.sites]
    assert output.spatial_shape == expected.shapes[value.sites]
    assert output.batch_size == batch_size
    assert output.indices.dtype == np.int32
    assert_close(output.features, expected.values[slot], magnitude_through(expected.values, slot))


@examples(150)
@given(programs())
def test_random_programs_give_the_oracles_frames(engine: Any, case: tuple[SparseTensor, ProgramBuilder]) -> None:
    tensor, builder = case
    assert_frame(run(engine, builder, tensor, everything(builder), misalign=4), builder, tensor)


@examples(60)
@given(programs())
def test_wanting_one_layer_or_all_gives_it_the_same_bits(
    engine: Any, case: tuple[SparseTensor, ProgramBuilder]
) -> None:
    """Where values live, what shares a buffer and what is written straight into a concatenation depends on what is
    wanted; the numbers do not."""
    tensor, builder = case
    every = run(engine, builder, tensor, everything(builder))
    for name in (builder.program().output, next(iter(builder.layers))):
        alone = run(engine, builder, tensor, Want(layers=(name,), counts=False))
        assert list(alone.outputs) == [name]
        assert alone.outputs[name].features.tobytes() == every.outputs[name].features.tobytes()
        assert not alone.rulebooks


def convolve_the_plane(builder: ProgramBuilder) -> None:
    flat = builder.height_compression(0)
    plane = builder.build_map(builder.values[flat].sites, submanifold_geometry((3, 3), (1, 1)))
    builder.convolve(plane, flat, 8)


# One small program for each operation, so that none depends on chance to be tested.
OPERATIONS: dict[str, Callable[[ProgramBuilder], Any]] = {
    "submanifold convolution": lambda b: b.convolve(b.build_map(0, CUBE3), 0, 16),
    "strided convolution": lambda b: b.convolve(b.build_map(0, DOWN3), 0, 16),
    "linear": lambda b: b.convolve(None, 0, 7, ACTIVATIONS[3]),
    "residual": lambda b: b.convolve(b.build_map(0, CUBE3), 0, 6, add=0),
    "linear residual": lambda b: b.convolve(None, 0, 6, ACTIVATIONS[2], add=0),
    "max pool": lambda b: b.pool(b.build_map(0, DOWN3), 0, "max"),
    "mean pool": lambda b: b.pool(b.build_map(0, DOWN2), 0, "mean"),
    "concat": lambda b: b.concat(b.convolve(None, 0, 5), 0, b.convolve(None, 0, 3)),
    "concat with itself": lambda b: b.concat(0, 0),
    "concat of a concat": lambda b: b.concat(b.concat(0, b.convolve(None, 0, 5)), 0),
    "add": lambda b: b.add(0, b.convolve(None, 0, 6), 0),
    "add without activation": lambda b: b.add(0, b.convolve(None, 0, 6), activation=Activation()),
    "layer norm": lambda b: b.layer_norm(0, ACTIVATIONS[3]),
    "layer norm residual": lambda b: b.layer_norm(b.convolve(None, 0, 6), ACTIVATIONS[2], add=0),
    "channel reduction": lambda b: b.channel_reduction(0, 2),
    "channel reduction to one": lambda b: b.channel_reduction(0, 1),
    "height compression": lambda b: b.height_compression(0),
    "convolution after height compression": convolve_the_plane,
    "to dense": lambda b: b.to_dense(b.convolve(b.build_map(0, DOWN2), 0, 5)),
    "global max pool": lambda b: b.global_pool(0, "max"),
    "global mean pool": lambda b: b.global_pool(0, "mean"),
    "linear after a global pool": lambda b: b.convolve(None, b.global_pool(0, "max"), 4),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("sites", [0, 1, 40, 700])
def test_each_operation_alone(engine: Any, name: str, sites: int) -> None:
    """Scan 1 of the batch of 3 has no site."""
    base = scene(20, sites, (6, 20, 20), batch_size=2)
    indices = base.indices * np.array([2, 1, 1, 1], np.int32)
    tensor = SparseTensor(real_features(sites, len(indices), 6), indices, base.spatial_shape, 3)
    builder = ProgramBuilder([tensor.spatial_shape], 6)
    OPERATIONS[name](builder)
    assert_frame(run(engine, builder, tensor, everything(builder)), builder, tensor)


def u_net(tensor: SparseTensor) -> ProgramBuilder:
    """Two levels down and up again, with skips, a residual block and everything that follows a backbone."""
    b = ProgramBuilder([tensor.spatial_shape], tensor.features.shape[1], seed=3)
    stem = b.convolve(b.build_map(0, CUBE3), 0, 16)
    down1 = b.build_map(0, DOWN2)
    level1 = b.convolve(b.build_map(1, CUBE3), b.convolve(down1, stem, 32), 32)
    block = b.convolve(b.build_map(1, CUBE3), b.convolve(b.build_map(1, CUBE3), level1, 32), 32, add=level1)
    down2 = b.build_map(1, DOWN3)
    level2 = b.layer_norm(b.convolve(b.build_map(2, CUBE3), b.convolve(down2, block, 64), 64), ACTIVATIONS[3])
    up1 = b.concat(b.convolve(b.invert_map(down2), level2, 32), block)
    up1 = b.convolve(b.build_map(1, CUBE3), up1, 48)
    up0 = b.concat(b.convolve(b.invert_map(down1), up1, 17), stem)
    head = b.convolve(None, b.channel_reduction(b.convolve(b.build_map(0, CUBE3), up0, 20), 10), 5, Activation())
    b.height_compression(level2)
    b.to_dense(head)
    return b


def test_a_u_net_on_three_thousand_sites(engine: Any) -> None:
    base = scene(21, 3000, (12, 60, 55), batch_size=2)
    tensor = SparseTensor(real_features(1, 3000, 4), base.indices, base.spatial_shape, 2)
    builder = u_net(tensor)
    assert_frame(run(engine, builder, tensor, everything(builder)), builder, tensor)


def some_scans() -> list[SparseTensor]:
    """Growing, shrinking, empty, then the first again; one grid, so that one program fits all."""
    scans = []
    for seed, sites in ((30, 200), (31, 700), (32, 3), (33, 0), (30, 200)):
        base = scene(seed, sites, (10, 40, 40))
        scans.append(SparseTensor(real_features(seed, len(base.indices), 4), base.indices, base.spatial_shape))
    return scans


def test_a_runner_forgets_the_frames_before(engine: Any) -> None:
    """Its buffers grow and are used again: every frame has the bits of a fresh runner's."""
    scans = some_scans()
    builder = u_net(scans[0])
    runner = engine.compile(builder.program(), builder.parameters, everything(builder))
    frames = [runner.result(runner.submit(scan)) for scan in scans]
    kept = [{name: output.features.copy() for name, output in frame.outputs.items()} for frame in frames]
    for scan, frame, copies in zip(scans, frames, kept, strict=True):
        fresh = run(engine, builder, scan, everything(builder))
        for name, output in fresh.outputs.items():
            assert frame.outputs[name].features.tobytes() == output.features.tobytes() == copies[name].tobytes()
        for key, rulebook in fresh.rulebooks.items():
            np.testing.assert_array_equal(frame.rulebooks[key].in_rows, rulebook.in_rows)


def test_frames_belong_to_the_caller(engine: Any) -> None:
    """What a caller does to a frame changes no later one, and later frames change nothing in it."""
    first, second, *_ = some_scans()
    builder = u_net(first)
    runner = engine.compile(builder.program(), builder.parameters, everything(builder))
    expected = runner.result(runner.submit(first)).outputs
    kept = {name: (output.features.copy(), output.indices.copy()) for name, output in expected.items()}
    runner.result(runner.submit(second))
    for name, (features, indices) in kept.items():
        assert expected[name].features.tobytes() == features.tobytes()
        assert expected[name].indices.tobytes() == indices.tobytes()
        expected[name].features[:] = np.nan
        expected[name].indices[:] = -1
    again = runner.result(runner.submit(first)).outputs
    assert all(again[name].features.tobytes() == kept[name][0].tobytes() for name in kept)
    assert all(again[name].indices.tobytes() == kept[name][1].tobytes() for name in kept)


def test_as_many_frames_as_promised_may_be_in_flight(engine: Any) -> None:
    scans = some_scans()
    builder = u_net(scans[0])
    runner = engine.compile(builder.program(), builder.parameters, Want(layers=(builder.program().output,)))
    assert runner.depth >= 1
    flying = scans[: runner.depth]
    tickets = [runner.submit(scan) for scan in flying]
    assert len(set(tickets)) == len(tickets)
    for scan, ticket in reversed(list(zip(flying, tickets, strict=True))):
        frame = runner.result(ticket)
        alone = run(engine, builder, scan, Want(layers=(builder.program().output,)))
        for name in alone.outputs:
            assert frame.outputs[name].features.tobytes() == alone.outputs[name].features.tobytes()


def test_two_runners_do_not_share_anything_that_changes(engine: Any) -> None:
    first, second, *_ = some_scans()
    builder = u_net(first)
    one, other = (engine.compile(builder.program(), builder.parameters, everything(builder)) for _ in range(2))
    ticket = one.submit(first)
    other.result(other.submit(second))
    frame = one.result(ticket)
    alone = run(engine, builder, first, everything(builder))
    assert all(frame.outputs[n].features.tobytes() == alone.outputs[n].features.tobytes() for n in alone.outputs)


def test_without_values_only_the_index_phase_runs(engine: Any) -> None:
    tensor = some_scans()[0]
    builder = u_net(tensor)
    frame = run(engine, builder, tensor, Want(rulebooks=True, values=False))
    full = run(engine, builder, tensor, everything(builder))
    assert frame.outputs == {}
    assert frame.counts == full.counts and frame.sites == full.sites and frame.shapes == full.shapes
    for key, rulebook in full.rulebooks.items():
        np.testing.assert_array_equal(frame.rulebooks[key].out_rows, rulebook.out_rows)


def test_a_program_may_begin_with_points(engine: Any) -> None:
    rng = np.random.default_rng(3)
    values = rng.uniform((-2, -2, -1, 0), (8, 8, 3, 1), (4000, 4)).astype(np.float32)
    values[7, 3] = np.nan
    spec = VoxelSpec((0.2, 0.2, 0.2), (0, 0, 0, 6.4, 6.4, 2.0), max_points=2, spatial_shape_extra=(1, 0, 0))
    points = Points(values, (0, 1, 2), (0, 1, 2, 3))
    voxels = oracle.voxelize(values, points.xyz, points.features, spec)
    tensor = SparseTensor(voxels.features, np.array(voxels.sites, np.int32), voxels.spatial_shape)
    builder = u_net(tensor)
    program = builder.program()
    with_points = msgspec.structs.replace(program, voxelize=spec)
    runner = engine.compile(with_points, builder.parameters, everything(builder))
    frame = runner.result(runner.submit(points))
    same = runner.result(runner.submit(tensor))
    assert frame.scan is not None and frame.grid is not None and same.scan is None
    assert frame.scan.points.read == 4000 and frame.scan.points.nonfinite == 1
    assert frame.scan.voxels.active == len(voxels.sites) == frame.sites[0]
    assert frame.grid.spatial_shape == tensor.spatial_shape == (11, 32, 32)
    assert {"voxelize", "index", "value", "download"} <= set(frame.time_s)
    assert all(seconds >= 0 for seconds in frame.time_s.values())
    for name in builder.layers:
        np.testing.assert_allclose(frame.outputs[name].features, same.outputs[name].features, atol=1e-5)


def test_the_input_may_be_wanted_like_a_layer(engine: Any) -> None:
    """Frame after frame, also where a recording is replayed."""
    builder = ProgramBuilder([(6, 6, 6)], 1)
    builder.convolve(builder.build_map(0, CUBE3), 0, 3)
    program = builder.program()
    runner = engine.compile(program, builder.parameters, Want(layers=(INPUT, program.output)))
    for seed, count in ((1, 40), (2, 30), (3, 45)):
        tensor = scene(seed, count, (6, 6, 6))
        frame = runner.result(runner.submit(tensor))
        np.testing.assert_array_equal(frame.outputs[INPUT].features, tensor.features)
        np.testing.assert_array_equal(frame.outputs[INPUT].indices, tensor.indices)


@pytest.mark.parametrize("behind", ["nothing", "a pool", "a concatenation", "a sum"])
def test_channels_may_be_left_to_the_height_of_the_scan(engine: Any, behind: str) -> None:
    """Where the data decide the range, so does the number of channels after a height compression, and behind it."""
    values = np.random.default_rng(4).uniform(0, 3, (500, 4)).astype(np.float32)
    spec = VoxelSpec((0.5, 0.5, 0.5))
    builder = ProgramBuilder([(6, 6, 6)], 4)
    flat = builder.height_compression(builder.convolve(builder.build_map(0, CUBE3), 0, 3))
    if behind == "a pool":
        builder.pool(builder.build_map(1, regular_geometry((2, 2), (2, 2), (0, 0), (1, 1))), flat, "max")
    elif behind == "a concatenation":
        builder.concat(flat, builder.add(flat, flat))
    elif behind == "a sum":
        builder.add(flat, flat)
    program = builder.program()
    unknown = tuple(value if slot < flat else type(value)(value.sites, 0) for slot, value in enumerate(program.values))
    program = msgspec.structs.replace(program, voxelize=spec, values=unknown)
    runner = engine.compile(program, builder.parameters, Want(layers=(program.output,)))
    for scale in (1.0, 0.5, 1.0):
        points = Points(values * np.array([1, 1, scale, 1], np.float32), (0, 1, 2), (0, 1, 2, 3))
        frame = runner.result(runner.submit(points))
        voxels = oracle.voxelize(points.values, points.xyz, points.features, spec)
        tensor = SparseTensor(voxels.features, np.array(voxels.sites, np.int32), voxels.spatial_shape)
        expected = evaluate(builder.program(), builder.parameters, tensor)
        assert frame.shapes[0] == voxels.spatial_shape
        output = frame.outputs[program.output]
        assert output.features.shape[1] == 3 * voxels.spatial_shape[0] * (2 if behind == "a concatenation" else 1)
        assert_close(output.features, expected.values[-1], magnitude_through(expected.values, len(expected.values)))
