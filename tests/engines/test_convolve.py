"""Contract of `Engine.pack` and `convolve`: exact on whole numbers, within float32 rounding on real ones."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
from contract import assert_close, lend, lend_room, oracle_rules, scene, scene_rules, sites_of
from fences import Fences
from spcli.engines.base import Epilogue, LayerParameters
from spcli.geometry import ConvGeometry, regular_geometry, submanifold_geometry
from spcli.program import Activation
from spcli.sparse_tensor import SparseTensor
from strategies import CHANNELS, convolutions, examples, integer_features, real_features

CUBE3 = submanifold_geometry((3, 3, 3), (1, 1, 1))
DOWN2 = regular_geometry((2, 2, 2), (2, 2, 2), (0, 0, 0), (1, 1, 1))
SMALL, MIDDLE, LARGE = (1, 330, (8, 24, 24)), (7, 700, (8, 30, 30)), (2, 3000, (12, 60, 55), 2)
# A slope of one half keeps whole numbers exact.
EXACT_ACTIVATIONS = (Activation(), Activation("relu"), Activation("leaky_relu", 0.5))
ACTIVATIONS = (Activation(), Activation("relu"), Activation("leaky_relu", 0.01), Activation("gelu"))


class Convolution:
    """One convolution, by the engine (everything it sees fenced) and by the oracle."""

    def __init__(self, features: np.ndarray, rules: oracle.Rules | None, parameters: LayerParameters) -> None:
        self.features, self.rules, self.parameters = features, rules, parameters
        self.add: np.ndarray | None = None
        self.activation = Activation()

    def by_engine(self, engine: Any, source: Any, misalign: int = 0, with_out: bool = True) -> np.ndarray:
        fences, p = Fences(misalign), self.parameters
        fenced = {name: None if value is None else fences.around(value) for name, value in vars(p).items()}
        packed = engine.pack(LayerParameters(**fenced))
        inputs = lend(engine, fences, self.features)
        epilogue = Epilogue(None if self.add is None else lend(engine, fences, self.add), self.activation)
        rows = len(self.features) if self.rules is None else len(self.rules.out_sites)
        out = lend_room(engine, fences, (rows, len(p.weight))) if with_out else None
        result = engine.convolve(inputs, source, packed, epilogue, out)
        fences.check()
        if out is not None:
            assert engine.download(out).tobytes() == engine.download(result).tobytes()
        return engine.download(result)

    def by_oracle(self) -> np.ndarray:
        return oracle.activate(self._sum(np.asarray), self.activation.kind, self.activation.slope)

    def magnitude(self) -> np.ndarray:
        """The sum of absolute terms, to which rounding errors are relative."""
        return self._sum(np.abs)

    def _sum(self, of: Any) -> np.ndarray:
        p = self.parameters
        features, weight = of(self.features).astype(np.float64), of(p.weight).astype(np.float64)
        if self.rules is None:
            rows = features @ weight.reshape(len(weight), -1).T
        else:
            rows = oracle.convolve(features, self.rules, weight)
        rows = rows * (1.0 if p.scale is None else of(p.scale)) + (0.0 if p.shift is None else of(p.shift))
        return rows if self.add is None else rows + of(self.add).astype(np.float64)


def exact_parameters(seed: int, out_channels: int, kernel: tuple[int, ...], in_channels: int) -> LayerParameters:
    """Whole-number weights and shifts, scales that are powers of two (either sign)."""
    rng = np.random.default_rng(seed)
    volume = int(np.prod(kernel))
    return LayerParameters(
        weight=integer_features(seed, out_channels, volume * in_channels).reshape(out_channels, *kernel, in_channels),
        scale=rng.choice([-2.0, 0.5, 1.0, 2.0], out_channels) if seed % 3 else None,
        shift=rng.integers(-9, 10, out_channels).astype(np.float64) if seed % 5 else None,
    )


def real_parameters(seed: int, out_channels: int, kernel: tuple[int, ...], in_channels: int) -> LayerParameters:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((out_channels, *kernel, in_channels))
    scale, shift = rng.uniform(-2, 2, out_channels), rng.normal(0, 0.5, out_channels)
    return LayerParameters(weight.astype(np.float32), scale, shift)


@examples(150)
@given(
    convolutions(),
    st.tuples(*[st.sampled_from(CHANNELS[:7])] * 2),
    st.integers(0, 2**16),
    st.sampled_from(EXACT_ACTIVATIONS),
    st.booleans(),
    st.sampled_from((0, 4, 36)),
)
def test_whole_numbers_are_convolved_exactly(
    engine: Any,
    case: tuple[SparseTensor, ConvGeometry],
    widths: tuple[int, int],
    seed: int,
    activation: Activation,
    residual: bool,
    misalign: int,
) -> None:
    tensor, geometry = case
    rules = oracle_rules(tensor, geometry)
    features = integer_features(seed, len(tensor.indices), widths[0])
    parameters = exact_parameters(seed, widths[1], geometry.kernel_size, widths[0])
    convolution = Convolution(features, rules, parameters)
    convolution.activation = activation
    convolution.add = integer_features(seed + 1, len(rules.out_sites), widths[1]) if residual else None
    source = engine.build(sites_of(engine, Fences(), tensor), geometry)
    result = convolution.by_engine(engine, source, misalign)
    np.testing.assert_array_equal(result, convolution.by_oracle())


@examples(50)
@given(convolutions(), st.sampled_from((1, 5, 16)), st.sampled_from((3, 17, 32)), st.integers(0, 2**16))
def test_the_inverse_convolution_is_exact_and_ends_at_the_forward_inputs(
    engine: Any, case: tuple[SparseTensor, ConvGeometry], in_channels: int, out_channels: int, seed: int
) -> None:
    tensor, geometry = case
    rules = oracle.inverse_of(oracle_rules(tensor, geometry))
    features = integer_features(seed, len(rules.in_sites), in_channels)
    parameters = exact_parameters(seed, out_channels, geometry.kernel_size, in_channels)
    convolution = Convolution(features, rules, parameters)
    source = engine.invert(engine.build(sites_of(engine, Fences(), tensor), geometry))
    np.testing.assert_array_equal(convolution.by_engine(engine, source), convolution.by_oracle())


@pytest.mark.parametrize("in_channels", CHANNELS)
# Only host arrays can be misaligned: on another engine the second turn is the first again.
@pytest.mark.parametrize("misalign", [0, pytest.param(4, marks=pytest.mark.soak)])
def test_every_pair_of_channel_counts(engine: Any, in_channels: int, misalign: int) -> None:
    """More output rows than one block of any engine has, so that a block's last rows are not the array's."""
    tensor, rules = scene(*SMALL), scene_rules(CUBE3, *SMALL)
    source = engine.build(sites_of(engine, Fences(), tensor), CUBE3)
    features = integer_features(in_channels, len(tensor.indices), in_channels)
    for out_channels in CHANNELS:
        parameters = exact_parameters(out_channels, out_channels, (3, 3, 3), in_channels)
        convolution = Convolution(features, rules, parameters)
        result = convolution.by_engine(engine, source, misalign)
        np.testing.assert_array_equal(result, convolution.by_oracle(), f"{in_channels} to {out_channels}")


@pytest.mark.parametrize("in_channels", CHANNELS)
def test_a_linear_layer_needs_no_map(engine: Any, in_channels: int) -> None:
    for out_channels in CHANNELS:
        for rows in (0, 1, 300):
            features = integer_features(rows, rows, in_channels)
            convolution = Convolution(features, None, exact_parameters(out_channels, out_channels, (), in_channels))
            convolution.activation, convolution.add = Activation("relu"), integer_features(9, rows, out_channels)
            np.testing.assert_array_equal(convolution.by_engine(engine, None), convolution.by_oracle())


WIDTHS = ((4, 16), (16, 32), (64, 64), (131, 17), (3, 5))


def layers() -> list[Any]:
    """Every width with every activation, plain and residual. What is left unmarked has each of these once or more."""
    found = []
    for (i, widths), (j, activation), residual in product(enumerate(WIDTHS), enumerate(ACTIVATIONS), (False, True)):
        quick = i % len(ACTIVATIONS) == j and residual == (i % 2 == 1)
        name = f"{'residual' if residual else 'plain'}-{activation.kind}-{widths[0]}-{widths[1]}"
        found.append(pytest.param(*widths, activation, residual, id=name, marks=() if quick else pytest.mark.soak))
    return found


@pytest.mark.parametrize(("in_channels", "out_channels", "activation", "residual"), layers())
def test_real_numbers_on_three_thousand_sites(
    engine: Any, in_channels: int, out_channels: int, activation: Activation, residual: bool
) -> None:
    tensor, rules = scene(*LARGE), scene_rules(CUBE3, *LARGE)
    source = engine.build(sites_of(engine, Fences(), tensor), CUBE3)
    features = real_features(3, 3000, in_channels)
    convolution = Convolution(features, rules, real_parameters(4, out_channels, (3, 3, 3), in_channels))
    convolution.activation = activation
    convolution.add = real_features(5, 3000, out_channels) if residual else None
    result = convolution.by_engine(engine, source, with_out=residual)
    assert_close(result, convolution.by_oracle(), convolution.magnitude())


@pytest.mark.parametrize(("in_channels", "out_channels"), [(384, 256), (256, 384), (192, 96), (128, 257)])
def test_wide_layers(engine: Any, in_channels: int, out_channels: int) -> None:
    """Channel-heavy layers may use larger row blocks."""
    tensor = scene(*MIDDLE)
    for geometry in (CUBE3, DOWN2):
        rules, source = scene_rules(geometry, *MIDDLE), engine.build(sites_of(engine, Fences(), tensor), geometry)
        features = real_features(8, len(tensor.indices), in_channels)
        parameters = real_parameters(9, out_channels, geometry.kernel_size, in_channels)
        convolution = Convolution(features, rules, parameters)
        convolution.activation = Activation("relu")
        assert_close(convolution.by_engine(engine, source), convolution.by_oracle(), convolution.magnitude())


def test_the_oracles_dense_convolution_is_a_second_opinion(engine: Any) -> None:
    tensor = scene(10, 400, (10, 14, 12), batch_size=2)
    features = integer_features(1, len(tensor.indices), 4)
    sites = [tuple(site) for site in tensor.indices.tolist()]
    dense = oracle.dense_of(sites, features, tensor.spatial_shape, 2)
    for geometry in (CUBE3, DOWN2, regular_geometry((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1))):
        parameters = LayerParameters(exact_parameters(3, 8, geometry.kernel_size, 4).weight)
        source = engine.build(sites_of(engine, Fences(), tensor), geometry)
        result = engine.convolve(engine.upload(features), source, engine.pack(parameters), Epilogue())
        full = oracle.dense_convolve(dense, geometry, parameters.weight)
        at = engine.indices(source.outputs).T
        np.testing.assert_array_equal(engine.download(result), full[tuple(at)])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_reaches_only_the_windows_that_see_it(engine: Any, bad: float) -> None:
    tensor, rules = scene(*MIDDLE), scene_rules(CUBE3, *MIDDLE)
    source = engine.build(sites_of(engine, Fences(), tensor), CUBE3)
    for channels in (1, 5, 16, 64):
        features = real_features(1, len(tensor.indices), channels)
        features[300] = bad
        packed = engine.pack(real_parameters(2, 16, (3, 3, 3), channels))
        result = engine.download(engine.convolve(engine.upload(features), source, packed, Epilogue()))
        reached = {out for tap in rules.by_tap for row, out in tap if row == 300}
        assert set(np.flatnonzero(~np.isfinite(result).all(axis=1)).tolist()) == reached


@pytest.mark.parametrize("kind", ["relu", "leaky_relu", "gelu"])
def test_activations_do_not_hide_nan(engine: Any, kind: Any) -> None:
    packed = engine.pack(LayerParameters(np.eye(3, dtype=np.float32)))
    features = np.array([[np.nan, -2.0, 3.0]], np.float32)
    result = engine.download(engine.convolve(engine.upload(features), None, packed, Epilogue(None, Activation(kind))))
    assert np.isnan(result).all()  # NaN times 0 is NaN in every column


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda activation: activation.kind)
def test_activations_over_their_whole_range(engine: Any, activation: Activation) -> None:
    """GELU's erf near 0, in its tails and far beyond them; denormals; the largest floats."""
    values = np.concatenate([np.linspace(-12, 12, 4801), [1e-40, -1e-40, 1e-3, -1e-3, 80, -80, 3e38, -3e38]])
    values = values.astype(np.float32)[:, None]
    packed = engine.pack(LayerParameters(np.ones((1, 1), np.float32)))
    result = engine.download(engine.convolve(engine.upload(values), None, packed, Epilogue(None, activation)))
    expected = oracle.activate(values.astype(np.float64), activation.kind, activation.slope)
    np.testing.assert_allclose(result, expected, rtol=2e-6, atol=3e-7)


def test_the_scale_is_folded_in_float64(engine: Any) -> None:
    """Weight times scale is rounded once; rounding the scale first would give 3.3000002 here."""
    packed = engine.pack(LayerParameters(np.full((1, 1), 11.0, np.float32), np.array([0.3]), None))
    result = engine.download(engine.convolve(engine.upload(np.ones((1, 1), np.float32)), None, packed, Epilogue()))
    assert result[0, 0] == np.float32(11 * 0.3) != np.float32(np.float32(11) * np.float32(0.3))


def test_no_rows_give_no_rows(engine: Any) -> None:
    empty = SparseTensor(np.zeros((0, 1), np.float32), np.zeros((0, 4), np.int32), (4, 4, 4))
    for geometry in (CUBE3, DOWN2):
        source = engine.build(sites_of(engine, Fences(), empty), geometry)
        packed = engine.pack(real_parameters(1, 7, geometry.kernel_size, 5))
        for each in (source, engine.invert(source)):
            result = engine.convolve(engine.upload(np.zeros((0, 5), np.float32)), each, packed, Epilogue())
            assert engine.download(result).shape == (0, 7)


def test_download_gives_the_first_rows_and_a_copy(engine: Any) -> None:
    values = real_features(0, 10, 3)
    array = engine.upload(values)
    part = engine.download(array, 4)
    np.testing.assert_array_equal(part, values[:4])
    part[:] = 0
    values[:] = 1
    assert not (engine.download(array) == values).any()
    assert engine.download(array)[0, 0] != 0
