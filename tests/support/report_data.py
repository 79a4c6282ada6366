"""What tests of the report are made from."""

from __future__ import annotations

from pathlib import Path

QUICKSTART = Path(__file__).resolve().parents[2] / "sample_data" / "street_000.bin"
