"""Layers of drawn sizes with inputs that fit them."""

from hypothesis import strategies as st

from l2lnp.layers import (
    FUNCTIONS,
    LSTM,
    Activation,
    AvgPool2D,
    Conv2D,
    Flatten,
    FullyConnected,
    MaxPool2D,
    Rows,
)

small = st.integers(1, 3)
pairs = st.tuples(small, small)


@st.composite
def images(draw, at_least=(1, 1)):
    rows, columns = (draw(st.integers(n, n + 3)) for n in at_least)
    return draw(small), rows, columns


@st.composite
def convolutions(draw):
    size, stride = draw(pairs), draw(pairs)
    padding = draw(st.one_of(st.sampled_from(["same", "valid"]), st.tuples(*[st.integers(0, 2)] * 2)))
    k, h, w = draw(images(at_least=size))
    return Conv2D(k, draw(small), size, stride, padding), (k, h, w)


@st.composite
def poolings(draw, kind=None):
    kind = kind or draw(st.sampled_from([MaxPool2D, AvgPool2D]))
    size = draw(pairs)
    stride = draw(st.one_of(st.none(), pairs))
    padding = draw(
        st.one_of(st.sampled_from(["same", "valid"]), st.tuples(*[st.integers(0, n - 1) for n in size]))
    )
    return kind(size, stride, padding), draw(images(at_least=size))


@st.composite
def fully_connected(draw):
    k = draw(st.integers(1, 5))
    return FullyConnected(k, draw(small)), (k,)


@st.composite
def activations(draw):
    return Activation(draw(st.sampled_from(sorted(FUNCTIONS)))), draw(images())


@st.composite
def lstms(draw, max_steps=4):
    k = draw(small)
    returns = draw(st.sampled_from(["last", "all"]))
    return LSTM(k, draw(small), returns), (k, draw(st.integers(1, max_steps)))


def routings():
    return st.tuples(st.sampled_from([Flatten(), Rows()]), images())


def layers():
    """Any layer but an LSTM."""
    return st.one_of(convolutions(), poolings(), fully_connected(), activations(), routings())
