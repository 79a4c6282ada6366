"""A network of spcli in spconv's own layers, and its voxelizer: what the CPU and the CUDA peer have in common.

Like OpenPCDet's, a convolution has no bias and a BatchNorm1d behind it, unless the configuration says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import spconv.pytorch as spconv
import torch
from spconv.pytorch.utils import PointToVoxel

from benchmarks.common.workload import Workload
from spcli.config import load_config
from spcli.geometry import ConvGeometry
from spcli.layers.base import BatchNorm1d
from spcli.network import LayerInfo, Network
from spcli.program import Activation, AddValues, BuildMap, Concatenate, Convolve, InvertMap

MOST_VOXELS = 150_000  # room for every voxel of a scan where caps are off


class Layer(torch.nn.Module):
    """One convolution (None: a product of rows) with its norm."""

    def __init__(self, info: LayerInfo, convolution: Any, parameters: dict[str, np.ndarray]) -> None:
        super().__init__()
        own = {name[len(info.name) + 1 :]: torch.from_numpy(parameters[name]) for name in info.parameters}
        self.convolution, self.norm = convolution, None
        if convolution is None:
            self.register_buffer("matrix", own["weight"].reshape(info.out_channels, info.in_channels))
            self.register_buffer("bias", own.get("bias"))
        else:
            convolution.weight.data = own["weight"]
            if "bias" in own:
                convolution.bias.data = own["bias"]
        if isinstance(info.norm, BatchNorm1d):
            self.norm = torch.nn.BatchNorm1d(info.out_channels, eps=info.norm.eps)
            self.norm.load_state_dict({name[5:]: value for name, value in own.items() if name[:5] == "norm."}, False)

    def forward(self, x: Any) -> Any:
        """The convolution and its norm."""
        if self.convolution is not None:
            x = self.convolution(x)
        else:
            x = x.replace_feature(torch.nn.functional.linear(x.features, self.matrix, self.bias))
        return x if self.norm is None else x.replace_feature(self.norm(x.features))


class Peer(torch.nn.Module):
    """A network of spcli in spconv's layers."""

    def __init__(self, network: Network, parameters: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.program = network.program
        self.infos = {info.name: info for info in network.layers}
        self.built = {op.map: op for op in self.program.index_ops if isinstance(op, BuildMap)}
        self.inverse = {op.map: op.source for op in self.program.index_ops if isinstance(op, InvertMap)}
        self.layers = torch.nn.ModuleList()
        for op in self.program.value_ops:
            if isinstance(op, Convolve):
                info = self.infos[op.parameters]
                self.layers.append(Layer(info, self._convolution(op.map, info), parameters))
        self.eval()

    def forward(self, x: Any) -> Any:
        """The output of the last layer."""
        values, layers = {0: x}, iter(self.layers)
        for op in self.program.value_ops:
            if isinstance(op, Convolve):
                value = next(layers)(values[op.input])
                if op.add is not None:
                    value = value.replace_feature(value.features + values[op.add].features)
                values[op.output] = _activate(value, op.activation)
            elif isinstance(op, Concatenate):
                parts = [values[slot].features for slot in op.inputs]
                values[op.output] = values[op.inputs[0]].replace_feature(torch.cat(parts, dim=1))
            elif isinstance(op, AddValues):
                total = sum(values[slot].features for slot in op.inputs)
                values[op.output] = _activate(values[op.inputs[0]].replace_feature(total), op.activation)
            else:
                raise TypeError(f"no spconv layer stands for {type(op).__name__}")
        return values[self.program.layers[self.program.output]]

    def _convolution(self, slot: int | None, info: LayerInfo) -> Any:
        if slot is None:
            return None
        source = self.inverse.get(slot, slot)
        geometry: ConvGeometry = self.built[source].geometry
        ends = (info.in_channels, info.out_channels, list(geometry.kernel_size))
        shared = {"bias": f"{info.name}.bias" in info.parameters, "indice_key": f"map{source}"}
        if slot in self.inverse:
            return spconv.SparseInverseConv3d(*ends, **shared)
        if geometry.submanifold:
            return spconv.SubMConv3d(*ends, dilation=list(geometry.dilation), **shared)
        sizes = {name: list(getattr(geometry, name)) for name in ("stride", "padding", "dilation")}
        return spconv.SparseConv3d(*ends, **sizes, **shared)


def _activate(x: Any, activation: Activation) -> Any:
    if activation.kind == "none":
        return x
    if activation.kind != "relu":
        raise TypeError(f"no {activation.kind} in this comparison")
    return x.replace_feature(torch.relu_(x.features))


def host_points(workload: Workload) -> torch.Tensor:
    """The scan's points, with the columns that become features."""
    return torch.from_numpy(np.ascontiguousarray(workload.points.values[:, list(workload.points.features)]))


def voxelizer(workload: Workload, device: str) -> Callable[..., Any] | None:
    """spconv's voxelizer, None where it cannot do what is asked: it needs a range and a cap of points."""
    spec = load_config(workload.config).voxelize
    if spec is None or spec.point_cloud_range is None or spec.max_points is None:
        return None
    room = MOST_VOXELS if spec.max_voxels is None else spec.max_voxels
    limits, columns = list(spec.point_cloud_range), len(workload.points.features)
    made: Callable[..., Any] = PointToVoxel(
        list(spec.voxel_size), limits, columns, room, spec.max_points, torch.device(device)
    )
    return made
