"""One network on one scan, as every contestant gets it: a folder of plain files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spcli.config import load_config
from spcli.engines import load_engine
from spcli.engines.base import Frame, Points, Want, download_voxels
from spcli.network import Network
from spcli.pipeline.channels import engine_points
from spcli.program import Convolve
from spcli.readers import read
from spcli.sparse_tensor import SparseTensor
from spcli.weights import fold, initial_parameters

SEED = 0


@dataclass(frozen=True)
class Workload:
    """A configuration and a scan, and the folder where what was computed from them lies."""

    config: str
    scan: str
    folder: Path

    @property
    def name(self) -> str:
        """For tables."""
        return f"{Path(self.config).stem} on {Path(self.scan).name}"

    @cached_property
    def points(self) -> Points:
        """The scan's points with the columns the configuration wants."""
        config = load_config(self.config)
        assert config.voxelize is not None
        cloud: Any = read(self.scan, config.voxelize.columns).content
        return engine_points(cloud, config.voxelize)

    @cached_property
    def tensor(self) -> SparseTensor:
        """The voxels, which every contestant's network starts from; made by `prepare`."""
        with np.load(self.folder / "tensor.npz", allow_pickle=False) as file:
            return SparseTensor(file["features"], file["indices"], tuple(file["spatial_shape"].tolist()))

    @cached_property
    def network(self) -> Network:
        """The network for this scan's channels and shape."""
        return load_config(self.config).network(self.tensor.features.shape[1], self.tensor.spatial_shape)

    @cached_property
    def parameters(self) -> dict[str, np.ndarray]:
        """Seeded parameters by name, as checkpoints have them."""
        return dict(initial_parameters(self.network, SEED))

    @property
    def output(self) -> str:
        """The layer whose features are compared."""
        return self.network.program.output

    @property
    def layers(self) -> list[dict[str, Any]]:
        """Every layer that multiplies: name, rows, channels, rules, from `prepare`."""
        found: list[dict[str, Any]] = json.loads((self.folder / "layers.json").read_text(encoding="utf-8"))
        return found


def prepare(workload: Workload) -> Frame:
    """Voxelize, run once with everything kept, and write what the contestants read."""
    engine = load_engine("cpu")
    spec = load_config(workload.config).voxelize
    assert spec is not None
    tensor = download_voxels(engine, engine.voxelize(workload.points, spec)).tensor
    workload.folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        workload.folder / "tensor.npz",
        features=tensor.features, indices=tensor.indices, spatial_shape=np.array(tensor.spatial_shape),
    )  # fmt: skip
    program = workload.network.program
    runner = engine.compile(program, fold(workload.network, workload.parameters), Want((program.output,), True))
    frame = runner.result(runner.submit(tensor))
    (workload.folder / "layers.json").write_text(json.dumps(_multiplications(workload.network, frame)))
    return frame


def _multiplications(network: Network, frame: Frame) -> list[dict[str, Any]]:
    infos = {info.name: info for info in network.layers}
    found = []
    for op in network.program.value_ops:
        if not isinstance(op, Convolve):
            continue
        info = infos[op.parameters]
        rows = frame.sites[network.program.values[op.output].sites]
        pairs = rows if op.map is None else frame.counts[str(info.key)].pairs
        entry = {"name": op.parameters, "rows": rows, "pairs": pairs}
        found.append(entry | {"in_channels": info.in_channels, "out_channels": info.out_channels})
    return found


def macs(layers: list[dict[str, Any]]) -> int:
    """Exact multiply-adds: a rule multiplies one row by one `[Cin, Cout]`."""
    return sum(layer["pairs"] * layer["in_channels"] * layer["out_channels"] for layer in layers)
