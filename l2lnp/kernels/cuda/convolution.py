"""`l2lnp.kernels.convolution` on a GPU: kernels that read the image where a patch would have its numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.kernels import convolution
from l2lnp.kernels.cuda import (
    blocks,
    check,
    kernel,
    launch,
    multiprocessors,
    pointer,
    reductions,
    vector_for,
    windows,
)
from l2lnp.layers.base import FRESH
from l2lnp.workspace import Fresh

if TYPE_CHECKING:
    from l2lnp.layers.window import Pair, Window

_THREADS = 128  # along the columns of a product, as in patches_product.cu
_SIDE, _WARPS = 8, 4  # as in patches_outer.cu
_WARPS_OF_PRODUCT, _WARPS_OF_OUTER = 15, 31  # that keep a multiprocessor busy
_MOST_INT = (1 << 31) - 1


class Tile(NamedTuple):
    """What a block of the kernel `patches_product` computes."""

    rows: int  # of a thread
    groups: int  # of such rows in a block
    columns: int  # vectors of a thread


TILES = (  # from the one that reads least to the one for few columns
    Tile(16, 2, 2),
    Tile(16, 2, 1),
    Tile(8, 1, 1),
)


@dataclass(frozen=True)
class Patches(convolution.Patches):
    """An image seen through a window; ``taps`` is the image itself."""

    is_squared: bool = False

    @classmethod
    def of(cls, image: Array, window: Window, pooled: Pair, space: Fresh) -> Patches:
        """See ``image`` (K, H, W, N) through ``window``; ``pooled`` must be (1, 1)."""
        return cls(window, image.shape, pooled, array_module(image).ascontiguousarray(image), image)

    def squared(self, space: Fresh) -> Patches:
        """Return the patches of x^2, whose numbers are squared as they are read."""
        return replace(self, is_squared=True, image=None)

    def product(self, w: Array, out: Array, b: Array | None = None) -> Array:
        """Return W X + b, written to ``out`` (O, R C N); w (O, K I J), b (O,)."""
        k, taps = self.image_shape[0], prod(self.window.size)
        check(w.dtype, x=(self.taps, self.image_shape))
        check(w.dtype, w=(w, (len(w), k * taps)), out=(out, (len(w), self.shape[1])))
        self._product(w, (k * taps, taps), b, self.taps, out, is_adjoint=False)
        return out

    def outer(self, v: Array, space: Fresh) -> Array:
        """Return V X^T (O, K I J); v (O, R C N)."""
        xp, (k, n_columns), o, x = array_module(v, self.taps), self.shape, len(v), self.taps
        v = xp.ascontiguousarray(v)
        check(v.dtype, v=(v, (o, n_columns)), x=(x, self.image_shape))
        vector, n_samples = vector_for(self.image_shape[3], x, v), self.image_shape[3]
        n_runs = n_columns // n_samples * blocks(n_samples, 32 * vector)
        tiles = blocks(o, _SIDE) * blocks(k, _SIDE)
        runs_of_part = blocks(n_runs, blocks(_WARPS_OF_OUTER * multiprocessors(xp), tiles))
        n_parts = blocks(n_runs, runs_of_part)
        index = "int" if max(x.size, v.size) + x.size // self.image_shape[0] < _MOST_INT else "long long"
        defines: dict[str, int | str] = {"SQUARED": int(self.is_squared), "INDEX": index}
        target = xp.empty((n_parts, o, k), v.dtype)
        launch(
            kernel(xp, "patches_outer.cu", "patches_outer", v.dtype, VECTOR=vector, **defines),
            blocks(tiles, _WARPS) * n_parts,
            32 * _WARPS,
            *(v, x, target, np.int32(o), np.int32(self.image_shape[0])),
            *(self._geometry(), np.int32(runs_of_part)),
        )
        return target[0] if n_parts == 1 else reductions.sum_of_parts(target, xp.empty((o, k), v.dtype))

    def unpatch_product(self, w: Array, v: Array, space: Fresh, key: str) -> Array:
        """Return W^T V added up to pixels (K, H, W, N); w (O, K I J), v (O, R C N)."""
        k, taps = self.image_shape[0], prod(self.window.size)
        v, x = array_module(v).ascontiguousarray(v), space.empty(key, self.image_shape, v)
        check(w.dtype, w=(w, (len(w), k * taps)), v=(v, (len(w), self.shape[1])))
        self._product(w, (taps, k * taps), None, v, x.reshape(k, -1), is_adjoint=True)
        return x

    def as_view(self) -> Array:
        """Return the patches (K, I, J, 1, 1, R, C, N), which are written out for it."""
        columns = windows.patches(self.taps, self.window, FRESH)
        return (columns * columns if self.is_squared else columns)[:, :, :, None, None]

    def _product(
        self, w: Array, strides: Pair, b: Array | None, x: Array, out: Array, is_adjoint: bool
    ) -> None:
        """out = W X + b, or added up to pixels; neighbouring rows and channels of W lie ``strides`` apart."""
        xp, (n_out, n_columns), n_samples = array_module(x, w, out), out.shape, self.image_shape[3]
        vector = vector_for(n_samples, x, out)
        tile = tile_for(n_out, n_columns // vector, w.dtype, _WARPS_OF_PRODUCT * multiprocessors(xp))
        tiles_of_rows = blocks(n_out, tile.rows * tile.groups)
        defines = {
            **{"VECTOR": vector, "SQUARED": int(self.is_squared and not is_adjoint)},
            **{"ADJOINT": int(is_adjoint), "ROWS": tile.rows, "GROUPS": tile.groups, "COLUMNS": tile.columns},
        }
        launch(
            kernel(xp, "patches_product.cu", "patches_product", w.dtype, **defines),
            blocks(n_columns, _THREADS * vector * tile.columns) * tiles_of_rows,
            _THREADS * tile.groups,
            *(xp.ascontiguousarray(w), *strides, pointer(b), x, out, np.int32(n_out), np.int32(len(x))),
            *(self._geometry(), np.int32(tiles_of_rows)),
        )

    def _geometry(self) -> np.ndarray:
        """Return the window over the image as an argument of a kernel."""
        (_, h, w, n), window = self.image_shape, self.window
        (top, _), (left, _) = window.pads((h, w))
        numbers = (h, w, n, *window.output((h, w)), *window.size, *window.stride, top, left)
        return np.array(numbers, np.int32).view([("numbers", np.int32, len(numbers))])


def tile_for(n_rows: int, n_vectors: int, dtype: np.dtype, enough_warps: int) -> Tile:
    """Return what a block computes of a product of ``n_rows``, with ``n_vectors`` of columns."""
    for tile in TILES if dtype == np.float32 else TILES[-1:]:
        groups = min(tile.groups, blocks(n_rows, tile.rows))
        n_warps = blocks(n_rows, tile.rows) * n_vectors // (32 * tile.columns)
        if n_warps >= enough_warps:
            break
    return tile._replace(groups=groups)
