"""What a person at a terminal sees: tables on standard output, a progress bar on standard error."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import threading

import pytest


class Terminal:
    """A terminal of 40 x 120 whose output is collected."""

    def __init__(self) -> None:
        self._leader, self.end = pty.openpty()
        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self._parts: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            while part := os.read(self._leader, 65536):
                self._parts.append(part)
        except OSError:  # Linux ends a terminal that nobody holds any more with EIO
            pass

    def text(self) -> str:
        """Everything written, once all writers are gone."""
        os.close(self.end)
        self._reader.join()
        os.close(self._leader)
        return b"".join(self._parts).decode()


@pytest.fixture
def command(environment, folder, config, tmp_path):
    inputs = (folder / "scan.bin", folder / "other.bin", folder / "one.bin")
    arguments = ("voxelize", *inputs, "--config", config, "-o", tmp_path / "out")
    return {"args": [sys.executable, "-m", "spcli", *arguments], "env": environment | {"TERM": "xterm"}}


def test_a_batch_draws_a_bar_where_standard_error_is_a_terminal(command):
    terminal = Terminal()
    done = subprocess.run(**command, stdout=subprocess.PIPE, stderr=terminal.end)
    shown = terminal.text()
    assert done.returncode == 0
    assert "0/3" in shown
    assert "warning" in shown
    assert [json.loads(line)["ok"] for line in done.stdout.splitlines()] == [True] * 3


def test_quiet_draws_none(command):
    terminal = Terminal()
    subprocess.run(command["args"] + ["-q"], env=command["env"], stdout=subprocess.DEVNULL, stderr=terminal.end)
    assert terminal.text() == ""


def test_records_are_a_table_where_standard_output_is_a_terminal(command):
    terminal = Terminal()
    done = subprocess.run(**command, stdout=terminal.end, stderr=subprocess.PIPE)
    header, *rows = terminal.text().splitlines()
    assert header.split() == ["ok", "points", "voxels", "s", "source"]
    assert [row.split()[0] for row in rows] == ["yes"] * 3
    assert b"scan/s" not in done.stderr
