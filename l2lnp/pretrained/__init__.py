"""Learned optimizers that come with the package, as HDF5 files with their provenance."""
