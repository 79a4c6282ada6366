"""Parameters: drawn, stored, checked and folded."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
import zlib
from math import sqrt
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spcli.config import load_preset
from spcli.errors import CheckpointError, ConfigError, UsageError
from spcli.layers import LAYERS, Layer
from spcli.lowering import build_network
from spcli.network import Network
from spcli.weights import check_fit, fold, initial_parameters, load_weights, save_weights
from strategies import examples

SUFFIXES = (".npz", ".safetensors")


def layer(kind: str, name: str, **keys: Any) -> Layer:
    return msgspec.convert({"type": kind, "name": name, **keys}, LAYERS[kind])


@pytest.fixture(scope="module")
def network() -> Network:
    """One layer of each kind that has parameters."""
    normed = {"out_channels": 3, "kernel_size": 3, "norm": {"type": "BatchNorm1d", "eps": 1e-3}}
    return build_network(
        [
            layer("SubMConv3d", "conv", **normed),
            layer("SparseConv3d", "down", **normed, stride=2, bias=False, indice_key="k"),
            layer("SparseInverseConv3d", "up", out_channels=5, kernel_size=3, indice_key="k", bias=False),
            layer("Linear", "head", out_channels=2, norm={"type": "LayerNorm"}),
        ],
        None,
        4,
        (8, 8, 8),
    )


# Drawn.


def test_draws_are_those_of_the_contract(network: Network) -> None:
    """Each step of what docs/files.md says, written out for a layer with everything."""
    generator = np.random.Generator(np.random.PCG64([7, zlib.crc32(b"conv")]))
    bound = sqrt(6 / (27 * 4))
    expected = {
        "conv.weight": generator.uniform(-bound, bound, (3, 3, 3, 3, 4)),
        "conv.bias": generator.uniform(-0.1, 0.1, 3),
        "conv.norm.weight": generator.uniform(0.5, 1.5, 3),
        "conv.norm.bias": generator.uniform(-0.5, 0.5, 3),
        "conv.norm.running_mean": generator.uniform(-0.5, 0.5, 3),
        "conv.norm.running_var": generator.uniform(0.5, 1.5, 3),
    }
    drawn = initial_parameters(network, 7)
    assert [name for name in drawn if name.startswith("conv.")] == list(expected)
    for name, values in expected.items():
        assert drawn[name].dtype == np.float32
        np.testing.assert_array_equal(drawn[name], values.astype(np.float32))


def test_an_inverse_layer_is_bounded_by_its_own_input_channels(network: Network) -> None:
    generator = np.random.Generator(np.random.PCG64([0, zlib.crc32(b"up")]))
    bound = sqrt(6 / (27 * 3))
    expected = generator.uniform(-bound, bound, (5, 3, 3, 3, 3)).astype(np.float32)
    np.testing.assert_array_equal(initial_parameters(network, 0)["up.weight"], expected)


def test_large_weights_are_drawn_as_in_one_call() -> None:
    """Drawing in pieces must not change a value; 70,000 values need three pieces."""
    wide = build_network([layer("Linear", "wide", out_channels=700, bias=False)], None, 100)
    generator = np.random.Generator(np.random.PCG64([1, zlib.crc32(b"wide")]))
    expected = generator.uniform(-sqrt(0.06), sqrt(0.06), (700, 100)).astype(np.float32)
    np.testing.assert_array_equal(initial_parameters(wide, 1)["wide.weight"], expected)


def test_draws_of_a_layer_depend_on_seed_name_and_shape_alone() -> None:
    def weight(*layers: Layer, seed: int = 3) -> np.ndarray:
        return initial_parameters(build_network(layers, None, 4), seed)["a.weight"]

    a = layer("Linear", "a", out_channels=4)
    b = layer("Linear", "b", out_channels=4)
    np.testing.assert_array_equal(weight(a), weight(b, a))
    assert not np.array_equal(weight(a), weight(a, seed=4))
    assert not np.array_equal(weight(a, b), initial_parameters(build_network([a, b], None, 4), 3)["b.weight"])


def test_the_seeded_backbone_never_changes() -> None:
    """A golden digest: weights drawn today must be those drawn next year."""
    network = load_preset("second-kitti", (), {}).network()
    digest = hashlib.sha256()
    for name, values in initial_parameters(network, 0).items():
        digest.update(name.encode() + values.tobytes())
    assert digest.hexdigest() == "52d182965202fb825c25214121b9094bcbd66a0482fd1b0d919a76907fb5ef9e"


def test_a_network_with_unknown_input_channels_cannot_be_drawn() -> None:
    unknown = build_network([layer("Linear", "a", out_channels=4)])
    with pytest.raises(ConfigError) as caught:
        initial_parameters(unknown, 0)
    assert [problem.key for problem in caught.value.problems] == ["layers.a", "voxelize.columns"]


# Folded.


def test_batch_norm_and_bias_fold_into_scale_and_shift(network: Network) -> None:
    parameters = initial_parameters(network, 0)
    folded = fold(network, parameters)
    y = np.linspace(-2, 2, 3)
    for name in ("conv", "down"):
        own = {key.partition(".")[2]: parameters[key].astype(np.float64) for key in parameters if key.startswith(name)}
        biased = y + own.get("bias", 0)
        normed = (biased - own["norm.running_mean"]) / np.sqrt(own["norm.running_var"] + 1e-3)
        expected = normed * own["norm.weight"] + own["norm.bias"]
        scale, shift = folded[name].scale, folded[name].shift
        assert scale is not None and shift is not None
        assert scale.dtype == shift.dtype == np.float64
        np.testing.assert_allclose(scale * y + shift, expected, rtol=1e-14)


def test_layers_without_batch_norm_fold_to_their_bias(network: Network) -> None:
    parameters = initial_parameters(network, 0)
    folded = fold(network, parameters)
    assert (folded["up"].scale, folded["up"].shift) == (None, None)
    head = folded["head"]
    assert head.scale is None
    np.testing.assert_array_equal(head.shift, parameters["head.bias"])
    np.testing.assert_array_equal(head.norm_weight, parameters["head.norm.weight"])
    np.testing.assert_array_equal(head.norm_bias, parameters["head.norm.bias"])
    assert set(folded) == {"conv", "down", "up", "head"}


# Stored.

ARRAYS = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9_.-]{1,12}\.weight", fullmatch=True),
    st.lists(st.integers(1, 4), min_size=1, max_size=4).map(
        lambda shape: np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    ),
    max_size=4,
)


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(arrays=ARRAYS)
def test_what_is_saved_loads_the_same(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, arrays: dict[str, np.ndarray]
) -> None:
    path = str(tmp_path_factory.mktemp("weights") / f"w{suffix}")
    save_weights(path, arrays)
    loaded = load_weights(path)
    assert set(loaded) == set(arrays)
    for name, values in arrays.items():
        assert loaded[name].dtype == np.float32
        np.testing.assert_array_equal(loaded[name], values)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_equal_values_give_equal_bytes(tmp_path: Path, network: Network, suffix: str) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    save_weights(str(first), initial_parameters(network, 0))
    os.utime(first, (0, 0))
    save_weights(str(second), initial_parameters(network, 0))
    assert first.read_bytes() == second.read_bytes()


def test_an_npz_is_plain_for_numpy_and_not_compressed(tmp_path: Path, network: Network) -> None:
    path = tmp_path / "w.npz"
    save_weights(str(path), initial_parameters(network, 0))
    with np.load(path, allow_pickle=False) as archive:
        assert "conv.norm.running_var" in archive.files
    with zipfile.ZipFile(path) as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_the_format_is_told_by_the_content_not_the_suffix(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        save_weights(str(tmp_path / f"w{suffix}"), {"a.weight": np.ones((2, 2), np.float32)})
        os.replace(tmp_path / f"w{suffix}", tmp_path / "weights")
        assert load_weights(str(tmp_path / "weights"))["a.weight"].shape == (2, 2)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_read_as_float32(tmp_path: Path, dtype: type) -> None:
    np.savez(tmp_path / "w.npz", **{"a.weight": np.array([[0.5, 2]], dtype)})
    loaded = load_weights(str(tmp_path / "w.npz"))["a.weight"]
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, [[0.5, 2]])


def test_another_suffix_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"w\.pth: weights are written as \.npz or \.safetensors"):
        save_weights(str(tmp_path / "w.pth"), {})
    assert list(tmp_path.iterdir()) == []


# What cannot be read.


def _npz(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def _safetensors(header: Any, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


BF16 = {"a.weight": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no weights spcli can read; give a .npz or .safetensors file"),
        (b"\x80\x02}q\x00.", "holds no weights spcli can read"),
        (b"PK\x03\x04 and no more", "is damaged or not an .npz of plain arrays"),
        (_npz(**{"a.weight.npy": _npy(np.ones(3))})[:-30], "is damaged or not an .npz of plain arrays"),
        (_npz(**{"a.weight.npy": _npy(np.array([{}], object))}), "is damaged or not an .npz of plain arrays"),
        (_npz(**{"readme.txt": b"hello"}), "must hold arrays only, but readme.txt is none"),
        (_safetensors({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}), "is damaged or holds types"),
        (_safetensors(BF16, b"\0\0"), "is damaged or holds types"),
        (b"\xff" * 8 + b"{", "is damaged or holds types"),
    ],
)
def test_damaged_and_foreign_files_are_a_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "w.npz"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_weights(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
@examples(150)
@given(data=st.data())
def test_a_damaged_file_never_gives_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    save_weights(str(path), {"a.weight": np.ones((2, 3), np.float32), "a.bias": np.zeros(2, np.float32)})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        load_weights(str(path))
    except CheckpointError as error:
        assert str(path) in str(error)


def test_a_missing_file_is_a_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.npz cannot be read \(No such file or directory\)"):
        load_weights(str(tmp_path / "none.npz"))


# What does not fit.


def test_what_fits_passes(network: Network) -> None:
    check_fit(network, initial_parameters(network, 0), "w.npz")


def test_everything_that_does_not_fit_is_named_at_once(network: Network) -> None:
    parameters = initial_parameters(network, 0)
    del parameters["conv.bias"], parameters["head.norm.bias"]
    parameters["extra.weight"] = np.zeros(1, np.float32)
    parameters["up.weight"] = parameters["up.weight"][:, :, :, :, :2]
    parameters["down.weight"][0, 0, 0, 0, 0] = np.nan
    parameters["conv.norm.running_var"][1] = -1
    with pytest.raises(CheckpointError) as caught:
        check_fit(network, parameters, "w.npz")
    assert str(caught.value) == (
        "w.npz does not fit the network: 2 missing (conv.bias, head.norm.bias); 1 unknown (extra.weight); "
        "1 of another shape (up.weight is [5, 3, 3, 3, 2] instead of [5, 3, 3, 3, 3]); 1 not finite (down.weight); "
        "1 a negative variance (conv.norm.running_var); give the weights made for this network"
    )
    assert caught.value.exit_code == 6


def test_numbers_of_another_type_hide_nothing_else_that_is_wrong(tmp_path: Path, network: Network) -> None:
    """A state dict keeps an integer counter beside every batch norm."""
    parameters: dict[str, np.ndarray] = dict(initial_parameters(network, 0))
    del parameters["conv.bias"]
    parameters["conv.norm.num_batches_tracked"] = np.array(9)
    parameters["head.bias"] = np.zeros(2, np.int32)
    np.savez(tmp_path / "w.npz", **parameters)
    with pytest.raises(CheckpointError) as caught:
        check_fit(network, load_weights(str(tmp_path / "w.npz")), "w.npz")
    assert str(caught.value) == (
        "w.npz does not fit the network: 1 missing (conv.bias); 1 unknown (conv.norm.num_batches_tracked); "
        "1 no floats (head.bias is int32); give the weights made for this network"
    )
