"""The files hold what docs/files.md lists, under those names and dtypes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from spcli.geometry import regular_geometry, submanifold_geometry
from spcli.program import KeyedMap
from spcli.rulebook import Rulebook
from spcli.sparse_tensor import SparseTensor
from spcli.writers import stats_text, write_features, write_rulebooks, write_stats, write_voxels

TENSOR = SparseTensor(
    np.array([[0.5, 1], [2, 3]], np.float32), np.array([[0, 0, 0, 1], [0, 1, 2, 0]], np.int32), (2, 3, 4)
)
META = {"schema": "spcli.features/1", "axes": ["batch", "z", "y", "x"]}


def load(path):
    with np.load(path, allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


def test_features_hold_a_tensor_and_its_meta(tmp_path):
    write_features(str(tmp_path / "a.npz"), TENSOR, META)
    data = load(tmp_path / "a.npz")
    assert {name: (array.dtype.str, array.shape) for name, array in data.items() if name != "meta"} == {
        "indices": ("<i4", (2, 4)),
        "features": ("<f4", (2, 2)),
        "spatial_shape": ("<i4", (3,)),
        "batch_size": ("<i4", ()),
    }
    assert data["spatial_shape"].tolist() == [2, 3, 4]
    assert json.loads(str(data["meta"])) == {**META, "dtype": "float32"}


def test_float16_features_say_so(tmp_path):
    write_features(str(tmp_path / "a.npz"), TENSOR, META, dtype="float16")
    data = load(tmp_path / "a.npz")
    assert data["features"].dtype == np.float16
    assert json.loads(str(data["meta"]))["dtype"] == "float16"


def test_voxels_hold_point_counts_and_what_else_was_asked_for(tmp_path):
    extras = {"num_points": np.array([1, 2], np.int32), "point_rows": np.array([0, 1, 1, -1], np.int32), "points": None}
    write_voxels(str(tmp_path / "a.npz"), TENSOR, extras, META)
    data = load(tmp_path / "a.npz")
    assert data["num_points"].tolist() == [1, 2]
    assert data["point_rows"].tolist() == [0, 1, 1, -1]
    assert "points" not in data


def test_a_rulebook_dump_names_every_array_by_its_key(tmp_path):
    """Two sites side by side: one rule from left to right, one back, and each site to itself."""
    indices = np.array([[0, 0, 0], [0, 0, 1]], np.int32)
    subm = Rulebook(
        submanifold_geometry((1, 3), (1, 1)),
        indices,
        indices,
        np.array([0, 0, 1, 1], np.int32),
        np.array([1, 0, 1, 0], np.int32),
        np.array([0, 1, 3, 4]),
        (1, 2),
        (1, 2),
    )
    down = Rulebook(
        regular_geometry((1, 2), (1, 2), (0, 0), (1, 1)),
        indices,
        np.zeros((1, 3), np.int32),
        np.array([0, 1], np.int32),
        np.array([0, 0], np.int32),
        np.array([0, 1, 2]),
        (1, 2),
        (1, 1),
    )
    keys = (KeyedMap("subm1", 0, ("a", "b")), KeyedMap("down", 1, ("c",)))
    write_rulebooks(str(tmp_path / "a.npz"), keys, {"down": down, "subm1": subm}, META)
    data = load(tmp_path / "a.npz")
    assert data["keys"].tolist() == ["subm1", "down"]
    assert data["subm1/layers"].tolist() == ["a", "b"]
    assert data["subm1/padding"].tolist() == [0, 1]
    assert data["subm1/submanifold"].dtype == np.bool_
    assert (bool(data["subm1/submanifold"]), bool(data["down/submanifold"])) == (True, False)
    assert data["down/stride"].tolist() == [1, 2]
    assert data["down/pair_splits"].dtype == np.int64
    assert data["down/out_spatial_shape"].tolist() == [1, 1]
    integers = {name.split("/")[1] for name, array in data.items() if "/" in name and array.dtype == np.int32}
    sizes = {"kernel_size", "stride", "padding", "dilation", "output_padding", "in_spatial_shape", "out_spatial_shape"}
    assert integers == {"in_indices", "out_indices", "in_rows", "out_rows", "batch_size", *sizes}


def test_statistics_are_strict_json_with_a_layer_a_line(tmp_path):
    stats = {"schema": "spcli.stats/1", "layers": [{"name": "a"}, {"name": "b"}], "totals": {}}
    write_stats(str(tmp_path / "a.json"), stats)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == stats
    assert sum('"name"' in line for line in text.splitlines()) == 2
    with pytest.raises(ValueError, match="not JSON compliant"):
        stats_text({"density": float("nan")})
