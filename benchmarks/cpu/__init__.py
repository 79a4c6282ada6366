"""The CPU engine beside its peers; `python -m benchmarks.cpu.peers` is what one runs."""
