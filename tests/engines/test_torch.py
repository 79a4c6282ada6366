"""What is the torch engine's own: number formats, the same bits in every run, and what torch cannot do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from contract import oracle_rules, scene
from programs import ProgramBuilder, evaluate
from rehearsal import CUBE3, DOWN3, everything, small_net, tensor
from spcli.engines import load_engine
from spcli.engines.base import ALLOWED_ERROR, Epilogue, LayerParameters
from spcli.engines.tensors import memory_sentence, rounded_to_tf32, rounded_weights
from spcli.engines.torch.convolve import tensor_cores
from spcli.errors import DeviceError
from spcli.pipeline.comparing import relative_error
from spcli.program import Activation
from spcli.sparse_tensor import SparseTensor


@pytest.fixture(scope="module")
def host() -> Any:
    """The engine on the processor, whatever there is besides."""
    torch.set_num_threads(1)
    return load_engine("torch", device="cpu")


def every_operation() -> ProgramBuilder:
    """A network with each operation once at least."""
    b = ProgramBuilder([(6, 20, 20)], 6)
    stem = b.convolve(b.build_map(0, CUBE3), 0, 16, Activation("gelu"))
    down = b.build_map(0, DOWN3)
    deep = b.layer_norm(b.convolve(down, stem, 24), Activation("leaky_relu"))
    up = b.convolve(b.invert_map(down), deep, 16)
    joined = b.concat(b.add(up, stem), stem)
    narrow = b.channel_reduction(b.convolve(b.build_map(0, CUBE3), joined, 32, add=joined), 4)
    b.pool(b.build_map(0, DOWN3), narrow, "max")
    b.pool(b.build_map(0, DOWN3), narrow, "mean")
    b.global_pool(narrow, "mean")
    b.height_compression(narrow)
    b.to_dense(deep)
    return b


def the_scan() -> SparseTensor:
    base = scene(20, 700, (6, 20, 20), 2)
    features = np.random.default_rng(1).standard_normal((len(base.indices), 6)).astype(np.float32)
    return SparseTensor(features, base.indices, base.spatial_shape, 2)


def frame_of(engine: Any, builder: ProgramBuilder, scan: SparseTensor) -> Any:
    runner = engine.compile(builder.program(), builder.parameters, everything(builder))
    return runner.result(runner.submit(scan))


@pytest.mark.parametrize("dtype", ALLOWED_ERROR)
def test_every_layer_is_within_the_bound_of_its_number_format(host: Any, dtype: str) -> None:
    builder, scan = every_operation(), the_scan()
    frame = frame_of(host.with_dtype(dtype), builder, scan)
    expected = evaluate(builder.program(), builder.parameters, scan)
    for name, slot in builder.layers.items():
        features = frame.outputs[name].features
        right = expected.values[slot].reshape(features.shape)
        assert features.dtype == np.float32
        assert relative_error(features, right) <= ALLOWED_ERROR[dtype], name


@pytest.mark.parametrize("dtype", ALLOWED_ERROR)
def test_a_frame_has_the_same_bits_in_every_run(host: Any, dtype: str) -> None:
    builder, scan = every_operation(), the_scan()
    first, *others = [frame_of(host.with_dtype(dtype), builder, scan) for _ in range(4)]
    for frame in others:
        for name, output in first.outputs.items():
            assert frame.outputs[name].features.tobytes() == output.features.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_formats_are_summed_in_float32(host: Any, dtype: str) -> None:
    """27 products that all round away one after another: their sum is kept, rounded once."""
    engine = host.with_dtype(dtype)
    site = np.argwhere(np.ones((3, 3, 3), bool)).astype(np.int32)
    indices = np.column_stack([np.zeros(27, np.int32), site])
    weight = np.full((1, 3, 3, 3, 1), 2.0**-12, np.float32)
    weight[0, 0, 0, 0, 0] = 1
    rows = engine.upload(np.ones((27, 1), np.float32))
    built = engine.build(engine.sites(indices, (3, 3, 3), 1), CUBE3)
    found = engine.download(engine.convolve(rows, built, engine.pack(LayerParameters(weight)), Epilogue()))
    step = 2.0**-10 if dtype == "float16" else 2.0**-7
    assert found[13, 0] == 1 + round(26 * 2.0**-12 / step) * step


def test_tf32_features_have_ten_bits_of_fraction(host: Any) -> None:
    frame = frame_of(host.with_dtype("tf32"), builder := small_net(), tensor(3, 200))
    for name in builder.layers:
        bits = frame.outputs[name].features.view(np.uint32)
        assert not (bits & 0x1FFF).any() and bits.any()


@pytest.mark.parametrize("value", [1.0, 1 + 2.0**-11, -3.3, 1e-40, np.inf, -np.inf, np.nan, 3.4e38])
def test_tf32_is_rounded_to_the_nearest(value: float) -> None:
    found = float(rounded_to_tf32(torch.tensor([value], dtype=torch.float32)))
    weights = float(rounded_weights(np.array([np.float32(value)], np.float64), "tf32")[0])
    if not np.isfinite(value):
        assert found == value or (np.isnan(found) and np.isnan(value))
    elif abs(value) < 3e38:
        assert abs(found - np.float32(value)) <= abs(value) * 2.0**-11 + 2.0**-137
        assert weights == found or abs(value) < 1e-37


@pytest.mark.parametrize(("dtype", "allowed"), [("float32", False), ("tf32", True), ("float16", True)])
def test_tensor_cores_multiply_all_but_float32(dtype: str, allowed: bool) -> None:
    def setting() -> Any:
        """Under its name since torch 2.9, and the one before."""
        matmul = torch.backends.cuda.matmul
        return matmul.fp32_precision if hasattr(matmul, "fp32_precision") else matmul.allow_tf32

    before = setting()
    with tensor_cores(dtype):
        assert setting() in ((True, "tf32") if allowed else (False, "ieee"))
    assert setting() == before


def test_weights_are_rounded_once_from_float64() -> None:
    """By way of float32 the first would fall on the tie and from there to the even neighbour below."""
    value = 1 + 2.0**-11 + 2.0**-40
    assert rounded_weights(np.array([value]), "float16")[0] == 1 + 2.0**-10
    assert rounded_weights(np.array([1 + 2.0**-8 + 2.0**-40]), "bfloat16")[0] == 1 + 2.0**-7


def test_rows_of_a_map_are_copied_to_the_device_once(host: Any) -> None:
    scan = scene(5, 200, (8, 8, 8))
    built = host.build(host.sites(scan.indices, scan.spatial_shape, 1), CUBE3)
    assert built.rules is built.rules
    rules = oracle_rules(scan, CUBE3)
    assert [list(zip(*(rows.tolist() for rows in tap), strict=True)) for tap in built.rules] == rules.by_tap


def test_too_little_memory_is_one_sentence(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    message = (
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 5.22 GiB "
        "is free."
    )

    def full(*arguments: Any, **options: Any) -> Any:
        raise torch.cuda.OutOfMemoryError(message)

    builder = small_net()
    runner = host.compile(builder.program(), builder.parameters, everything(builder))
    monkeypatch.setattr(type(host), "build", full)
    with pytest.raises(DeviceError) as error:
        runner.submit(tensor(1, 50))
    assert str(error.value) == memory_sentence(message)
    assert "20.00 GiB asked for, 5.22 GiB of 79.11 GiB free" in str(error.value)


def test_threads_are_torchs_too() -> None:
    try:
        load_engine("torch", 2, "cpu")
        assert torch.get_num_threads() == 2
    finally:
        load_engine("torch", 1, "cpu")
    assert torch.get_num_threads() == 1
