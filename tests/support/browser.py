"""A headless Chromium that tests drive over the DevTools protocol.

It speaks through two pipes (`--remote-debugging-pipe`: JSON messages that end with a NUL byte), so it needs no port
and no package.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio",
    # WebGL without a graphics card.
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
)  # fmt: skip
ANSWER_S = 60.0


def find_browser() -> str | None:
    """The browser's path, None where none is installed."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One page in a browser of its own. `problems` collects what its console calls errors, and requests it makes."""

    def __init__(self, path: str, profile: Path, size: tuple[int, int] = (1400, 1000)) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        script = f'exec "$@" 3<&{commands} 4>&{answers}'
        window = f"--window-size={size[0]},{size[1]}"
        flags = [*FLAGS, window, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", script, "browser", path, *flags],
            pass_fds=(commands, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._read = b""
        self._number = 0
        self._session: str | None = None
        self.problems: list[str] = []
        self.requests: list[str] = []
        pages = [one for one in self._send("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        target = pages[0]["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable")
        self._send(
            "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False
        )

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self._commands, self._answers):
            os.close(pipe)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def open(self, page: Path, ready: str) -> None:
        """Load a file and wait until the expression `ready` is true in it."""
        self.problems.clear()
        self.requests.clear()
        self._send("Page.navigate", url=page.as_uri())
        deadline = time.monotonic() + ANSWER_S
        while not self.value(ready):
            assert time.monotonic() < deadline, f"{page} did not become ready: {self.problems}"

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives; promises are waited for."""
        answer = self._send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    @contextmanager
    def before(self, script: str) -> Iterator[None]:
        """Runs a script in every page before its own, for as long as the context lasts."""
        added = self._send("Page.addScriptToEvaluateOnNewDocument", source=script)
        yield
        self._send("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])

    def drawn(self) -> None:
        """Wait until the next two frames are drawn."""
        self.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def click(self, left: float, top: float) -> None:
        """Press and release the main button at a pixel of the window."""
        for kind in ("mousePressed", "mouseReleased"):
            self._send("Input.dispatchMouseEvent", type=kind, x=left, y=top, button="left", clickCount=1)

    def dark(self, dark: bool) -> None:
        """What the page is told of the user's wish for dark colours."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self._send("Page.captureScreenshot", format="png")["data"])

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            self._note(answer)
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                result: dict[str, Any] = answer["result"]
                return result

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            readable, _, _ = select.select([self._answers], [], [], ANSWER_S)
            data = os.read(self._answers, 1 << 20) if readable else b""
            assert data, "the browser ended or does not answer"
            self._read += data
        message, _, self._read = self._read.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        method, found = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown" or (method == "Runtime.consoleAPICalled" and found["type"] == "error"):
            self.problems.append(json.dumps(found))
        elif method == "Log.entryAdded" and found["entry"]["level"] == "error":
            self.problems.append(found["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(found["request"]["url"])
