"""A real browser without a window, spoken to in the words of W3C WebDriver."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the standard's name of an element reference
_KEYS = {"Tab": "\ue004", "Shift": "\ue008", "Escape": "\ue00c", "Space": "\ue00d", "Enter": "\ue007",
         "Left": "\ue012", "Up": "\ue013", "Right": "\ue014", "Down": "\ue015"}  # fmt: skip
_ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
              "--disable-dev-shm-usage", "--force-color-profile=srgb"]  # fmt: skip


class Browser:
    """One page in a browser."""

    def __init__(self, address: str, capabilities: dict[str, Any]) -> None:
        self._address = address
        session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self._address += f"/session/{session['sessionId']}"

    def open(self, page: Path | str) -> None:
        """Show a file, or what is at an address."""
        self._call("POST", "/url", {"url": page if isinstance(page, str) else page.resolve().as_uri()})

    def resize(self, width: int, height: int) -> None:
        """Give the page this many pixels; a window alone would be 500 wide at least."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        body = {"cmd": "Emulation.setDeviceMetricsOverride", "params": size}
        self._call("POST", "/goog/cdp/execute", body)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self._call("POST", "/execute/sync", {"script": script, "args": arguments})

    def click(self, selector: str) -> None:
        """Click an element as a person would; fails where something covers it."""
        self._call("POST", f"/element/{self._element(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Press keys in an element."""
        self._call("POST", f"/element/{self._element(selector)}/value", {"text": text})

    def press(self, *keys: str) -> None:
        """Press keys one after the other, wherever the focus is; of a key like "Shift+a" the first is held."""
        steps: list[dict[str, Any]] = []
        for key in keys:
            *held, last = key.split("+") if len(key) > 1 else [key]
            down = [{"type": "keyDown", "value": _KEYS.get(one, one)} for one in (*held, last)]
            steps += [*down, *({"type": "keyUp", "value": one["value"]} for one in reversed(down))]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": steps}]})

    def hover(self, selector: str, right: int = 0, down: int = 0) -> None:
        """Move the mouse to a place, counted from the middle of an element."""
        step = {"type": "pointerMove", "origin": {_ELEMENT: self._element(selector)}, "x": right, "y": down,
                "duration": 20}  # fmt: skip
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": [step]}
        self._call("POST", "/actions", {"actions": [mouse]})

    def drag(self, selector: str, right: int, down: int) -> None:
        """Press the mouse in the middle of an element, move it, let go."""
        origin = {_ELEMENT: self._element(selector)}
        steps = [
            {"type": "pointerMove", "origin": origin, "x": 0, "y": 0, "duration": 0},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerMove", "origin": "pointer", "x": right, "y": down, "duration": 50},
            {"type": "pointerUp", "button": 0},
        ]
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": steps}
        self._call("POST", "/actions", {"actions": [mouse]})

    def point(self, selector: str, right: int, down: int, kind: str = "mouse") -> None:
        """Go to a place beside the middle of an element with the mouse, or touch it there ("touch")."""
        steps: list[dict[str, Any]] = [
            {"type": "pointerMove", "origin": {_ELEMENT: self._element(selector)}, "x": right, "y": down, "duration": 0}
        ]
        if kind == "touch":
            steps += [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        pointer = {"type": "pointer", "id": kind, "parameters": {"pointerType": kind}, "actions": steps}
        self._call("POST", "/actions", {"actions": [pointer]})

    def turn_wheel(self, selector: str, down: int) -> None:
        """Turn the wheel over the middle of an element."""
        step = {"type": "scroll", "x": 0, "y": 0, "deltaX": 0, "deltaY": down, "duration": 0,
                "origin": {_ELEMENT: self._element(selector)}}  # fmt: skip
        self._call("POST", "/actions", {"actions": [{"type": "wheel", "id": "wheel", "actions": [step]}]})

    def screenshot(self, path: Path) -> None:
        """Save what is seen as PNG."""
        path.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

    def log(self) -> list[str]:
        """What the page and the browser have complained of since the last call."""
        return [entry["message"] for entry in self._call("POST", "/se/log", {"type": "browser"})]

    def close(self) -> None:
        """End the browser."""
        self._call("DELETE", "")

    def _element(self, selector: str) -> str:
        return self._call("POST", "/element", {"using": "css selector", "value": selector})[_ELEMENT]

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._address + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"].splitlines()[0]) from error


@contextmanager
def browser(folder: Path, *, dark: bool = False, still: bool = False) -> Iterator[Browser]:
    """A Chromium that writes nowhere but to `folder`; the test is skipped where there is none.

    Its reader may like it dark, and may like nothing to glide.
    """
    driver = shutil.which("chromedriver")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if driver is None or program is None:
        pytest.skip("no Chromium with chromedriver on this machine (Debian: apt install chromium chromium-driver)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_until_ready(address)
        arguments = [*_ARGUMENTS, f"--user-data-dir={folder}"]
        arguments += ["--blink-settings=preferredColorScheme=0"] if dark else []
        arguments += ["--force-prefers-reduced-motion"] if still else []
        page = Browser(
            address,
            {
                "browserName": "chrome",
                "goog:chromeOptions": {"binary": program, "args": arguments},
                "goog:loggingPrefs": {"browser": "ALL"},
            },
        )
        try:
            yield page
        finally:
            page.close()
    finally:
        process.terminate()
        process.wait(20)


def _wait_until_ready(address: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/status", timeout=5) as answer:
                if json.load(answer)["value"]["ready"]:
                    return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("chromedriver did not start")
