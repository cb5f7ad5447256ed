"""OpenSeadragon is shipped as its makers published it."""

from __future__ import annotations

import configparser
import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "pyramidai_mpi" / "export" / "assets" / "openseadragon"


def test_it_is_the_file_of_the_package():
    said = re.search(r"\| SHA-256 \| `([0-9a-f]{64})`", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert said is not None
    data = (FOLDER / "openseadragon.min.js").read_bytes()
    assert hashlib.sha256(data).hexdigest() == said[1]
    assert data.startswith(b"//! openseadragon 6.1.1\n")


def test_its_licences_and_notices_are_installed_with_it():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    assert "export/assets/openseadragon/*" in re.split(r",\s*", config["options.package_data"]["pyramidai_mpi"])
    licence = (FOLDER / "LICENSE.txt").read_text(encoding="utf-8")
    assert "OpenSeadragon contributors" in licence
    assert "Redistributions in binary form" in licence
    notices = (FOLDER / "NOTICES.txt").read_text(encoding="utf-8")
    assert all(name in notices for name in ("John Resig", "Matt Snider", "Gregg Tavares", "Google Inc."))
    assert "Apache License" in (FOLDER / "LICENSE-Apache-2.0.txt").read_text(encoding="utf-8")
