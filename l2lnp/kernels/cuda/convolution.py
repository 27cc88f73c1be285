"""`l2lnp.kernels.convolution` on a GPU: the patches are written out and multiplied as any matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from l2lnp.backend import Array
from l2lnp.kernels import convolution
from l2lnp.kernels.cuda import windows
from l2lnp.kernels.products import matmul
from l2lnp.workspace import Fresh

if TYPE_CHECKING:
    from l2lnp.layers.window import Pair, Window


class Patches(convolution.Patches):
    """An image seen through a window; ``taps`` are the columns (K, I, J, R, C, N)."""

    @classmethod
    def of(cls, image: Array, window: Window, pooled: Pair, space: Fresh) -> Patches:
        """See ``image`` (K, H, W, N) through ``window``; ``pooled`` must be (1, 1)."""
        return cls(window, image.shape, pooled, windows.patches(image, window, space), image)

    def product(self, w: Array, out: Array) -> Array:
        """Return W X, written to ``out`` (O, R C N); w (O, K I J)."""
        return matmul(w, self.taps.reshape(self.shape), out=out)

    def outer(self, v: Array, space: Fresh) -> Array:
        """Return V X^T (O, K I J); v (O, R C N)."""
        return matmul(v, self.taps.reshape(self.shape).T)

    def unpatch_product(self, w: Array, v: Array, space: Fresh, key: str) -> Array:
        """Return W^T V added up to pixels (K, H, W, N); w (O, K I J), v (O, R C N)."""
        image = self.image_shape[1:3]
        return windows.unpatch_product(w, v, self.taps.shape, image, self.window, space, key)

    def as_view(self) -> Array:
        """Return the patches (K, I, J, 1, 1, R, C, N)."""
        return self.taps[:, :, :, None, None]
