"""Rulebook dumps: every rule of every key of a network, as plain arrays named `<key>/<field>`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcli.program import KeyedMap
from spcli.rulebook import Rulebook
from spcli.writers.features import json_array
from spcli.writers.npz import Target, save_npz

GEOMETRY = ("kernel_size", "stride", "padding", "dilation", "output_padding")
FLAGS = ("submanifold", "transposed")


def write_rulebooks(
    target: Target,
    keys: Iterable[KeyedMap],
    rulebooks: Mapping[str, Rulebook],
    meta: Mapping[str, Any],
    *,
    compress: bool = False,
) -> None:
    """Write the rulebook of every key, in the order of `keys`. Stride and padding are the effective ones.

    Raises:
        UsageError: the place cannot be written to.
    """
    keys = tuple(keys)
    arrays: dict[str, NDArray[Any]] = {"keys": np.array([keyed.key for keyed in keys], np.str_)}
    for keyed in keys:
        for field, array in rulebook_arrays(rulebooks[keyed.key], keyed.layers).items():
            arrays[f"{keyed.key}/{field}"] = array
    arrays["meta"] = json_array(meta)
    save_npz(target, arrays, compress=compress)


def rulebook_arrays(rulebook: Rulebook, layers: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """The members of one key by field; `layers` are the names of the layers that use it."""
    return {
        "in_indices": rulebook.in_indices,
        "out_indices": rulebook.out_indices,
        "in_rows": rulebook.in_rows,
        "out_rows": rulebook.out_rows,
        "pair_splits": rulebook.pair_splits,
        **{name: np.array(getattr(rulebook.geometry, name), np.int32) for name in GEOMETRY},
        "in_spatial_shape": np.array(rulebook.in_spatial_shape, np.int32),
        "out_spatial_shape": np.array(rulebook.out_spatial_shape, np.int32),
        "batch_size": np.array(rulebook.batch_size, np.int32),
        **{name: np.array(getattr(rulebook.geometry, name), np.bool_) for name in FLAGS},
        "layers": np.array(layers, np.str_),
    }
