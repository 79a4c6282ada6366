"""From scans to results: `run` does one scan, `session` keeps a network ready for many, `batch` leaves files."""
