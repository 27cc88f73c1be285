"""The products of a convolution with the patches of its image, which are never written out.

The patches X (K I J, R C N) of an image x (K, H, W, N) hold every pixel up to I J times. Here only the
J taps along the columns are copied; the I taps along the rows then lie one after the other, and the
patches of one row r of positions are a view, its rows in the order (I, K, J)::

    taps (H', K J, C N)          X_r = taps[s r : s r + I]  as (I K J, C N)

    W X                          W X_r, a small product for each r and each part of C N
    V X^T                        the sum over r of V_r X_r^T
    W^T V, added up to pixels    with stride 1 and as many positions as pixels, the product of W turned by
                                 half a turn with the patches of V

Where a pooling of A x B pixels follows, the positions r = A r' + a, c = B c' + b are taken in the
order (a, b, r', c'): the maximum is then one of A B images, each in one piece.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.kernels.products import block_length
from l2lnp.kernels.windows import pad, unpatch_product
from l2lnp.workspace import Fresh

if TYPE_CHECKING:
    from l2lnp.layers.window import Pair, Window

_LEAST_COLUMNS = 32  # shorter products lose more by being many than they gain; the rows here are in cache
_MOST_PARTS = 1_000_000  # numbers of the parts of V X^T that are kept until they are added


@dataclass(frozen=True)
class Patches:
    """An image seen through a window: the matrix X (K I J, R C N), of which only the products are asked.

    Parameters
    ----------
    image : (K, H, W, N)
        None for the squares of an image, which nobody looks at.
    pooled : (A, B)
        Pixels of the pooling that follows; (1, 1) for positions in row-major order.
    taps
        What the products read; here (B, H', K, J, C / B, N).
    """

    window: Window
    image_shape: tuple[int, int, int, int]
    pooled: Pair
    taps: Array
    image: Array | None

    @classmethod
    def of(cls, image: Array, window: Window, pooled: Pair, space: Fresh) -> Patches:
        """See ``image`` (K, H, W, N) through ``window``."""
        taps = _taps(pad(image, window, space), window.size, window.stride, pooled[1], space, "taps")
        return cls(window, image.shape, pooled, taps, image)

    @property
    def shape(self) -> Pair:
        """(K I J, R C N)."""
        (k, _, _, n), (i, j), (a, b, r, c) = self.image_shape, self.window.size, self.positions
        return k * i * j, a * b * r * c * n

    @property
    def positions(self) -> tuple[int, int, int, int]:
        """(A, B, R / A, C / B), how often the window fits."""
        (r, c), (a, b) = self.window.output(self.image_shape[1:3]), self.pooled
        return a, b, r // a, c // b

    def squared(self, space: Fresh) -> Patches:
        """Return the patches of x^2: the squares of those of x."""
        taps = self.taps
        squares = array_module(taps).multiply(taps, taps, out=space.empty("squared", taps.shape, taps))
        return replace(self, taps=squares, image=None)

    def product(self, w: Array, out: Array, b: Array | None = None) -> Array:
        """Return W X + b, written to ``out`` (O, R C N); w (O, K I J), b (O,)."""
        by_position = out.reshape(len(w), *self.positions, self.image_shape[3])
        _product(w, self.taps, self.window.size[0], self.window.stride[0], by_position)
        if b is not None:
            out += b[:, None]
        return out

    def outer(self, v: Array, space: Fresh) -> Array:
        """Return V X^T (O, K I J); v (O, R C N)."""
        (a, b, r, c), n, o, xp = self.positions, self.image_shape[3], len(v), array_module(v)
        (k, *_), (i, j) = self.image_shape, self.window.size
        v = v.reshape(o, a, b, r, c * n).transpose(1, 2, 3, 4, 0)  # V_r^T
        patches = _by_row(self.taps, i, self.window.stride[0], (a, b, r, 1, 1, c * n))[:, :, :, 0, 0]
        total = xp.zeros((i * k * j, o), v.dtype)
        step = max(1, _MOST_PARTS // (a * b * total.size))
        for first in range(0, r, step):
            rows = slice(first, min(first + step, r))
            parts = space.empty("parts", (a, b, rows.stop - first, *total.shape), v)
            total += xp.matmul(patches[:, :, rows], v[:, :, rows], out=parts).sum((0, 1, 2))
        in_order: Array = total.reshape(i, k, j, o).transpose(3, 1, 0, 2).reshape(o, -1)
        return in_order

    def unpatch_product(self, w: Array, v: Array, space: Fresh, key: str) -> Array:
        """Return W^T V added up to pixels (K, H, W, N); w (O, K I J), v (O, R C N).

        With stride 1, and as many positions as pixels, it is the convolution of V, with zeros around it,
        by W turned by half a turn.
        """
        (k, h, width, n), (i, j), o = self.image_shape, self.window.size, len(w)
        (a, b, r, c), (_, n_parts) = self.positions, self.pooled
        by_row = v.reshape(o, a, b, r, c, n).transpose(0, 3, 1, 4, 2, 5)  # (O, R / A, A, C / B, B, N)
        if self.window.stride != (1, 1) or a * r * b * c < h * width or width % n_parts:
            shape = k, i, j, a * r, b * c, n
            return unpatch_product(w, by_row.reshape(o, -1), shape, (h, width), self.window, space, key)
        turned = w.reshape(o, k, i, j)[:, :, ::-1, ::-1].swapaxes(0, 1).reshape(k, -1)
        seen = _taps(self._with_margins(by_row, space), (i, j), (1, 1), n_parts, space, "v_taps")
        x = space.empty(key, self.image_shape, v)
        by_part = x.reshape(k, h, 1, width // n_parts, n_parts, n).transpose(0, 2, 4, 1, 3, 5)
        _product(turned, seen, i, 1, by_part)
        return x

    def _with_margins(self, v: Array, space: Fresh) -> Array:
        """Return ``v`` (O, R / A, A, C / B, B, N) with zeros around it, (O, H + I - 1, W + J - 1, N).

        Then the pixel (y, x) sees at tap (i, j) the position (y + i, x + j). Positions that see no
        pixel are left out.
        """
        (_, h, width, _), (i, j), (o, r, a, c, b, n) = self.image_shape, self.window.size, v.shape
        (top, bottom), (left, right) = self.window.pads((h, width))
        above, below, before, after = i - 1 - top, i - 1 - bottom, j - 1 - left, j - 1 - right
        rows, columns = max(above, 0) + a * r + max(below, 0), max(before, 0) + b * c + max(after, 0)
        padded = space.empty("v_padded", (o, rows, columns, n), v)
        padded.fill(0.0)
        inside = padded[:, max(above, 0) :, max(before, 0) :][:, : a * r, : b * c]
        inside.reshape(v.shape)[...] = v  # a view: axes are only cut
        return padded[:, max(-above, 0) :, max(-before, 0) :][:, : h + i - 1, : width + j - 1]

    def at(self, positions: Array) -> Array:
        """Return the columns (K I J, len(positions) N) at ``positions``, counted row by row."""
        found = self.as_view()[:, :, :, *self._place(positions)]
        return found.reshape(self.shape[0], -1)

    def values_at(self, positions: Array, v: Array) -> Array:
        """Return the columns (O, len(positions) N) of ``v`` (O, R C N) at these ``positions``."""
        by_position = v.reshape(len(v), *self.positions, -1)
        found: Array = by_position[:, *self._place(positions)].reshape(len(v), -1)
        return found

    def _place(self, positions: Array) -> tuple[Array, ...]:
        a, b, _, c = self.positions
        row, column = positions // (b * c), positions % (b * c)
        return row % a, column % b, row // a, column // b

    def as_view(self) -> Array:
        """Return the patches (K, I, J, A, B, R / A, C / B, N), as a view."""
        part, down, channel, along, column, sample = self.taps.strides
        (k, *_, n), (i, j), (a, b, r, c) = self.image_shape, self.window.size, self.positions
        step = self.window.stride[0] * down
        strides = channel, down, along, step, part, a * step, column, sample
        return _strided(self.taps, (k, i, j, a, b, r, c, n), strides)


def _taps(padded: Array, size: Pair, stride: Pair, n_parts: int, space: Fresh, key: str) -> Array:
    """Copy the J taps along the columns of ``padded`` (K, H', W', N): (B, H', K, J, C / B, N)."""
    (k, h, width, n), (i, j), (s, t) = padded.shape, size, stride
    r, c = (h - i) // s + 1, (width - j) // t + 1
    channel, down, along, sample = padded.strides
    shape = n_parts, (r - 1) * s + i, k, j, c // n_parts, n
    taps = space.empty(key, shape, padded)
    taps[...] = _strided(padded, shape, (t * along, down, channel, along, t * n_parts * along, sample))
    return taps


def _product(w: Array, taps: Array, n_down: int, stride: int, out: Array) -> None:
    """Write W X to ``out`` (O, A, B, R, C, N), a view of any form; w (O, K I J)."""
    (o, a, b, r, c, n), (_, _, k, j, _, _) = out.shape, taps.shape
    w = w.reshape(o, k, n_down, j).swapaxes(1, 2).reshape(o, -1)  # in the order of the taps
    in_one = out.strides[4] == n * out.strides[5]  # the samples of neighbouring positions
    block = block_length(c * n if in_one else n, w.size, _LEAST_COLUMNS)
    p, q = (1, c * n // block) if in_one else (c, n // block)
    by_row = out.reshape(o, a, b, r, p, q, block).transpose(1, 2, 3, 4, 5, 0, 6)
    patches = _by_row(taps, n_down, stride, (a, b, r, p, q, block))
    if array_module(w) is np:
        np.matmul(w, patches, out=by_row)
    else:
        by_row[...] = w @ patches  # cuBLAS writes matrices in one piece


def _by_row(taps: Array, n_down: int, stride: int, shape: tuple[int, ...]) -> Array:
    """Return the patches as a view (A, B, R, P, Q, I K J, block) with P Q block = C N."""
    (a, b, r, p, q, block), (part, down, _, along, _, sample) = shape, taps.strides
    step, (_, _, k, j, _, _) = stride * down, taps.shape
    strides = step, part, a * step, q * block * sample, block * sample, along, sample
    return _strided(taps, (a, b, r, p, q, n_down * k * j, block), strides)


def _strided(v: Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    return array_module(v).lib.stride_tricks.as_strided(v, shape, strides)
