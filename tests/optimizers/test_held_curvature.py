"""h held between two looks at it: when it changes, what is asked for, and what stays as it is."""

from itertools import pairwise

import numpy as np
import pytest
from network_tasks import N, Task, enlivened, make
from networks_of_all_kinds import draw_batch

from l2lnp.errors import InputError
from l2lnp.optimizers import Context, HeldCurvature, InBasis, make_optimizer, settings_of


def steps(optimizer, task, theta, n_steps):
    """Yield the state and theta after each step."""
    phi, state = enlivened(optimizer), optimizer.init_state(theta)
    for step in range(n_steps):
        context = Context(step, n_steps, N)
        inputs, state = optimizer.look(task, theta, step % 3, context, state)
        u, state = optimizer.update(phi, state, inputs)
        theta = optimizer.moved(theta, u, context)
        yield state, theta


@pytest.mark.parametrize("name", ["sou", "slstm"])
def test_h_changes_every_third_step_and_is_asked_for_nowhere_else(name):
    task = Task.of("fully_connected")
    theta, *_ = draw_batch(task.network)
    optimizer = make(name, task.layout, "coordinates", curvature_every=3)
    states = [state for state, _ in steps(optimizer, task, theta, 8)]
    assert [wants_h for wants_h, _ in task.asked] == [step in (0, 3, 6) for step in range(8)]
    hs = [np.zeros_like(theta), *(state["curvature/h"] for state in states)]
    changed = [bool((a != b).any()) for a, b in pairwise(hs)]
    assert changed == [step in (0, 3, 6) for step in range(8)]
    np.testing.assert_array_equal(hs[1], task.evaluate(theta, 0, True).h)
    assert states[-1]["curvature/step"] == 8


@pytest.mark.parametrize("name", ["sou", "slstm"])
def test_an_update_in_between_reads_the_h_that_is_held(name):
    task = Task.of("fully_connected")
    theta, *_ = draw_batch(task.network)
    optimizer = make(name, task.layout, "coordinates", curvature_every=3)
    (_, _), (state, theta) = steps(optimizer, task, theta, 2)
    inputs, same = optimizer.look(task, theta, 2, Context(2, 8, N), state)
    assert same is state
    assert inputs.h is None
    phi = enlivened(optimizer)
    u, _ = optimizer.update(phi, state, inputs)
    inside = {key: value for key, value in state.items() if not key.startswith("curvature/")}
    theirs, _ = optimizer.inner.update(phi, inside, inputs._replace(h=state["curvature/h"]))
    np.testing.assert_array_equal(u, theirs)


@pytest.mark.parametrize("name", ["sou", "slstm"])
def test_with_a_look_at_every_step_nothing_changes(name):
    task = Task.of("fully_connected")
    theta, *_ = draw_batch(task.network)
    plain = make(name, task.layout, "coordinates")
    held = HeldCurvature(task.layout, plain, 1)
    for (_, ours), (_, theirs) in zip(steps(plain, task, theta, 6), steps(held, task, theta, 6), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_settings_make_the_same_optimizer_again():
    layout = Task.of("fully_connected").layout
    held = make_optimizer("slstm", layout, curvature_every=4, schedule="cosine", weight_decay=0.1)
    assert make_optimizer("slstm", layout, **settings_of(held)) == held
    assert (held.schedule, held.weight_decay) == ("cosine", 0.1)
    assert not isinstance(make_optimizer("slstm", layout, curvature_every=1), HeldCurvature)


def test_made_by_hand_it_has_the_schedule_and_the_weight_decay_of_the_one_inside():
    layout = Task.of("fully_connected").layout
    inner = make_optimizer("sou", layout, schedule="cosine", weight_decay=0.3)
    context = Context(step=3, n_steps=8, batch_size=10, n_samples=20)
    for around in (HeldCurvature(layout, inner), InBasis(layout, inner)):
        assert around.kept(context) == inner.kept(context) < 1
        assert around.scheduled(context) == inner.scheduled(context) < 1


def test_what_cannot_be_is_refused_in_one_sentence():
    layout = Task.of("fully_connected").layout
    with pytest.raises(InputError, match="sou: curvature_every must be positive, not 0"):
        make_optimizer("sou", layout, curvature_every=0)
    with pytest.raises(InputError, match="takes h from its own factors"):
        make_optimizer("slstm", layout, curvature_every=2, basis="kronecker")
    with pytest.raises(InputError, match="unknown setting"):
        make_optimizer("adam", layout, curvature_every=2)
