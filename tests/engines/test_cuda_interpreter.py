"""What stands in for a GPU gives the same bits fast as it does slowly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import interpreter
from contract import scene
from spcli.engines.base import Epilogue, LayerParameters
from spcli.geometry import regular_geometry
from strategies import real_features

DOWN3 = regular_geometry((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1))


def computed(engine: Any, dtype: str) -> list[bytes]:
    """A map, its rules and a layer over it."""
    tensor, engine = scene(2, 60, (8, 24, 24)), engine.with_dtype(dtype)
    source = engine.build(engine.sites(tensor.indices, tensor.spatial_shape, 1), DOWN3)
    weight = real_features(2, 7, 27 * 5).reshape(7, 3, 3, 3, 5)
    features = engine.upload(real_features(1, len(tensor.indices), 5))
    result = engine.convolve(features, source, engine.pack(LayerParameters(weight)), Epilogue())
    rules = engine.rulebook(source)
    return [array.tobytes() for array in (engine.download(result), rules.in_rows, rules.out_rows)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_faster_interpreter_gives_the_same_bits(cuda: Any, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    originals = interpreter.replaced()
    if not originals:
        pytest.skip("nothing is replaced: a GPU is here, or Triton is a release that is left as it is")
    fast = computed(cuda, dtype)
    for (owner, name), value in originals.items():
        monkeypatch.setattr(owner, name, value)
    assert computed(cuda, dtype) == fast
    assert np.frombuffer(fast[0], np.float32).any()
