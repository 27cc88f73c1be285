"""Draws for steps of a learned optimizer and the way back."""

import numpy as np

from l2lnp.optimizers import Context, Inputs


def problem(optimizer, n_steps, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    phi = {key: (0.5 * rng.normal(size=v.shape)).astype(dtype) for key, v in optimizer.init_phi(rng).items()}
    theta = np.zeros(optimizer.layout.n_coordinates, dtype)
    state = {
        key: v if isinstance(v, int) else rng.uniform(0.5, 1.5, size=v.shape).astype(dtype)
        for key, v in optimizer.init_state(theta).items()
    } | {"t": 3}
    steps = [
        Inputs(
            float(rng.uniform(0.5, 2.0)),
            *rng.normal(size=(3, theta.size)).astype(dtype),
            Context(step, n_steps=20, batch_size=16),
        )
        for step in range(n_steps)
    ]
    a_u = list(rng.normal(size=(n_steps, theta.size)).astype(dtype))
    a_state = {"lstm": rng.normal(size=state["lstm"].shape).astype(dtype)}
    return phi, state, steps, a_u, a_state
