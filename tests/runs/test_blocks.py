"""Steps in blocks, and as CUDA graphs, over the stand-in: what the CPU does, and nothing waits meanwhile."""

import gc
import weakref
from contextlib import contextmanager
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from moving import assert_same, moved
from networks_of_all_kinds import NETWORKS, draw_batch
from stand_in.graphs import DEVICE, Graph

from l2lnp.errors import DivergedError, InputError
from l2lnp.execution import ON_A_GPU, Execution
from l2lnp.kernels.cuda import graph as graphs_of_the_device
from l2lnp.kernels.cuda import products
from l2lnp.meta.joint import META_LOSSES, JointLearner
from l2lnp.meta.settings import UNIVERSAL
from l2lnp.optimizers import make_optimizer
from l2lnp.runs import captured
from l2lnp.runs.blocks import STEPS, Blocks
from l2lnp.runs.captured import CannotCaptureError, CapturedStep
from l2lnp.tasks.classification import Batch, Classification

N_STEPS = 12
COORDINATES = {
    "features": tuple(UNIVERSAL["slstm"]["features"]),
    "schedule": "cosine",
    "step_unit": "weights",
    "full_width": 10,
    "per": "kind",
    "n_units": (3, 2),
    "weight_decay": 0.1,
}
SIZE_OF_LOSS = {"features": ("gradient_size", "log_noise", "log_sign_h"), "n_units": (2, 2)}
FROZEN = [("slstm", COORDINATES), ("slstm", SIZE_OF_LOSS), ("sgd", {}), ("momentum", {}), ("rmsprop", {})]
FROZEN += [("adam", {"schedule": "cosine"}), ("sou", {})]
IN_BASIS = {**COORDINATES, "basis": "kronecker", "basis_every": 5}


def problem(
    xp, name="slstm", settings=COORDINATES, network="max_pooling", spoil=(), frozen=True, average=False
):
    """Return a learner, its task, the training before its first step, and batches; some have a NaN."""
    network = NETWORKS[network]()
    theta, x, labels = draw_batch(network, dtype=np.float32)
    execution = Execution() if xp is np else Execution(**ON_A_GPU)
    optimizer = make_optimizer(name, network.layout, execution, **settings)
    learner = JointLearner(
        optimizer, 3, frozen=frozen, n_steps=40, batch_size=5, n_samples=50, average=average
    )
    phi = optimizer.init_phi(np.random.default_rng(1))
    rng = np.random.default_rng(2)
    batches = [Batch(t, (x + rng.normal(size=x.shape)).astype(np.float32), labels) for t in range(N_STEPS)]
    for t in spoil:
        batches[t] = batches[t]._replace(x=np.nan * x)
    theta, phi, batches = (theta, phi, batches) if xp is np else moved(xp, (theta, phi, batches))
    return learner, Classification(network, execution=execution), learner.start(theta, phi), batches


def ran(xp, blocks_of=N_STEPS, **kind):
    """Return reports and the last training of steps made in blocks, and the blocks."""
    learner, task, training, batches = problem(xp, **kind)
    blocks, found = Blocks(learner, task, xp), []
    size = min(blocks_of, blocks.length)
    for start, stop in pairwise([*range(0, N_STEPS, size), N_STEPS]):
        for made in blocks.run(training, batches[start:stop]):
            training = made.training
            found.append((made.step, made.report))
    return found, training, learner, blocks


def assert_as_on_the_cpu(cupy, **kind):
    expected, on_host, host_learner, _ = ran(np, **kind)
    found, training, learner, blocks = ran(cupy, **kind)
    assert [step for step, _ in found] == [step for step, _ in expected] == list(range(1, N_STEPS + 1))
    for (_, ours), (_, theirs) in zip(found, expected, strict=True):
        assert (ours.learned, ours.message) == (theirs.learned, theirs.message)
        np.testing.assert_allclose(ours.loss, theirs.loss, rtol=1e-4)
        assert type(ours.loss) is float
    for ours, theirs in ((training, on_host), (learner.checkpoint, host_learner.checkpoint)):
        assert (ours.step, ours.n_restarts) == (theirs.step, theirs.n_restarts)
        assert {k: v for k, v in ours.state.items() if k == "t"} == {
            k: v for k, v in theirs.state.items() if k == "t"
        }
        assert_same(ours.theta, theirs.theta, cupy, rtol=1e-3, atol=1e-4)
    return blocks


@pytest.fixture(autouse=True)
def launched(monkeypatch):
    """Steps are launched kernel by kernel, where a test does not ask for graphs."""
    monkeypatch.setenv("L2LNP_CUDA_GRAPH", "0")


@pytest.fixture
def graphs(monkeypatch):
    monkeypatch.setenv("L2LNP_CUDA_GRAPH", "1")


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("blocks_of", [1, 5, N_STEPS])
def test_blocks_do_what_the_cpu_does(cupy, blocks_of, frozen):
    assert_as_on_the_cpu(cupy, blocks_of=blocks_of, frozen=frozen)


@pytest.mark.parametrize("spoil", [(0,), (5, 6), (N_STEPS - 1,)])
def test_restarts_come_at_the_same_steps(cupy, spoil):
    assert_as_on_the_cpu(cupy, blocks_of=5, spoil=spoil)


def test_too_many_restarts_are_told_at_the_same_step(cupy):
    messages = []
    for xp in (np, cupy):
        learner, task, training, batches = problem(xp, spoil=range(N_STEPS))
        blocks = Blocks(learner, task, xp)
        with pytest.raises(DivergedError) as error:  # noqa: PT012
            for start in range(0, N_STEPS, blocks.length):
                for made in blocks.run(training, batches[start : start + blocks.length]):
                    training = made.training
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith("step 10: ")


def test_labels_that_are_no_classes_are_told_as_on_the_cpu(cupy):
    messages = []
    for xp in (np, cupy):
        learner, task, training, batches = problem(xp)
        batches = [b._replace(labels=b.labels + 7) for b in batches[:3]]
        with pytest.raises(InputError, match="class numbers") as error:
            for _ in Blocks(learner, task, xp).run(training, batches[:1] if xp is np else batches):
                pass
        messages.append(str(error.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    ("frozen", "name"), [(True, "slstm"), (False, "slstm"), (True, "adam"), (True, "soap")]
)
def test_nothing_is_read_within_a_block(cupy, frozen, name):
    settings = COORDINATES if name == "slstm" else {}
    learner, task, training, batches = problem(cupy, name, settings, frozen=frozen)
    blocks = Blocks(learner, task, cupy)
    assert blocks.length == STEPS
    before = DEVICE.n_readings
    assert len(list(blocks.run(training, batches))) == N_STEPS
    assert DEVICE.n_readings == before
    learner.step(training, task, batches[0])
    assert DEVICE.n_readings > before  # so readings are counted


@pytest.mark.parametrize("settings", [COORDINATES, SIZE_OF_LOSS])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("meta_loss", META_LOSSES)
def test_no_meta_loss_is_read_within_a_block(cupy, meta_loss, exact, settings):
    losses = []
    for xp in (np, cupy):
        learner, task, training, batches = problem(xp, settings=settings, frozen=False)
        learner.meta_loss, learner.second_derivatives = meta_loss, exact
        before = DEVICE.n_readings
        made = list(Blocks(learner, task, xp).through(training, batches))
        assert DEVICE.n_readings == before
        losses.append([one.report.loss for one in made])
    np.testing.assert_allclose(*losses, rtol=1e-3)


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize(("name", "settings"), FROZEN)
def test_a_graph_does_what_the_cpu_does(cupy, name, settings):
    blocks = assert_as_on_the_cpu(cupy, name=name, settings=settings, blocks_of=6, average=name == "slstm")
    assert blocks.why_one_by_one is None
    assert blocks._captured is not None


@pytest.mark.usefixtures("graphs")
def test_a_graph_restarts_at_the_same_steps(cupy):
    assert assert_as_on_the_cpu(cupy, blocks_of=6, spoil=(2, 9))._captured is not None


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("network", NETWORKS)
def test_networks_in_a_graph(cupy, network):
    blocks = assert_as_on_the_cpu(cupy, network=network, name="sgd", settings={})
    is_captured = network != "fully_connected"  # whose error is squared
    assert (blocks._captured is not None) == is_captured
    assert is_captured or "captured" in blocks.why_one_by_one


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("settings", [COORDINATES, IN_BASIS], ids=["coordinates", "kronecker"])
def test_a_replayed_step_is_at_most_a_dozen_launches(cupy, settings):
    learner, task, training, batches = problem(cupy, settings=settings)
    blocks = Blocks(learner, task, cupy)
    training = list(blocks.run(training, batches[:7]))[-1].training  # after it, steps without a refresh
    captured, losses, flag = blocks._captured, cupy.empty(N_STEPS, np.float64), cupy.zeros(1, np.int32)
    counts = []
    for n in (1, 2):
        before = DEVICE.n_launches
        captured.run(training, batches[:n], losses, flag)
        counts.append(DEVICE.n_launches - before)
    assert counts[1] - counts[0] <= 12


def test_a_graph_has_memory_of_its_own_but_for_what_is_kept_for_good_and_gives_it_back(cupy, monkeypatch):
    inside, freed, of_result = [], [], []

    @contextmanager
    def using_allocator(allocator):
        inside.append(allocator)
        yield
        inside.pop()

    def free_all_blocks():
        freed.append(of_result[0]() is None)  # only then its block is free

    pool = SimpleNamespace(malloc="own", free_all_blocks=free_all_blocks)
    monkeypatch.setattr(cupy.cuda, "using_allocator", using_allocator)
    monkeypatch.setattr(cupy.cuda, "MemoryPool", lambda: pool)
    seen = []

    def run():
        seen.append(list(inside))
        return cupy.ones(3)

    graph = graphs_of_the_device.Graph(cupy, run)
    assert seen == [[], ["own"], ["own"], ["own"]]
    of_result.append(weakref.ref(graph.result))
    del graph
    gc.collect()
    assert freed == [True]


@pytest.mark.usefixtures("graphs")
def test_what_cannot_be_captured_is_said_and_done_without(cupy, monkeypatch):
    *_, blocks = ran(cupy, frozen=False)
    assert blocks.why_one_by_one == "the optimizer is learned on the way"
    monkeypatch.setattr(products, "MOST_FLOPS", 10)
    assert "cuBLAS" in assert_as_on_the_cpu(cupy).why_one_by_one


@pytest.mark.usefixtures("graphs")
def test_a_replay_that_gives_other_numbers_is_not_used(cupy, monkeypatch):
    def forgetful(graph, stream=None):
        for again in graph._recorded[:-2]:
            again()

    monkeypatch.setattr(Graph, "launch", forgetful)
    blocks = assert_as_on_the_cpu(cupy)
    assert "other numbers" in blocks.why_one_by_one


def test_graphs_can_be_left_aside(cupy, monkeypatch):
    *_, blocks = ran(cupy)
    assert blocks._captured is None
    assert "L2LNP_CUDA_GRAPH" in blocks.why_one_by_one
    monkeypatch.delenv("L2LNP_CUDA_GRAPH")
    *_, blocks = ran(cupy)
    assert blocks._captured is not None


@pytest.mark.parametrize("network", ["convolutional", "max_pooling"])
@pytest.mark.parametrize(("name", "settings"), [("slstm", IN_BASIS), ("soap", {}), ("lstm", IN_BASIS)])
def test_a_graph_between_two_refreshes_of_the_basis(cupy, monkeypatch, network, name, settings):
    """Against steps that are launched: on the CPU the axes are others, as so few samples leave them open."""
    settings = {**settings, "features": ("momenta", "clock")} if name == "lstm" else settings
    found, training, *_ = ran(cupy, name=name, settings=settings, network=network)
    monkeypatch.setenv("L2LNP_CUDA_GRAPH", "1")
    again, by_graph, _, blocks = ran(cupy, name=name, settings=settings, network=network)
    assert blocks.why_one_by_one is None
    assert blocks._captured is not None
    assert [report for _, report in again] == [report for _, report in found]
    assert {k: v for k, v in by_graph.state.items() if type(v) is int} == {
        k: v for k, v in training.state.items() if type(v) is int
    }
    assert_same(by_graph.theta, training.theta.get(), cupy, rtol=0)


@pytest.mark.usefixtures("graphs")
def test_large_networks_are_not_captured(cupy, monkeypatch):
    monkeypatch.setattr(captured, "MOST_COORDINATES", 10)
    *_, blocks = ran(cupy)
    assert blocks._captured is None
    assert "beyond 10 parameters" in blocks.why_one_by_one


@pytest.mark.parametrize("every", [2, 4])
def test_a_graph_of_steps_that_hold_h(cupy, monkeypatch, every):
    settings = COORDINATES | {"curvature_every": every}
    found, training, *_ = ran(cupy, settings=settings)
    monkeypatch.setenv("L2LNP_CUDA_GRAPH", "1")
    again, by_graph, _, blocks = ran(cupy, settings=settings)
    assert blocks._captured is not None
    assert [report for _, report in again] == [report for _, report in found]
    assert_same(by_graph.theta, training.theta.get(), cupy, rtol=0)


@pytest.mark.usefixtures("graphs")
def test_restarts_come_at_the_same_steps_in_the_basis(cupy):
    for spoil in ((2,), (4,), (7,)):  # a step before the graph is made, a refresh, a step of the graph
        *_, expected = [step for step, report in ran(np, settings=IN_BASIS, spoil=spoil)[0] if report.message]
        found, *_, blocks = ran(cupy, settings=IN_BASIS, spoil=spoil, blocks_of=6)
        assert [step for step, report in found if report.message][-1] == expected == spoil[0] + 1
        assert blocks._captured is not None


def test_a_refresh_is_not_captured(cupy):
    learner, task, training, batches = problem(cupy, settings=IN_BASIS)
    with pytest.raises(CannotCaptureError, match="another kind"):
        CapturedStep(learner, task, training, batches[0])


def test_how_many_steps_are_alike():
    in_basis, held = (
        problem(np, settings=settings)[0].optimizer
        for settings in (IN_BASIS, COORDINATES | {"curvature_every": 4})
    )
    found = [in_basis.n_alike({"basis/step": step}, 100) for step in range(12)]
    assert found == [0, 0, 0, 1, 0, 0, 4, 3, 2, 1, 0, 4]
    assert [held.n_alike({"curvature/step": step}, 2) for step in range(6)] == [0, 2, 2, 1, 0, 2]
    assert problem(np, "adam", {})[0].optimizer.n_alike({}, 7) == 7
