"""Data sets: from the official files to mini-batches.

`load_dataset` gives a `Dataset` by name or from a file in the one HDF5 layout
(`l2lnp.data.hdf5`); one module per data set reads its official files.
"""

from l2lnp.data.dataset import Dataset, Split
from l2lnp.data.hdf5 import Description, write_dataset
from l2lnp.data.loading import load_dataset

__all__ = ["Dataset", "Description", "Split", "load_dataset", "write_dataset"]
