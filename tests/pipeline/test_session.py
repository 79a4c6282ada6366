"""A session: prepared once, then scan after scan, from any kind of input and any thread."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

import spcli
from spcli.config import Config, read_config
from spcli.engines import load_engine
from spcli.engines.base import Want
from spcli.errors import CheckpointError, ConfigError, DeviceError, InputError, UsageError
from spcli.pipeline.run import run, voxelize
from spcli.pipeline.session import Session
from spcli.points import PointCloud
from spcli.program import INPUT

STREET = Path(__file__).resolve().parents[2] / "sample_data" / "street_000.bin"
NETWORK = """\
version: 1
voxelize: {voxel_size: [1, 1, 1], point_cloud_range: [0, 0, 0, 8, 8, 4], columns: [x, y, z, i]}
layers:
  - {name: a, type: SubMConv3d, out_channels: 3, kernel_size: 3, indice_key: k}
  - {name: b, type: SparseConv3d, out_channels: 2, kernel_size: 3, stride: 2, padding: 1}
"""


@pytest.fixture
def config() -> Config:
    return read_config(NETWORK)


def points(seed: int, count: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, (8, 8, 4, 1), (count, 4)).astype(np.float32)


class Counting(type(load_engine("cpu"))):  # type: ignore[misc]
    """The CPU engine, counting what is made ready."""

    def __init__(self) -> None:
        super().__init__()
        self.compiled = 0

    def compile(self, *arguments: Any) -> Any:
        self.compiled += 1
        return super().compile(*arguments)


def bits(result: Any) -> bytes:
    return result.features.features.tobytes() + result.features.indices.tobytes()


def test_scans_of_one_kind_are_prepared_for_once_and_give_what_a_run_of_their_own_gives(config: Config) -> None:
    engine = Counting()
    with Session(config, device=engine) as session:
        found = [session.run(points(seed)) for seed in range(4)]
    assert engine.compiled == 1
    assert [bits(result) for result in found] == [bits(run(config, points(seed))) for seed in range(4)]
    assert found[0].time_s["prepare"] > 0
    assert found[1].time_s["prepare"] < found[0].time_s["prepare"]


def test_runs_give_results_in_order_and_only_as_they_are_asked_for(config: Config) -> None:
    given = []

    def scans() -> Any:
        for seed in range(20):
            given.append(seed)
            yield points(seed)

    session = Session(config)
    results = session.runs(scans())
    assert bits(next(results)) == bits(run(config, points(0)))
    assert len(given) < 10
    rest = [bits(result) for result in results]
    assert rest == [bits(run(config, points(seed))) for seed in range(1, 20)]


def test_a_scan_that_cannot_be_used_ends_the_runs_with_its_sentence_and_not_the_session(config: Config) -> None:
    session = Session(config)
    results = session.runs([points(0), points(1)[:, :2], points(2)])
    next(results)
    with pytest.raises(InputError, match="has shape"):
        next(results)
    assert bits(session.run(points(2))) == bits(run(config, points(2)))


def test_paths_arrays_clouds_tensors_and_whatever_speaks_dlpack_are_scans(config: Config, tmp_path: Any) -> None:
    torch = pytest.importorskip("torch")
    values = points(0)
    np.save(tmp_path / "a.npy", values)
    cloud = PointCloud(values, ("x", "y", "z", "i"))
    tensor = voxelize(cloud, config.voxelize).tensor
    given = [tmp_path / "a.npy", str(tmp_path / "a.npy"), values, cloud, tensor, torch.from_numpy(values),
             spcli.read(str(tmp_path / "a.npy"))]  # fmt: skip
    with Session(config) as session:
        assert len({bits(session.run(scan)) for scan in given}) == 1
        with pytest.raises(InputError, match="a list is no scan; give a path, an array"):
            session.run([[1, 2, 3]])
        with pytest.raises(InputError, match=r"the Tensor cannot be read here .*; copy it to the host"):
            session.run(torch.from_numpy(values).requires_grad_())


def test_several_threads_may_use_one_session(config: Config) -> None:
    expected = [bits(run(config, points(seed))) for seed in range(24)]
    with Session(config) as session, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda seed: bits(session.run(points(seed))), range(24))) == expected


def test_results_may_be_asked_for_in_any_order_and_once(config: Config) -> None:
    session = Session(config)
    tickets = [session.submit(points(seed)) for seed in range(3)]
    found = {ticket: session.result(ticket) for ticket in reversed(tickets)}
    for seed, ticket in enumerate(tickets):
        assert bits(found[ticket]) == bits(run(config, points(seed)))
    with pytest.raises(UsageError, match=f"no scan with the ticket {tickets[0]}; each gives its result once"):
        session.result(tickets[0])


def test_a_closed_session_gives_its_memory_back_keeps_results_and_says_so(config: Config) -> None:
    with Session(config) as session:
        result = session.run(points(0))
        runner = weakref.ref(next(iter(session._prepared.values())).runner)
    gc.collect()
    assert runner() is None
    assert bits(result) == bits(run(config, points(0)))
    with pytest.raises(UsageError, match="this session is closed; make a new one"):
        session.run(points(0))


def test_a_session_is_made_from_a_presets_name_and_by_the_name_of_a_device() -> None:
    with Session("quickstart", device="cpu", dtype="float32", weights=3, layers=("down",)) as session:
        assert session.config.name == "quickstart"
        assert list(session.run(STREET).outputs) == ["head", "down"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"device": "cpu", "dtype": "float16"}, DeviceError, "float16 needs a CUDA device"),
        ({"layers": ("z",)}, UsageError, "there is no layer 'z'"),
        ({"weights": {"a.weight": np.zeros(1)}}, CheckpointError, "the arrays does not fit"),
        ({"weights": "none.npz"}, CheckpointError, "none.npz"),
    ],
    ids=["dtype", "layer", "arrays", "file"],
)
def test_what_is_wrong_is_said_before_a_scan_is_read(config: Config, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        Session(config, **options).prepare()


def test_a_specification_made_by_hand_is_checked_when_the_session_is_made(config: Config) -> None:
    wrong = structs.replace(config, voxelize=replace(config.voxelize, max_points=0))  # type: ignore[type-var]
    with pytest.raises(ConfigError, match=r"voxelize\.max_points"):
        Session(wrong)


def test_the_input_is_a_value_that_can_be_wanted(config: Config) -> None:
    """Its features are the voxels'."""
    result = Session(config, want=Want((INPUT, "b"))).run(points(0))
    expected = voxelize(points(0), config.voxelize, columns=("x", "y", "z", "i")).tensor
    np.testing.assert_array_equal(result.outputs[INPUT].features, expected.features)
    np.testing.assert_array_equal(result.outputs[INPUT].indices, expected.indices)


def test_parameters_are_those_a_network_is_made_ready_with(config: Config) -> None:
    session = Session(config, weights=5)
    network = config.network(4, None)
    expected = spcli.initial_parameters(network, 5)
    assert {name: array.tobytes() for name, array in session.parameters(network).items()} == {
        name: array.tobytes() for name, array in expected.items()
    }
