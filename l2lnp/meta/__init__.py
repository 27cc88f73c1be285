"""Unrolled optimisation, its meta-gradient, and joint training."""
