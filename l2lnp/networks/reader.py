"""Read a network from TOML: a list of ``[[layer]]`` tables, each with its kind and sizes.

Input sizes are not written there: they follow from the data and the layers before.
The format is described in ``docs/network_files.md``.
"""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

from l2lnp.errors import InputError, unknown_name
from l2lnp.layers import (
    LSTM,
    Activation,
    AvgPool2D,
    Conv2D,
    Flatten,
    FullyConnected,
    MaxPool2D,
    MeanSquaredError,
    Rows,
    SoftmaxCrossEntropy,
)
from l2lnp.layers.base import Layer, Shape
from l2lnp.network import Sequential

LOSSES: dict[str, type[SoftmaxCrossEntropy] | type[MeanSquaredError]] = {
    "softmax_cross_entropy": SoftmaxCrossEntropy,
    "mean_squared_error": MeanSquaredError,
}
ACTIVATIONS = ("relu", "leaky_relu", "tanh", "sigmoid", "softplus", "elu", "identity")

Size = int | list[int]

_MOST = 1 << 31  # numbers of a sample in a layer, or in one of its tensors: more are a slip

_FORMS = {1: "a vector (features)", 2: "a sequence (features, time)", 3: "an image (channels, rows, columns)"}
_CURES = {(3, 1): ": put a flatten layer before it", (3, 2): ": put a rows layer before it"}


def read_network(text: str, source: str, input_shape: Shape, n_classes: int) -> Sequential:
    """Return the network that ``text`` describes.

    Parameters
    ----------
    source
        Where the text comes from, for the error messages.
    input_shape
        Of one sample: (C, H, W) for images.
    n_classes
        The size that ``n_out = "classes"`` stands for, and that the last layer must have.

    Raises
    ------
    InputError
        With the layer and the sizes that do not fit.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source} is not valid TOML: {error}") from None
    for key in document:
        if key not in ("name", "description", "loss", "layer"):
            raise InputError(
                f"{source}: {unknown_name('key', key, ('name', 'description', 'loss', 'layer'))}"
            )
    loss = document.get("loss", "softmax_cross_entropy")
    if not isinstance(loss, str) or loss not in LOSSES:
        raise InputError(f"{source}: {unknown_name('loss', str(loss), LOSSES)}")
    layers = _read_layers(document.get("layer"), source, input_shape, n_classes)
    try:
        return Sequential(layers, LOSSES[loss](), input_shape)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def _read_layers(tables: Any, source: str, shape: Shape, n_classes: int) -> tuple[Layer, ...]:
    if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
        raise InputError(f"{source} describes no layer: it needs [[layer]] tables, each with a kind")
    layers = []
    for number, table in enumerate(tables, start=1):
        try:
            layer, shape = _read_layer(table, shape, n_classes)
        except InputError as error:
            # the layer's own name, if it gave one, is said already
            reason = str(error).rpartition(" layer: ")[2]
            kind = f" ({table['kind']})" if isinstance(table.get("kind"), str) else ""
            raise InputError(f"{source}, layer {number}{kind}: {reason}") from None
        layers.append(layer)
    if shape != (n_classes,):
        raise InputError(
            f"{source}: the last layer gives {_show(shape)}, but the data has {n_classes} classes"
        )
    return tuple(layers)


def _read_layer(table: dict[str, Any], shape: Shape, n_classes: int) -> tuple[Layer, Shape]:
    settings = dict(table)
    kind = settings.pop("kind", None)
    if kind is None:
        raise InputError("it has no kind")
    if not isinstance(kind, str):
        raise InputError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    if kind not in KINDS:
        raise unknown_name("kind of layer", kind, KINDS)
    n_axes, build = KINDS[kind]
    if settings.get("n_out") == "classes":
        settings["n_out"] = n_classes
    _check_settings(build, settings)
    if n_axes is not None and len(shape) != n_axes:
        cure = _CURES.get((len(shape), n_axes), "")
        raise InputError(f"it needs {_FORMS[n_axes]}, but gets {_show(shape)}{cure}")
    layer = build(shape, **settings)
    output_shape = layer.output_shape(shape)
    for what, of in {"output": output_shape, **layer.param_shapes()}.items():
        if prod(of) > _MOST:
            raise InputError(f"its {what} would be {' x '.join(map(str, of))}, more than {_MOST} numbers")
    return layer, output_shape


def _check_settings(build: Callable[..., Layer], settings: dict[str, Any]) -> None:
    known = dict(list(inspect.signature(build).parameters.items())[1:])
    for name, value in settings.items():
        if name not in known:
            raise unknown_name("setting", name, known) if known else InputError(f"it has no setting '{name}'")
        if not _fits(name, value):
            forms = [f"a whole number up to {_MOST}"] * (name != "returns")
            forms += ["two of them"] * (name in _PAIRS)
            forms += [f"'{word}'" for word in _WORDS.get(name, ())]
            raise InputError(f"{name} must be {' or '.join(forms)}, not {value!r}")
    missing = [name for name, p in known.items() if p.default is p.empty and name not in settings]
    if missing:
        raise InputError(f"it needs {' and '.join(missing)}")


def _fits(name: str, value: Any) -> bool:
    if isinstance(value, str):
        return value in _WORDS.get(name, ())
    if name in _PAIRS and isinstance(value, list) and len(value) == 2:
        return all(type(v) is int and v <= _MOST for v in value)
    return type(value) is int and value <= _MOST and name != "returns"


def _conv(shape: Shape, n_out: int, size: Size, stride: Size = 1, padding: Size | str = 0) -> Layer:
    return Conv2D(shape[0], n_out, _pair(size), _pair(stride), _pair(padding))


def _pool(
    pool: type[MaxPool2D] | type[AvgPool2D],
    shape: Shape,
    size: Size,
    stride: Size | None = None,
    padding: Size | str = 0,
) -> Layer:
    return pool(_pair(size), _pair(size if stride is None else stride), _pair(padding))


def _pair(size: Any) -> Any:
    return tuple(size) if isinstance(size, list) else size


def _fully_connected(shape: Shape, n_out: int) -> Layer:
    return FullyConnected(shape[0], n_out)


def _lstm(shape: Shape, n_units: int, returns: str = "last") -> Layer:
    return LSTM(shape[0], n_units, returns)


def _plain(make: Callable[[], Layer], shape: Shape) -> Layer:
    return make()


# For each kind: the number of axes of its input (None: any), and its builder from input shape and settings.
KINDS: dict[str, tuple[int | None, Callable[..., Layer]]] = {
    "conv": (3, _conv),
    "max_pool": (3, partial(_pool, MaxPool2D)),
    "avg_pool": (3, partial(_pool, AvgPool2D)),
    "fully_connected": (1, _fully_connected),
    "flatten": (None, partial(_plain, Flatten)),
    "rows": (3, partial(_plain, Rows)),
    "lstm": (2, _lstm),
    **{name: (None, partial(_plain, partial(Activation, name))) for name in ACTIVATIONS},
}

_PAIRS = ("size", "stride", "padding")  # may be two numbers: for rows and for columns
_WORDS = {"padding": ("same", "valid"), "returns": ("last", "all"), "n_out": ("classes",)}


def _show(shape: Shape) -> str:
    return f"{_FORMS[len(shape)]} of " + " x ".join(map(str, shape)) if len(shape) in _FORMS else str(shape)
