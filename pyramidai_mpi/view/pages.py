"""What may be asked for: one table. No part of a request ever becomes the name of a file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from pyramidai_mpi.view.description import tiles_over

if TYPE_CHECKING:
    from collections.abc import Callable
    from re import Match

    from pyramidai_mpi.view.opening import View

_JSON, _JPEG, _PNG, _BYTES = "application/json", "image/jpeg", "image/png", "application/octet-stream"
_SCRIPT = "text/javascript; charset=utf-8"
_ASSETS = {
    "": ("view/assets/view.html", "text/html; charset=utf-8"),
    "view.css": ("view/assets/view.css", "text/css; charset=utf-8"),
    "view.js": ("view/assets/view.js", _SCRIPT),
    "drawing.js": ("view/assets/drawing.js", _SCRIPT),
    "grid.js": ("view/assets/grid.js", _SCRIPT),
    "panel.js": ("view/assets/panel.js", _SCRIPT),
    "openseadragon.js": ("export/assets/openseadragon/openseadragon.min.js", _SCRIPT),
}
"""Part of the address after the token, the file of the package, and its type."""

_NUMBER = "(0|[1-9][0-9]{0,8})"


@dataclass(frozen=True)
class Answer:
    """A type and a body."""

    kind: str
    body: bytes


class Pages:
    """Answers by the part of the address after the token.

    Parameters
    ----------
    view
        What is viewed.
    """

    def __init__(self, view: View) -> None:
        package = files("pyramidai_mpi")
        self._view = view
        self._fixed = {
            name: Answer(kind, package.joinpath(path).read_bytes()) for name, (path, kind) in _ASSETS.items()
        }
        self._fixed["result.json"] = Answer(_JSON, view.description.encode())
        self._fixed["scores.png"] = Answer(_PNG, view.scores)
        self._fixed["decisions"] = Answer(_BYTES, view.decisions)
        self._fixed["tissue"] = Answer(_BYTES, view.tissue)
        if view.annotations is not None:
            self._fixed["annotations.json"] = Answer(_JSON, view.annotations.encode())
        self._made: tuple[tuple[re.Pattern[str], Callable[[Match[str]], Answer | None]], ...] = (
            (re.compile(f"slide/{_NUMBER}/{_NUMBER}_{_NUMBER}", re.ASCII), self._tile),
            (re.compile(f"thumbnail/{_NUMBER}/{_NUMBER}_{_NUMBER}", re.ASCII), self._thumbnail),
            (re.compile(f"at/{_NUMBER}_{_NUMBER}", re.ASCII), self._at),
            (re.compile(r"regions\.json", re.ASCII), self._regions),
            (re.compile(rf"explained/{_NUMBER}/{_NUMBER}_{_NUMBER}\.png", re.ASCII), self._explained),
            (re.compile(f"explained/at/{_NUMBER}_{_NUMBER}", re.ASCII), self._explained_at),
        )

    def answer(self, asked: str) -> Answer | None:
        """What is asked for; None where there is no such thing.

        Raises
        ------
        InputError
            When result or slide were changed since they were opened.
        """
        if asked in self._fixed:
            return self._fixed[asked]
        for pattern, make in self._made:
            if found := pattern.fullmatch(asked):
                return make(found)
        return None

    def _tile(self, found: Match[str]) -> Answer | None:
        tiles = self._view.tiles
        part = tiles.part(int(found[1]), int(found[2]), int(found[3]))
        return None if part is None else Answer(_PNG if tiles.readers is None else _JPEG, tiles.slide(part))

    def _thumbnail(self, found: Match[str]) -> Answer | None:
        body = self._view.tiles.thumbnail(int(found[1]), int(found[2]), int(found[3]))
        return None if body is None else Answer(_JPEG, body)

    def _at(self, found: Match[str]) -> Answer:
        tiles = tiles_over(self._view.tiles, int(found[1]), int(found[2]))
        return Answer(_JSON, json.dumps(tiles, allow_nan=False).encode())

    def _explained(self, found: Match[str]) -> Answer | None:
        part = self._view.tiles.part(int(found[1]), int(found[2]), int(found[3]))
        explained = self._view.explained
        return None if part is None or explained is None else Answer(_PNG, explained.picture(part))

    def _explained_at(self, found: Match[str]) -> Answer | None:
        if self._view.explained is None:
            return None
        return Answer(
            _JSON, json.dumps(self._view.explained.at(int(found[1]), int(found[2])), allow_nan=False).encode()
        )

    def _regions(self, found: Match[str]) -> Answer:
        return Answer(_JSON, self._view.regions().encode())
