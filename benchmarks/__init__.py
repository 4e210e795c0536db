"""Benchmarks: how fast the project is, each time against the other side of a comparison in the same run."""
