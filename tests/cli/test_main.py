"""Start-up, help, exit codes, pipes and signals: what holds for every command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from spcli.cli import group as group_module
from spcli.cli.group import COMMANDS, group

HEAVY = ("numpy", "msgspec", "yaml", "torch", "open3d")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"]])
def test_help_and_version_import_nothing_heavy(environment, arguments):
    code = (
        "import sys; from spcli.cli.main import _guarded; _guarded(sys.argv[1:]);"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, env=environment, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_run_on_the_cpu_imports_neither_torch_nor_open3d(environment, folder, tmp_path):
    code = (
        "import sys; from spcli.cli.main import _guarded; assert _guarded(sys.argv[1:]) == 0;"
        "print([name for name in ('torch', 'open3d', 'safetensors', 'tqdm', 'zipfile') if name in sys.modules])"
    )
    arguments = [
        "-q",
        "run",
        "--config",
        folder / "tiny.yaml",
        folder / "scan.bin",
        "-o",
        tmp_path,
        "--write",
        "features",
    ]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, env=environment, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def every_command() -> list[list[str]]:
    context = click.Context(group)
    commands = [[name] for name in COMMANDS]
    nested = group.get_command(context, "config")
    return [*commands, *(["config", name] for name in nested.commands)]


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_every_command_has_help_with_an_example(spcli, command):
    long, short = spcli(*command, "--help"), spcli(*command, "-h")
    assert long == short
    assert long.code == 0
    assert f"\n    spcli {' '.join(command)}" in long.out.decode()
    assert long.err == ""


def test_the_short_help_is_the_first_sentence_of_the_command(spcli):
    for name, (module, short) in COMMANDS.items():
        command = group.get_command(click.Context(group), name)
        assert command.help.startswith(short), module


def test_the_version_is_that_of_the_package(spcli):
    import spcli as package

    assert spcli("--version").out.decode() == f"spcli {package.__version__}\n"
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'\nversion = "{package.__version__}"\n' in project or "dynamic" in project


def test_a_misspelt_command_is_a_usage_error_with_a_suggestion(spcli):
    outcome = spcli("voxelise")
    assert (outcome.code, outcome.out) == (2, b"")
    assert "did you mean 'voxelize'?" in outcome.err


@pytest.mark.parametrize("arguments", [["run"], ["info"], ["voxelize", "--nonsense"], ["stats", "--format", "xml"]])
def test_wrong_usage_is_exit_2_on_standard_error(spcli, arguments):
    outcome = spcli(*arguments)
    assert (outcome.code, outcome.out) == (2, b"")
    assert "Traceback" not in outcome.err
    assert outcome.err


def test_an_expected_error_is_one_sentence_and_a_traceback_only_with_vv(spcli):
    quiet = spcli("info", "no/such/file.bin")
    assert quiet.code == 4
    assert quiet.err == "spcli: error: no/such/file.bin: no such file; check the path\n"
    assert "Traceback" in spcli("info", "no/such/file.bin", "-vv").err
    assert "Traceback" in spcli("-vv", "info", "no/such/file.bin").err


def test_an_unexpected_error_is_exit_1_without_a_traceback(spcli, monkeypatch):
    monkeypatch.setitem(COMMANDS, "info", ("spcli.no_such_module", ""))
    outcome = spcli("info", "x")
    assert outcome.code == 1
    assert outcome.err.startswith("spcli: error: unexpected ModuleNotFoundError")
    assert "Traceback" not in outcome.err


def test_memory_running_out_is_a_sentence(spcli, monkeypatch):
    def exhausted(*args):
        raise MemoryError

    monkeypatch.setattr(group_module, "import_module", exhausted)
    outcome = spcli("info", "x")
    assert outcome.code == 1
    assert "there is not enough memory" in outcome.err


@pytest.mark.parametrize(
    "pipe",
    ["$SPCLI --help | head -1", "$SPCLI config schema | head -1", "$SPCLI inspect-rulebook {dump} | head -1",
     "$SPCLI inspect-rulebook {dump} --format csv | head -1"],
)  # fmt: skip
def test_a_closed_pipe_is_exit_0_with_nothing_on_standard_error(shell, results, pipe):
    outcome = shell(pipe.format(dump=results / "scan.rulebooks.npz"))
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.count(b"\n") == 1


def test_output_into_a_pipe_nobody_reads_is_exit_0(environment):
    """The reader is gone before anything is written, so the error comes with the last flush."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "spcli", "config", "init"], stdout=write, stderr=subprocess.PIPE, env=environment
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_behind_standard_output_is_an_error(environment):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "spcli", "config", "init"], stdout=full, stderr=subprocess.PIPE, env=environment
        )
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_process_without_standard_output_does_its_work(shell, folder):
    outcome = shell(f"$SPCLI -q voxelize {folder}/scan.bin --config {folder}/tiny.yaml -o out >&- && ls out")
    assert (outcome.code, outcome.err) == (0, "")
    assert b"scan.voxels.npz" in outcome.out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_batch_without_half_files(environment, folder, tmp_path, number, code):
    """Sent when the first of many records is there, so that the others are being read, computed and written."""
    paths = tmp_path / "list"
    copies = [tmp_path / f"scan{i:03}.bin" for i in range(300)]
    for copy in copies:
        copy.symlink_to(folder / "scan.bin")
    paths.write_text("\n".join(map(str, copies)))
    arguments = ["run", "--config", folder / "tiny.yaml", "--from-file", paths, "-o", tmp_path / "out", "-q"]
    with subprocess.Popen(
        [sys.executable, "-m", "spcli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as running:
        assert json.loads(running.stdout.readline())["ok"]
        running.send_signal(number)
        out, err = running.communicate(timeout=60)
    assert running.returncode == code
    assert b"Traceback" not in err
    assert out.count(b"\n") < 299
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert not [name for name in names if name.startswith(".")]
    entries = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert {name for entry in entries for name in entry["outputs"].values()} <= names


def test_shell_completion_comes_from_click(shell):
    outcome = shell("_SPCLI_COMPLETE=bash_source $SPCLI")
    assert outcome.code == 0
    assert b"_SPCLI_COMPLETE=bash_complete" in outcome.out
    words = shell("COMP_WORDS='spcli inspect' COMP_CWORD=1 _SPCLI_COMPLETE=bash_complete $SPCLI")
    assert b"inspect-rulebook" in words.out
    for start, name in (("ver", b"verify"), ("expl", b"explain"), ("di", b"diff")):
        words = shell(f"COMP_WORDS='spcli {start}' COMP_CWORD=1 _SPCLI_COMPLETE=bash_complete $SPCLI")
        assert words.out == b"plain," + name + b"\n"
