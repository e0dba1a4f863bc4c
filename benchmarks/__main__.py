"""Runs every benchmark: python -m benchmarks."""

from benchmarks import training

training.main()
