"""The jobs of `l2lnp.benchmarks.jobs` written for other frameworks, as their users would write them.

One file per framework; each has ``contenders(job)``, which returns the ways it knows to do
the job, or none.
"""
