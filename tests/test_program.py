"""What follows from a program alone: shapes, strides and cells of every set of sites."""

from __future__ import annotations

from spcli.config import read_config
from spcli.geometry import CellAxes
from spcli.network import Network
from spcli.program import site_axes, site_shapes


def network_of(*layers: str) -> Network:
    return read_config("version: 1\nlayers:\n" + "".join(f"  - {{{layer}}}\n" for layer in layers)).network()


STRIDED = network_of(
    "name: a, type: SparseConv3d, out_channels: 2, kernel_size: 3, stride: [2, 3, 4]",
    "name: b, type: SparseConvTranspose3d, out_channels: 2, kernel_size: 2, stride: 2",
    "name: c, type: HeightCompression",
    "name: d, type: SparseGlobalAvgPool",
)


def test_strides_multiply_and_divide() -> None:
    strides = STRIDED.strides()
    assert [strides[layer.out_sites] for layer in STRIDED.layers] == [(2, 3, 4), (1, 1.5, 2), (1.5, 2), ()]
    assert isinstance(strides[2][0], int), "whole numbers are written as such into files"


def test_strides_go_on_from_those_of_the_input() -> None:
    strides = STRIDED.strides((4, 4, 2))
    assert strides[0] == (4, 4, 2)
    assert [strides[layer.out_sites] for layer in STRIDED.layers] == [(8, 12, 8), (4, 6, 4), (6, 4), ()]


def test_the_input_of_a_network_that_flattens_first_has_three_axes() -> None:
    network = network_of(
        "name: a, type: HeightCompression", "name: b, type: SparseMaxPool2d, kernel_size: 2, stride: 2, indice_key: b"
    )
    assert network.ndim == 3 and network.strides() == ((1, 1, 1), (1, 1), (2, 2))


def test_shapes_follow_the_windows_and_lose_their_axes() -> None:
    shapes = site_shapes(STRIDED.program, (5, 9, 11))
    assert [shapes[layer.out_sites] for layer in STRIDED.layers] == [(2, 3, 3), (4, 6, 6), (6, 6), ()]


def test_a_cell_lies_at_the_middle_of_its_window() -> None:
    network = network_of(
        "name: a, type: SparseConv3d, out_channels: 2, kernel_size: 3, stride: 2, padding: 1",
        "name: b, type: SparseConv3d, out_channels: 2, kernel_size: [3, 1, 2], stride: [2, 1, 2]",
        "name: c, type: SparseConvTranspose3d, out_channels: 2, kernel_size: 2, stride: 2",
        "name: d, type: HeightCompression",
    )
    axes = site_axes(network.program)
    # Output o of a is the window 2o-1 .. 2o+1; of b in x the cells 2o, 2o+1 of a; c halves a cell of b again.
    assert axes[1] == CellAxes((2, 2, 2), (0, 0, 0))
    assert axes[2] == CellAxes((4, 2, 4), (2, 0, 1))
    assert axes[3] == CellAxes((2, 1, 2), (1, -0.5, 0))
    assert axes[4] == CellAxes((0, 1, 2), (-0.5, -0.5, 0))


def test_submanifold_layers_share_the_slot_of_their_input() -> None:
    network = network_of("name: a, type: SubMConv3d, out_channels: 2, kernel_size: 3")
    assert network.program.sites == 1 and network.strides((2, 2, 2)) == ((2, 2, 2),)
