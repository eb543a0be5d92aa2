"""GapGrid: students x training mixes x seeds x benchmarks, rebuilt cell by cell."""

__version__ = "0.1.0"
