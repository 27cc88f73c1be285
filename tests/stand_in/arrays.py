"""A stand-in for `cupy.ndarray`: NumPy underneath, and as strict as an array on a device.

Nothing turns into a NumPy array but by ``get()`` and ``item()``, no NumPy array is taken
for an operand, and only the methods of CuPy 14 exist, with their parameters.
"""

import operator

import numpy as np
from stand_in.graphs import DEVICE

SCALARS = (bool, int, float, complex, np.generic)


def as_device(value):
    """Return what NumPy gave as a device would: arrays and NumPy's scalars become stand-ins."""
    if isinstance(value, np.ndarray | np.generic):
        return ndarray(np.asarray(value))
    if isinstance(value, tuple | list):
        return (
            type(value)(map(as_device, value))
            if type(value) in (tuple, list)
            else tuple(map(as_device, value))
        )
    return value


def as_host(value):
    """Return the NumPy array inside a stand-in; NumPy arrays themselves are refused."""
    if isinstance(value, ndarray):
        return value._a
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, tuple | list):
        return type(value)(map(as_host, value))
    return value


def operand(value):
    """Return an operand of arithmetic: a stand-in's array, or a scalar."""
    if isinstance(value, (ndarray, *SCALARS)):
        return as_host(value)
    raise TypeError(f"Unsupported type {type(value)}")


class Flags:
    """What CuPy tells of an array's memory; it has no flag that can be set."""

    def __init__(self, a):
        self.c_contiguous = a.flags.c_contiguous
        self.f_contiguous = a.flags.f_contiguous
        self.owndata = a.flags.owndata


class Memory:
    """The address, as ``a.data.ptr``."""

    def __init__(self, a):
        self.ptr = a.ctypes.data


class ndarray:  # noqa: N801 (its name in CuPy)
    """A device array."""

    __hash__ = None
    __array_ufunc__ = None  # a NumPy array cannot be added to it, nor NumPy's functions be called on it

    def __init__(self, a):
        self._a = a

    def __array__(self, *args, **kwargs):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_function__(self, function, *rest):
        raise TypeError(f"numpy.{function.__name__} was called on a device array")

    shape = property(lambda self: self._a.shape)
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    itemsize = property(lambda self: self._a.itemsize)
    nbytes = property(lambda self: self._a.nbytes)
    strides = property(lambda self: self._a.strides)
    T = property(lambda self: ndarray(self._a.T))
    flags = property(lambda self: Flags(self._a))
    data = property(lambda self: Memory(self._a))

    def get(self, stream=None, order="C", out=None, blocking=True):
        if blocking:
            DEVICE.read()
        if out is None:
            return self._a.copy(order)
        out[...] = self._a
        return out

    def item(self):
        DEVICE.read()
        return self._a.item()

    def tolist(self):
        DEVICE.read()
        return self._a.tolist()

    def tobytes(self, order="C"):
        DEVICE.read()
        return self._a.tobytes(order)

    def __float__(self):
        DEVICE.read()
        return float(self._a)

    def __int__(self):
        DEVICE.read()
        return int(self._a)

    def __bool__(self):
        DEVICE.read()
        return bool(self._a)

    def __len__(self):
        return len(self._a)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __contains__(self, value):
        raise TypeError("'in' is no operation of a device array")

    def __repr__(self):
        return f"device {self._a!r}"

    def __getitem__(self, key):
        keys = key if isinstance(key, tuple) else (key,)
        keys = tuple(map(as_host, keys))
        if not any(k is Ellipsis for k in keys):
            keys = (*keys, Ellipsis)  # single elements are views too
        return self._viewed(lambda: self._a[keys], "an index that comes from the host")

    def _viewed(self, compute, what=None):
        """Return a view, or a copy made on the device; ``what`` makes a copy that a stream cannot capture."""
        if np.may_share_memory(found := compute(), self._a) or found.size == 0:
            return ndarray(found)
        if what is not None:
            DEVICE.refuse(what)
        return ndarray(DEVICE.new(compute))

    def __setitem__(self, key, value):
        keys, value = as_host(key), operand(value)
        if any(isinstance(k, list | np.ndarray) for k in (keys if isinstance(keys, tuple) else (keys,))):
            DEVICE.refuse("an index that comes from the host")
        DEVICE.change(lambda: self._a.__setitem__(keys, value))

    def reshape(self, *shape, order="C"):
        return self._viewed(lambda: self._a.reshape(*shape, order=order))

    def ravel(self, order="C"):
        return self._viewed(lambda: self._a.ravel(order))

    def flatten(self, order="C"):
        return self._viewed(lambda: self._a.flatten(order))

    def transpose(self, *axes):
        return ndarray(self._a.transpose(*axes))

    def swapaxes(self, axis1, axis2):
        return ndarray(self._a.swapaxes(axis1, axis2))

    def squeeze(self, axis=None):
        return ndarray(self._a.squeeze(axis))

    def view(self, dtype=None):
        return ndarray(self._a.view() if dtype is None else self._a.view(dtype))

    def copy(self, order="C"):
        return ndarray(DEVICE.new(lambda: self._a.copy(order)))

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        return self._viewed(lambda: self._a.astype(dtype, order, copy=copy))

    def fill(self, value):
        value = operand(value)
        DEVICE.change(lambda: self._a.fill(value))

    def dot(self, b, out=None):
        DEVICE.refuse("cuBLAS cannot be captured")
        return as_device(self._a.dot(as_host(b), as_host(out)))

    def repeat(self, repeats, axis=None):
        return ndarray(DEVICE.new(lambda: self._a.repeat(repeats, axis)))

    def take(self, indices, axis=None, out=None):
        indices = as_host(indices)
        if not isinstance(indices, np.ndarray):
            DEVICE.refuse("an index that comes from the host")
        return ndarray(DEVICE.new(lambda: self._a.take(indices, axis, as_host(out))))

    def clip(self, min=None, max=None, out=None):
        assert out is None
        low, high = operand(min), operand(max)
        return ndarray(DEVICE.new(lambda: self._a.clip(low, high)))

    def argsort(self, axis=-1, kind=None):
        DEVICE.refuse("a sort cannot be captured")
        return ndarray(self._a.argsort(axis, kind))

    def trace(self, offset=0, axis1=0, axis2=1, dtype=None, out=None):
        DEVICE.refuse("a reduction is not to be captured")
        return as_device(self._a.trace(offset, axis1, axis2, dtype, as_host(out)))

    def diagonal(self, offset=0, axis1=0, axis2=1):
        return ndarray(self._a.diagonal(offset, axis1, axis2))

    def nonzero(self):
        DEVICE.read()
        return as_device(self._a.nonzero())


def _reduction(name, takes_dtype):
    def reduce(self, axis=None, out=None, keepdims=False):
        DEVICE.refuse("a reduction is not to be captured")
        DEVICE.n_launches += 1
        return as_device(getattr(self._a, name)(axis=axis, out=as_host(out), keepdims=keepdims))

    def reduce_as(self, axis=None, dtype=None, out=None, keepdims=False):
        DEVICE.refuse("a reduction is not to be captured")
        DEVICE.n_launches += 1
        return as_device(getattr(self._a, name)(axis=axis, dtype=dtype, out=as_host(out), keepdims=keepdims))

    return reduce_as if takes_dtype else reduce


for _name in ("sum", "mean", "prod", "var", "std"):
    setattr(ndarray, _name, _reduction(_name, True))
for _name in ("max", "min", "any", "all", "argmax", "argmin"):
    setattr(ndarray, _name, _reduction(_name, False))


def _cumulative(name):
    return lambda self, axis=None, dtype=None, out=None: ndarray(
        getattr(self._a, name)(axis, dtype, as_host(out))
    )


for _name in ("cumsum", "cumprod"):
    setattr(ndarray, _name, _cumulative(_name))


def _quietly(function, *values):
    if function is operator.__matmul__:
        DEVICE.refuse("cuBLAS cannot be captured")
    with np.errstate(all="ignore"):  # a device says nothing of infinities
        return as_device(DEVICE.new(lambda: function(*values)))


def _unary(function):
    return lambda self: _quietly(function, self._a)


def _binary(function):
    return lambda self, other: _quietly(function, self._a, operand(other))


def _reflected(function):
    return lambda self, other: _quietly(function, operand(other), self._a)


def _in_place(function):
    def change(self, other):
        other = operand(other)
        with np.errstate(all="ignore"):
            DEVICE.change(lambda: function(self._a, other))
        return self

    return change


_ARITHMETIC = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
for _name in (*_ARITHMETIC, "eq", "ne", "lt", "le", "gt", "ge"):
    setattr(ndarray, f"__{_name}__", _binary(getattr(operator, f"__{_name}__")))
for _name in _ARITHMETIC:
    setattr(ndarray, f"__r{_name}__", _reflected(getattr(operator, f"__{_name}__")))
    if _name != "matmul":  # which CuPy does not have in place
        setattr(ndarray, f"__i{_name}__", _in_place(getattr(operator, f"__i{_name}__")))
for _name in ("neg", "pos", "abs", "invert"):
    setattr(ndarray, f"__{_name}__", _unary(getattr(operator, f"__{_name}__")))

ndarray.__module__ = "cupy"
