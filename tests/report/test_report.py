"""The report as a file: what is in it, how large it is, where it comes from, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import spcli
from report_data import QUICKSTART
from spcli.cli.group import group
from spcli.errors import InputError, UsageError
from spcli.pipeline.session import RunResult
from spcli.placement import Placement
from spcli.report import ReportContents, read_run, report_contents, report_page, write_report
from spcli.report.page import report_data

MEGABYTE = 10**6


def blocks(page: str) -> dict[str, str]:
    """The page's style and scripts by their opening tag."""
    return dict(re.findall(r"<(style|script[^>]*)>(.*?)</(?:style|script)>", page, re.DOTALL))


def sites_in(level: dict[str, Any], columns: int) -> np.ndarray:
    """A level's sites, unpacked."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(level["sites"])), np.uint8)
    steps = planes.reshape(columns, 4, level["rows"]).transpose(0, 2, 1)
    return np.cumsum(np.ascontiguousarray(steps).view("<i4")[..., 0], axis=1).T


@pytest.fixture(scope="module")
def page(street: RunResult) -> str:
    return report_page(report_contents(street, "street_000.bin", "quickstart"))


def test_the_page_holds_no_address_and_forbids_itself_every_one(page: str) -> None:
    assert "://" not in page and not re.search(r"""(?:src|href)\s*=\s*["'][^"']""", page.split("<script", 1)[0])
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    found = blocks(page)
    texts = (found["script"], found['script type="module"'], found["style"])
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts]
    assert policy == (
        f"default-src 'none'; script-src {hashes[0]} {hashes[1]}; style-src {hashes[2]}; "
        "base-uri 'none'; form-action 'none'"
    )


def test_the_page_says_which_three_js_it_carries_and_its_licence(page: str) -> None:
    assert re.search(r"three\.js \d+\.\d+\.\d+, and its licence", page)
    assert "The MIT License" in page and "three.js authors" in page


def test_the_version_of_three_js_is_that_of_the_bundle() -> None:
    vendor = files("spcli.report") / "vendor"
    _, minor, _ = vendor.joinpath("VERSION").read_text(encoding="utf-8").split(".")
    assert f'"{minor}"' in vendor.joinpath("three.min.js").read_text(encoding="utf-8")


def test_levels_hold_the_sites_of_the_rulebooks(street: RunResult) -> None:
    data = report_data(report_contents(street))
    assert np.array_equal(sites_in(data["levels"][0], 4), street.rulebooks["subm1"].in_indices)
    assert np.array_equal(sites_in(data["levels"][1], 4), street.rulebooks["down"].out_indices)
    assert [level["rows"] for level in data["levels"]] == list(street.frame.sites)
    assert len(data["levels"][0]["sites"]) < 2 * 14_241, "two bytes a site"


def test_a_name_cannot_end_the_data(street: RunResult) -> None:
    contents = report_contents(street, "</script><b>&{{data}}", "<!--")
    found = blocks(report_page(contents))['script type="application/json" id="data"']
    assert not set(found) & set("<>&")
    data = json.loads(found)
    assert (data["source"], data["config"]) == ("script><b>&{{data}}", "<!--"), "the name after its last slash"
    assert "<title>script&gt;&lt;b&gt;&amp;{{data}} through &lt;!--</title>" in report_page(contents)


def test_a_folder_of_run_gives_the_report_of_its_scan(tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(group, ["-q", "run", "--config", "quickstart", str(QUICKSTART), "-o", str(tmp_path / "out")])
    assert done.exit_code == 0
    sources: tuple[list[str], ...] = (["out"], ["out/street_000.rulebooks.npz"], ["out", "--config", "quickstart"])
    for source, *choices in sources:
        arguments = ["-q", "report", str(tmp_path / source), *choices, "-o", str(tmp_path / "a.html"), "--overwrite"]
        done = runner.invoke(group, arguments)
        assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["schema"] == "spcli.report/1" and record["bytes"] == (tmp_path / "a.html").stat().st_size
    done = runner.invoke(group, ["-q", "report", str(QUICKSTART), "--config", "quickstart", "-o", "-"])
    assert done.stdout_bytes == (tmp_path / "a.html").read_bytes()


def folder_of(street: RunResult, folder: Path) -> Path:
    """What `spcli run` would have left of the street."""
    meta = {"source": "street_000.bin", "voxel_size": [0.2, 0.2, 0.2], "point_cloud_range": [0, -32, -3, 64, 32, 3.4]}
    keys = street.network.program.keys
    spcli.write_rulebooks(str(folder / "a.rulebooks.npz"), keys, street.rulebooks, meta)
    spcli.write_stats(str(folder / "a.stats.json"), street.stats)
    config = spcli.load_preset("quickstart", environ={})
    (folder / "config.yaml").write_text(config.resolved, encoding="utf-8")
    return folder


def test_a_folder_whose_parts_do_not_go_together_is_refused(street: RunResult, tmp_path: Path) -> None:
    folder = folder_of(street, tmp_path)
    assert read_run(str(folder)).placement == Placement((0.2, 0.2, 0.2), (0, -32, -3))
    config = (folder / "config.yaml").read_text(encoding="utf-8")
    (folder / "config.yaml").write_text(config.replace("kernel_size: 3", "kernel_size: 5"), encoding="utf-8")
    with pytest.raises(InputError, match="do not go together; write the folder again"):
        read_run(str(folder))
    with pytest.raises(InputError, match="do not go together"):
        read_run(str(folder), spcli.load_preset("second-kitti", environ={}))
    (folder / "config.yaml").unlink()
    with pytest.raises(InputError, match=r"config\.yaml: no such file"):
        read_run(str(folder))
    (folder / "a.stats.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="holds no statistics of one scan"):
        read_run(str(folder))


def test_a_folder_of_several_scans_asks_which_one(street: RunResult, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no \*\.rulebooks\.npz"):
        read_run(str(tmp_path))
    folder = folder_of(street, tmp_path)
    (folder / "b.rulebooks.npz").write_bytes(b"")
    with pytest.raises(UsageError, match=r"holds 2 scans; name one, such as .*a\.rulebooks\.npz"):
        read_run(str(folder))


def test_layers_and_sizes_choose_what_the_page_holds(street: RunResult) -> None:
    contents = report_contents(street)
    held = [level["sites"] is not None for level in report_data(contents, ("conv2a",))["levels"]]
    assert held == [False, True]
    assert [level["sites"] is not None for level in report_data(contents, (), 12_000)["levels"]] == [False, True]
    assert report_data(contents, ("down",))["show"] == 2
    with pytest.raises(UsageError, match=r"--layer nosuch: there is no such layer; there are conv1a, conv1b, "):
        write_report(BytesIO(), contents, ("nosuch",))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([str(QUICKSTART), "-o", "a.html"], "is no folder of spcli run; give --config FILE"),
        ([str(QUICKSTART), "--config", "quickstart", "-o", "."], "is a folder; name a file in it"),
        (["nosuch.bin", "-o", "a.html"], "nosuch.bin: no such file or folder"),
        (["nosuch.rulebooks.npz", "-o", "a.html"], "nosuch.rulebooks.npz: cannot be read"),
    ],
)
def test_what_cannot_be_reported_is_refused(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(group, ["report", *arguments])
    assert done.exception is not None and message in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_a_report_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("mine", encoding="utf-8")
    done = CliRunner().invoke(group, ["report", "out", "-o", str(tmp_path / "a.html")])
    assert "exists; pass --overwrite" in str(done.exception)
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == "mine"


def test_a_scan_without_points_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "empty.bin").write_bytes(b"")
    config = spcli.load_preset("second-kitti", environ={})
    scan = spcli.read(str(tmp_path / "empty.bin"), config.columns)
    result = spcli.run(config, scan, want=spcli.Want(rulebooks=True, values=False))
    data = report_data(report_contents(result, scan))
    assert [level["rows"] for level in data["levels"]] == [0] * 5


def test_the_report_of_a_full_turn_is_under_a_megabyte(shared: Path) -> None:
    scan = shared / "data" / "kitti_000000_full.bin"
    config = spcli.load_preset("second-kitti", environ={})
    result = spcli.run(config, str(scan), want=spcli.Want(rulebooks=True, values=False))
    page = report_page(report_contents(result, str(scan), config.name))
    assert 0.5 * MEGABYTE < len(page.encode()) < MEGABYTE


def test_contents_can_be_made_without_a_file(street: RunResult) -> None:
    contents = ReportContents("by hand", "", street.network, street.rulebooks, street.stats)
    assert "<title>by hand</title>" in report_page(contents)
    assert not report_data(contents)["metres"]
