"""A stand-in for `cupy.RawModule`."""


class RawModule:
    """None yet."""

    def __init__(self, **kwargs):
        raise NotImplementedError
