"""What a stream does: launches and readings are counted; while it captures, launches are recorded.

A captured launch is not carried out: new arrays are full of NaN until the graph is launched, which
goes through all that was recorded. Recorded may be what CuPy does by elementwise kernels and copies on
the device, and our own kernels; not cuBLAS, no reduction, nothing that comes from the host or goes there.
"""

import numpy as np


class Device:
    """The one device of the stand-in."""

    def __init__(self):
        self.n_launches = 0
        self.n_readings = 0
        self.recorded = None  # while a stream captures: functions to be called one after the other
        self.is_broken = False

    def new(self, compute, *, is_kernel=True):
        """Return what ``compute`` returns, a new array of NumPy."""
        self.n_launches += is_kernel
        result = compute()
        if self.recorded is None or not is_kernel:
            return result
        arrays = result if isinstance(result, tuple | list) else [result]
        kept = [np.asarray(a) for a in arrays]

        def again():
            fresh = compute()
            for mine, a in zip(kept, fresh if isinstance(fresh, tuple | list) else [fresh], strict=True):
                mine[...] = a

        self.recorded.append(again)
        for a in kept:
            a.fill(np.nan if a.dtype.kind == "f" else 99)
        return result if isinstance(result, tuple | list) else kept[0]

    def change(self, compute):
        """Let ``compute`` change arrays in place."""
        self.n_launches += 1
        if self.recorded is None:
            compute()
        else:
            self.recorded.append(compute)

    def read(self):
        """Take note that the host waits for a number."""
        self.refuse("RuntimeError: the stream is capturing, and nothing can be read")
        self.n_readings += 1

    def refuse(self, what):
        """Raise an error if a stream captures, in which ``what`` cannot be done."""
        if self.recorded is not None:
            self.is_broken = True
            raise (NotImplementedError if "cuBLAS" in what else RuntimeError)(what)


DEVICE = Device()


class Graph:
    """What was recorded."""

    def __init__(self, recorded):
        self._recorded = recorded

    def __len__(self):
        return len(self._recorded)

    def launch(self, stream=None):
        DEVICE.n_launches += 1
        with np.errstate(all="ignore"):
            for again in self._recorded:
                again()


class Stream:
    """A stream that is not the default one."""

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        self._may_capture = non_blocking

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def synchronize(self):
        DEVICE.refuse("cudaErrorStreamCaptureUnsupported")

    def begin_capture(self, mode=None):
        assert self._may_capture, "capture on a stream that waits for the default one"
        assert DEVICE.recorded is None
        DEVICE.recorded, DEVICE.is_broken = [], False

    def end_capture(self):
        recorded, DEVICE.recorded = DEVICE.recorded, None
        if DEVICE.is_broken:
            raise RuntimeError("cudaErrorStreamCaptureInvalidated")
        return Graph(recorded)
