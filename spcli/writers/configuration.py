"""`config.yaml`: the resolved configuration beside the results it explains."""

from __future__ import annotations

import hashlib
import os

from spcli.writers.atomic import write_text

CONFIGURATION = "config.yaml"


def write_configuration(folder: str, text: str) -> None:
    """Write `config.yaml`; another configuration that is there stays beside it as `config.<digest>.yaml`.

    The manifest names the configuration of every result by digest, so nothing in the folder loses its explanation.

    Raises:
        UsageError: the folder cannot be written.
    """
    path = os.path.join(folder, CONFIGURATION)
    if os.path.isfile(path):
        with open(path, "rb") as file:
            before = file.read()
        if before != text.encode():
            os.replace(path, os.path.join(folder, f"config.{hashlib.sha256(before).hexdigest()[:12]}.yaml"))
    write_text(path, text)
