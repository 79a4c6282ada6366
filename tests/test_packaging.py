"""What is said twice about building, checking and citing spcli agrees, and a bad wheel is refused."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from spcli.doctor import NEEDED

ROOT = Path(__file__).resolve().parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
WHEEL = "spcli-0.1.0-py3-none-manylinux_2_34_x86_64.whl"


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def recipe(target: str) -> list[str]:
    """The commands of a target, each on one line."""
    (found,) = re.findall(rf"^{re.escape(target)}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    return [line.strip() for line in found.replace("\\\n", " ").splitlines()]


@pytest.fixture
def check_wheel(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT)
    return import_module("tools.check_wheel")


@pytest.fixture
def try_wheel(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT)
    return import_module("tools.try_wheel")


def test_the_hooks_run_what_make_lint_runs() -> None:
    (repository,) = read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    hooks = repository["hooks"]
    assert [hook["entry"] for hook in hooks] == [line.replace("$(BIN)", ".venv/bin") for line in recipe("lint")]
    assert all(hook["always_run"] and hook["pass_filenames"] is False for hook in hooks)


def test_the_citation_says_what_the_project_says() -> None:
    citation = read_yaml(ROOT / "CITATION.cff")
    assert f'\nversion = "{citation["version"]}"\n' in PROJECT
    assert f'\ndescription = "{citation["abstract"]}"\n' in PROJECT
    assert f'\nauthors = [{{ name = "{citation["authors"][0]["name"]}" }}]\n' in PROJECT


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_and_names_exact_actions(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    workflow = read_yaml(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets" not in text
    jobs = workflow["jobs"].values()
    assert all("permissions" not in job and job["timeout-minutes"] for job in jobs)
    assert all(re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line) for line in text.splitlines() if "uses:" in line)


def test_the_workflow_runs_the_script_that_checks_every_change() -> None:
    (job,) = read_yaml(ROOT / ".github" / "workflows" / "ci.yml")["jobs"].values()
    assert job["steps"][-1] == {"run": ".ci/run"}
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_every_tool_of_make_wheel_is_pinned() -> None:
    (install,) = (line for line in recipe("$(WHEEL_TOOLS)/stamp") if " install " in line)
    tools = install.split("constraints.txt")[1].split()
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    assert "auditwheel" in tools
    assert not [tool for tool in tools if f"\n{tool}==" not in constraints]


def test_both_trials_install_what_the_cpu_engine_needs(check_wheel: Any) -> None:
    project = pytest.importorskip("tomllib", reason="came with Python 3.11").loads(PROJECT)
    names = {re.split(r"[>=; ]", each)[0] for each in project["project"]["dependencies"]}
    assert names - check_wheel.LEFT_OUT == set(NEEDED)
    assert set(project["tool"]["cibuildwheel"]["test-requires"]) == set(NEEDED)
    assert tuple(project["project"]["license-files"]) == check_wheel.LICENCES


def test_a_wheel_should_hold_the_package_and_no_sources(check_wheel: Any) -> None:
    names = check_wheel.expected_names(WHEEL)
    assert {"spcli/__init__.py", "spcli/configs/quickstart.yaml", "spcli/engines/cpu/_cpu_v4.so"} <= names
    assert "spcli-0.1.0.dist-info/licenses/licenses/LICENSE-libgomp.txt" in names
    assert not [name for name in names if name.endswith((".cpp", ".hpp", ".md", ".sh"))]
    assert "spcli/engines/cpu/_cpu_v4.so" not in check_wheel.expected_names(WHEEL.replace("x86_64", "aarch64"))


def test_a_wheel_with_a_file_too_many_or_too_few_is_refused(check_wheel: Any) -> None:
    expected = {"spcli/a.py", "spcli.libs/libgomp-*.so.*"}
    good = ["spcli/", "spcli/a.py", "spcli.libs/libgomp-0a1b.so.1.0.0"]
    check_wheel.check_names(good, expected)
    with pytest.raises(check_wheel.UnfitWheel, match=r"^spcli/a\.cpp should not be in it$"):
        check_wheel.check_names([*good, "spcli/a.cpp"], expected)
    with pytest.raises(check_wheel.UnfitWheel, match=r"^spcli\.libs/libgomp-\*\.so\.\* should be in it and is not$"):
        check_wheel.check_names(good[:-1], expected)


@pytest.mark.parametrize("tag", ["py3-none-linux_x86_64", "cp312-cp312-manylinux_2_34_x86_64"])
def test_a_wheel_for_one_machine_or_one_python_is_refused(check_wheel: Any, tag: str) -> None:
    check_wheel.check_tag(WHEEL)
    with pytest.raises(check_wheel.UnfitWheel, match=f"the tag is {tag};"):
        check_wheel.check_tag(f"spcli-0.1.0-{tag}.whl")


def test_check_wheel_ends_with_a_sentence_where_there_is_no_wheel(check_wheel: Any) -> None:
    with pytest.raises(SystemExit, match=r"^check_wheel: name one wheel, not none\.whl$"):
        check_wheel.main(["none.whl"])


def test_only_the_libraries_of_the_wheel_may_be_loaded(try_wheel: Any, tmp_path: Path) -> None:
    engine = tmp_path / "spcli" / "engines" / "cpu" / "_cpu_v3.so"
    runtime = tmp_path / "spcli.libs" / "libgomp-0a1b.so.1.0.0"
    system = Path("/usr/lib/libgomp.so.1")
    lines = [f"7f00-7f01 r-xp 00000000 08:01 7    {path}" for path in (engine, engine, runtime, "/usr/lib/libc.so.6")]
    assert try_wheel.engine_libraries([*lines, "7f02-7f03 rw-p 00000000 00:00 0"]) == [engine, runtime]
    try_wheel.check_loaded([engine, runtime], tmp_path)
    with pytest.raises(try_wheel.UnfitInstallation, match=r"^/usr/lib/libgomp\.so\.1 was loaded, which is not in "):
        try_wheel.check_loaded([engine, runtime, system], tmp_path)
    with pytest.raises(try_wheel.UnfitInstallation, match=r"should be loaded from the wheel, not _cpu_v3\.so$"):
        try_wheel.check_loaded([engine], tmp_path)
