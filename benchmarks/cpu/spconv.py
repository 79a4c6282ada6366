"""spconv as a contestant: the same program with its own layers, its own voxelizer.

Its CPU scatter races on more than one thread and then gives wrong features, so it runs on one. In evaluation its CPU
layers refuse a bias; like OpenPCDet, the network has none and a BatchNorm1d after every convolution.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import spconv.pytorch as spconv
import torch
from spconv.pytorch import ops
from spconv.pytorch.utils import PointToVoxel

from benchmarks.common.workload import Workload
from spcli.config import load_config
from spcli.geometry import ConvGeometry
from spcli.layers.base import BatchNorm1d
from spcli.network import LayerInfo, Network
from spcli.program import Activation, AddValues, BuildMap, Concatenate, Convolve, InvertMap

MOST_VOXELS = 150_000  # room for every voxel of a scan: caps are off


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


class Clock:
    """Adds up the time spconv spends on indice pairs, by standing in for the function that finds them."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._find = ops.get_indice_pairs
        ops.get_indice_pairs = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The pairs, timed."""
        started = perf_counter()
        found = self._find(*args, **kwargs)
        self.seconds += perf_counter() - started
        return found


class Contestant:
    """Times spconv's voxelizer with a mean, and its network; indice pairs apart from the rest."""

    def __init__(self, workload: Workload, threads: int) -> None:
        if threads != 1:
            raise ValueError("spconv's CPU features are right on one thread only")
        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        for info in workload.network.layers:
            if info.key is not None and f"{info.name}.bias" in info.parameters:
                raise TypeError(f"{info.name} has a bias, which spconv's CPU layers refuse in evaluation")
        self._network = Peer(workload.network, workload.parameters)
        self._features = torch.from_numpy(workload.tensor.features)
        self._indices = torch.from_numpy(workload.tensor.indices)
        self._shape = list(workload.tensor.spatial_shape)
        self._points = torch.from_numpy(workload.points.values)
        spec = load_config(workload.config).voxelize
        self._voxelizer = None
        if spec is not None and spec.point_cloud_range is not None and spec.max_points is not None:
            limits, columns = list(spec.point_cloud_range), workload.points.values.shape[1]
            self._voxelizer = PointToVoxel(list(spec.voxel_size), limits, columns, MOST_VOXELS, spec.max_points)
        self._clock = Clock()

    def round(self) -> dict[str, float]:
        """Seconds of each stage; what is not spent on indice pairs is convolution, norm and activation."""
        seconds = {}
        if self._voxelizer is not None:
            started = perf_counter()
            points, _, counts = self._voxelizer(self._points)
            points.sum(dim=1).div_(counts.clamp(min=1).view(-1, 1).type_as(points))
            seconds["voxelize"] = perf_counter() - started
        self._clock.seconds = 0.0
        started = perf_counter()
        self._forward()
        network = perf_counter() - started
        rulebooks = self._clock.seconds
        return seconds | {"rulebooks": rulebooks, "convolution": network - rulebooks, "network": network}

    def output(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices and features of the last layer, in spconv's own order."""
        result = self._forward()
        return result.indices.numpy(), result.features.numpy()

    def _forward(self) -> Any:
        return self._network(spconv.SparseConvTensor(self._features, self._indices, self._shape, 1))
