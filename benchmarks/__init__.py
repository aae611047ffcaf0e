"""Measurements, not tests: ``make bench``, or ``python -m benchmarks.NAME [--quick]`` from the root of the repository.

What is compared is measured in turns (A B, B A, ...) in processes that live side by side, of which only the one that
is measured runs. A figure is the median of the ratios of pairs, with its 95 % interval and its range. See
``docs/benchmarks.md``.
"""
