"""What the benchmarks of both engines need: workloads, references, processes, pages of results."""
