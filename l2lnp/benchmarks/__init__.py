"""Benchmarks of the library: its jobs, how they are timed, and the goals they are held against.

Opponents, the same jobs written for other frameworks, are part of the source repository
(``tests/benchmarks/opponents``), not of the package.
"""
