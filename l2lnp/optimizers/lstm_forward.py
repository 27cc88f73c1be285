"""The learned optimizer's way forward: a small LSTM that runs on every coordinate and gives its update.

    x        = features(g, h, loss, moving averages)
    o, state'= LSTM(phi, state, x)
    u        = scale unit o    or    scale unit tanh(o)

All coordinates of one layer (or of all layers of one kind) share one LSTM; every
coordinate has its own state. Steps and their reverse (`l2lnp.optimizers.lstm`) run over chunks of
coordinates, several at a time on as many threads; partial sums over chunks are added in the order of
the chunks, so results do not depend on the threads.

References
----------
Andrychowicz et al. 2016 (arXiv 1606.04474): the coordinatewise LSTM. Roy & Todorovic
2018: its second input h, and one LSTM per layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import get_ident
from typing import Any

import numpy as np

from l2lnp.backend import Array, array_module
from l2lnp.errors import InputError, unknown_name
from l2lnp.execution import Execution
from l2lnp.kernels import compiled_for, lstm, twin
from l2lnp.kernels.lstm import BLOCK, Sizes, Weights
from l2lnp.optimizers import lstm_update, preprocessing
from l2lnp.optimizers.base import Inputs, Optimizer, Phi, State
from l2lnp.optimizers.chunks import Chunk, Span, cut, groups, join
from l2lnp.optimizers.features import FEATURES
from l2lnp.optimizers.lstm_update import Step
from l2lnp.optimizers.preprocessing import Observed, Preprocessing
from l2lnp.optimizers.signals import Segments
from l2lnp.optimizers.weight_unit import WeightUnit
from l2lnp.scalars import Scalar
from l2lnp.workspace import Workspace

HEADS = ("tanh", "linear")
STEP_UNITS = ("fixed", "weights")
PER = ("layer", "kind")
FORGET_BIAS = 1.0
STEPS_OF_A_CHUNK = 8  # that are kept for the way back; of more steps, of fewer coordinates
CHUNKS_OF_SPAN = 8  # whose features are computed together, in fewer and longer passes
MOST_UNITS = 1 << 16  # of a hidden layer
HEAD_INIT = 0.01  # deviation of the initial output weights: the first steps are small


@dataclass(frozen=True)
class LSTMForward(Optimizer):
    """The settings, phi, state and update of a coordinatewise LSTM.

    Parameters
    ----------
    features
        Names of what it reads, see `l2lnp.optimizers.features.FEATURES`.
    head
        ``"tanh"``: u = output_scale unit tanh(o); ``"linear"``: u = output_scale unit o.
    step_unit
        ``"fixed"``: the unit is 1; ``"weights"``: the root mean square of the layer's weights
        (at least 0.001), for its biases too, so that a step means the same in every layer.
    unit_limit
        How large that unit may become, see `l2lnp.optimizers.weight_unit.WeightUnit`.
    full_width
        Fan-in up to which steps have their full length. In wider layers, but for the last one, steps in
        units of the weights are shorter, by full_width / fan-in for weights: many of them add up in one
        output. 0: steps do not depend on the width.
    n_units
        Units of the two hidden layers.
    decay
        Decay of the moving averages that features read.
    per
        ``"layer"``: one LSTM per layer; ``"kind"``: one per kind of layer.

    Notes
    -----
    phi has, for each layer or kind, ``{name}/lstm1/w`` (4 S1, F + S1), ``{name}/lstm1/b``
    (4 S1,), ``{name}/lstm2/w`` (4 S2, S1 + S2), ``{name}/lstm2/b`` (4 S2,), ``{name}/head/w``
    (1, S2) and ``{name}/head/b`` (1,), gates in the order i, f, o, n. The state has
    ``moments`` (n_moments, P), ``t``, the number of steps taken, ``lstm`` ((2 S1 + 2 S2) P,)
    and ``chunk``, the size of the chunks in which ``lstm`` is laid out (`coordinatewise`).
    """

    features: tuple[str, ...] = ("rnnprop",)
    head: str = "tanh"
    step_unit: str = "fixed"
    unit_limit: float = 1.5
    full_width: int = 0
    output_scale: float = 0.1
    n_units: tuple[int, int] = (20, 20)
    decay: float = 0.95
    per: str = "layer"

    def __post_init__(self) -> None:
        super().__post_init__()
        for what, chosen, known in (
            *(("feature", feature, tuple(FEATURES)) for feature in self.features),
            ("head", self.head, HEADS),
            ("step unit", self.step_unit, STEP_UNITS),
            ("grouping of layers", self.per, PER),
        ):
            if chosen not in known:
                raise unknown_name(what, chosen, known)
        for feature in self.features:
            if FEATURES[feature].uses_curvature and not self.uses_curvature:
                raise InputError(f"feature '{feature}' reads second derivatives: use the optimizer 'slstm'")
        if not self.features or len(set(self.features)) < len(self.features):
            raise InputError(f"{self.name}: name one or more features, each once, not {list(self.features)}")
        if len(self.n_units) != 2 or not all(1 <= n <= MOST_UNITS for n in self.n_units):
            raise InputError(
                f"{self.name}: two hidden layers of 1 to {MOST_UNITS:,} units each, not {self.n_units}"
            )
        if self.full_width < 0:
            raise InputError(f"{self.name}: the full width must be 0 or more inputs, not {self.full_width}")
        if not (self.output_scale > 0 and self.unit_limit > 0 and 0 <= self.decay < 1):
            raise InputError(
                f"{self.name}: the output scale and the unit's limit must be positive "
                f"and the decay in [0, 1), not {self.output_scale}, {self.unit_limit} and {self.decay}"
            )

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The names of the LSTMs, in the order of their first layers."""
        return tuple(dict.fromkeys(groups(self.layout, self.per).values()))

    @property
    def uses_theta(self) -> bool:
        """Whether `update` needs theta."""
        return self.step_unit == "weights" or self._preprocessing.uses_theta

    def phi_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each entry of phi by path."""
        shapes = self._sizes.shapes()
        return {f"{group}/{path}": shape for group in self.groups for path, shape in shapes.items()}

    def init_phi(self, rng: np.random.Generator, dtype: np.dtype | type = np.float32) -> Phi:
        """Draw initial weights: deviation 1 / sqrt(fan in), forget bias 1, output weights small."""
        phi: Phi = {}
        for path, shape in self.phi_shapes().items():
            _, part, kind = path.split("/")
            if kind == "w":
                deviation = HEAD_INIT if part == "head" else shape[1] ** -0.5
                value = rng.normal(scale=deviation, size=shape)
            else:
                value = np.zeros(shape)
                n_units = shape[0] // 4
                value[n_units : 2 * n_units] = FORGET_BIAS  # nothing for the head, whose b is (1,)
            phi[path] = value.astype(dtype)
        return phi

    def init_state(self, theta: Array) -> State:
        """Return all zeros: ``moments`` (n_moments, P), ``lstm`` ((2 S1 + 2 S2) P,), ``t``; and ``chunk``."""
        xp, n = array_module(theta), theta.size
        return {
            "moments": xp.zeros((len(self._preprocessing.averages), n), theta.dtype),
            "lstm": xp.zeros(self._n_rows * n, theta.dtype),
            "chunk": self._execution.chunk,
            "t": 0,
        }

    def carried(self, state: State, turn: Callable[[Array], Array]) -> State:
        if "moments" not in state:
            return state
        moments = array_module(state["moments"]).array(state["moments"])
        for row, average in enumerate(self._preprocessing.averages):
            if average.of == "g":
                moments[row] = turn(moments[row])
        return {**state, "moments": moments}

    def coordinatewise(self, state: State) -> Array:
        """Return the rows hidden1, hidden2, cell1, cell2 of ``state["lstm"]``, (2 S1 + 2 S2, P)."""
        lstm = self._lstm(state)
        parts = [chunk.of(lstm, self._n_rows) for chunk in self._chunks]
        return array_module(lstm).concatenate(parts, axis=1)

    def update(self, phi: Phi, state: State, inputs: Inputs) -> tuple[Array, State]:
        return self._made(phi, state, inputs, None)

    def step(self, phi: Phi, state: State, inputs: Inputs, theta: Array) -> tuple[Array, State]:
        return self._made(phi, state, inputs, theta)

    def _made(self, phi: Phi, state: State, inputs: Inputs, theta: Array | None) -> tuple[Array, State]:
        """Return theta after the step, or u (P,) where no theta is given, and the next state."""
        inputs, t, xp = self._checked(inputs), state["t"] + 1, array_module(inputs.g)
        seen, before = self._observe(state["moments"], t, inputs), self._lstm(state)
        after = self._execution.workspace.lend(before.shape, before)
        step = self._step(self._fold(phi, before), t, inputs, seen, before, after, xp.empty_like(inputs.g))
        if theta is not None:
            self.layout.check(g=inputs.g, theta=theta)
            step = step._replace(theta=theta, kept=self.kept(inputs.context))
        kernels, spans = twin(lstm_update, inputs.g), self._spans(1, inputs.g)
        self._execution.map(lambda index: kernels.update(step, spans[index], self._space()), len(spans))
        return step.result, {"moments": seen.moments, "lstm": after, "chunk": state["chunk"], "t": t}

    def _step(
        self,
        weights: Mapping[str, Any],
        t: Scalar,
        inputs: Inputs,
        seen: Observed,
        before: Array,
        after: Array,
        result: Array,
    ) -> Step:
        """Return the step number ``t`` (from 1), that moves no theta."""
        return Step(
            sizes=self._sizes,
            preprocessing=self._preprocessing,
            head=self.head,
            weights=weights,
            t=t,
            inputs=inputs,
            moments=seen.moments,
            statistics=seen.statistics,
            tensors=self._tensors,
            factor=self._factor(inputs),
            units=self._step_units(seen),
            kept=1.0,
            theta=None,
            before=before,
            after=after,
            result=result,
        )

    def _observe(self, moments: Array, t: Scalar, inputs: Inputs) -> Observed:
        unit = self._weight_unit if self.uses_theta else None
        seen: Observed = twin(preprocessing, inputs.g).observe(
            self._preprocessing, moments, t, inputs, unit, self._tensors
        )
        return seen

    def _step_units(self, observed: Observed) -> Array | None:
        """Return the unit of the steps in each tensor, (n_tensors,), or None: 1."""
        return self._weight_unit.of_steps(observed.units) if self.step_unit == "weights" else None

    def _factor(self, inputs: Inputs) -> Scalar:
        return self.output_scale * self.scheduled(inputs.context)

    def _checked(self, inputs: Inputs) -> Inputs:
        """Return the inputs, h being None where no feature reads it."""
        self.layout.check(g=inputs.g, h=inputs.h, theta=inputs.theta)
        if self.uses_theta and inputs.theta is None:
            raise InputError(f"{self.name} with this step unit and these features needs theta beside g and h")
        if not self._preprocessing.uses_curvature:
            return inputs._replace(h=None)
        if inputs.h is None:
            raise InputError(
                f"{self.name} needs second derivatives h: evaluate the loss with a curvature mode"
            )
        return inputs

    def _fold(self, phi: Phi, like: Array) -> dict[str, Weights]:
        """Return the derived weights of each group, for steps on arrays like ``like``."""
        for path, shape in self.phi_shapes().items():
            if phi[path].shape != shape:
                raise InputError(f"{self.name}: phi's {path} must have shape {shape}, not {phi[path].shape}")
        paths = self._sizes.shapes()
        canonical = {group: {path: phi[f"{group}/{path}"] for path in paths} for group in self.groups}
        folded = {group: twin(lstm, of["head/w"]).fold(of) for group, of in canonical.items()}
        if compiled_for(like):
            return {
                of: Weights(*(np.ascontiguousarray(a, like.dtype) for a in w)) for of, w in folded.items()
            }
        return folded

    @cached_property
    def _weight_unit(self) -> WeightUnit:
        return WeightUnit(self.layout, self.unit_limit, self.full_width)

    @cached_property
    def _preprocessing(self) -> Preprocessing:
        return Preprocessing.named(self.features, self.decay)

    @cached_property
    def _sizes(self) -> Sizes:
        return Sizes(self._preprocessing.n_rows, self.n_units)

    @property
    def _n_rows(self) -> int:
        """Rows of hidden states and cells."""
        return 2 * self._sizes.n_hidden

    def _lstm(self, state: State) -> Array:
        """Return the part of the state that is laid out in chunks, if they are this optimizer's."""
        if state["chunk"] != self._execution.chunk:
            raise InputError(
                f"{self.name}: the state is laid out in chunks of {state['chunk']} coordinates: "
                f"go on with them, not with chunks of {self._execution.chunk}"
            )
        return state["lstm"]

    @cached_property
    def _tensors(self) -> Segments:
        return Segments.of(self.layout, slice(0, self.layout.n_coordinates))

    @cached_property
    def _execution(self) -> Execution:
        return self.execution or Execution()

    @cached_property
    def _chunks(self) -> Sequence[Chunk]:
        return cut(self.layout, self.per, self._execution.chunk, BLOCK)

    def _spans(self, n_steps: int, like: Array) -> Sequence[Span]:
        """Return the spans: the more steps are kept, the fewer coordinates, by smaller chunks.

        Compiled loops cut chunks by themselves: there it is fewer chunks, at least one.
        """
        key = (n_steps, is_compiled := compiled_for(like) is not None)
        if key not in self._spans_by_steps:
            chunks, n_chunks = self._chunks, CHUNKS_OF_SPAN
            if is_compiled:
                n_chunks = max(1, min(n_chunks, n_chunks * STEPS_OF_A_CHUNK // n_steps))
            else:
                size = max(BLOCK, self._execution.chunk * STEPS_OF_A_CHUNK // n_steps // BLOCK * BLOCK)
                chunks = [piece for chunk in chunks for piece in chunk.cut(size)]
            self._spans_by_steps[key] = join(self.layout, chunks, n_chunks, self._execution.lanes)
        return self._spans_by_steps[key]

    @cached_property
    def _spans_by_steps(self) -> dict[tuple[int, bool], Sequence[Span]]:
        return {}

    def _space(self) -> Workspace:
        """Return the arena of the calling thread."""
        return self._execution.workspace.scope(("lstm", get_ident()))
