"""The few hot loops, one file per backend."""
