"""Meta-training: a learned optimizer practises on many tasks, one episode each.

An episode draws a task, fresh initial weights and a horizon, and lets `JointLearner` train
them for so many steps; every ``truncation_steps`` of them the meta-gradient changes phi
(truncated BPTT with theta and state carried on). phi and its Adam state go on to the next
episode. At intervals phi is frozen and tried on tasks held out for validation, over a
longer horizon; the best phi is what counts in the end.

References
----------
Andrychowicz et al. 2016 (arXiv 1606.04474), sections 2 and 3. Chen et al. 2020 (arXiv 2010.09089) for
choosing by validation at a longer horizon, and for horizons that grow.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from itertools import islice
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from l2lnp.backend import to_backend, tree_to_backend, tree_to_host
from l2lnp.curvature import BASIS_MODES
from l2lnp.errors import DivergedError, InputError
from l2lnp.execution import Execution
from l2lnp.meta.imitation import Imitated, imitate
from l2lnp.meta.joint import JointLearner, Training
from l2lnp.meta.settings import MetaSettings
from l2lnp.optimizers import OPTIMIZERS, make_optimizer, settings_of
from l2lnp.optimizers.base import Optimizer, Phi, State
from l2lnp.pretrained import LearnedOptimizer, load_learned_optimizer
from l2lnp.randomness import generator
from l2lnp.runs.blocks import Blocks, fetched, unwatched
from l2lnp.tasks.distribution import Distribution, Episode
from l2lnp.tasks.rescaled import Rescaled
from l2lnp.tree import Layout
from l2lnp.version import VERSION, commit

TEACHER = "adam"  # at its default rate, in the basis of the optimizer that imitates it
DIVERGED_LOSS = 10.0  # what a step counts for in validation at most: a loss far above chance is no worse


class Progress(NamedTuple):
    """Everything that changes in meta-training."""

    episode: int  # episodes finished
    phi: Phi
    meta: State  # Adam's, over phi as one vector
    best_phi: Phi
    best_score: float  # mean validation loss; infinite before the first validation
    best_episode: int


class Report(NamedTuple):
    """What happened in one episode."""

    title: str
    mean_loss: float
    final_loss: float
    validation_score: float | None


class MetaTrainer:
    """Runs episodes; holds no state but caches, so that a run can go on from any `Progress`.

    Episodes run on arrays of the library ``xp``; a `Progress` always holds NumPy's.
    """

    def __init__(
        self,
        settings: MetaSettings,
        distribution: Distribution,
        execution: Execution | None = None,
        xp: ModuleType = np,
    ) -> None:
        self.settings = settings
        self.distribution = distribution
        self.execution = execution or Execution()
        self.xp = xp
        self._validation = [
            self._draw(index, "validation") for index in range(self.settings.n_validation_tasks)
        ]

    def start(self) -> Progress:
        """Return the beginning: phi drawn by the seed, or taken from a learned optimizer."""
        optimizer = self._optimizer(self._layout)
        phi = optimizer.init_phi(generator(self.settings.seed, "phi"))
        if self.settings.pretrained is not None:
            learned = load_learned_optimizer(self.settings.pretrained)
            if learned.settings.get("per") == "kind" and self._per == "layer":
                learned = learned.for_each_layer(self._layout)
            learned = learned.reading(settings_of(optimizer)["features"])
            phi = learned.fitted(phi)
        theta = np.zeros(self._layout.n_coordinates, np.float32)
        meta = JointLearner(optimizer).start(theta, phi).meta
        return Progress(0, phi, meta, phi, float("inf"), 0)

    def learned_optimizer(self, progress: Progress) -> LearnedOptimizer:
        """Return the best optimizer so far, as it is written to a file."""
        s, optimizer = self.settings, self._optimizer(self._layout)
        kept = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in settings_of(optimizer).items()
        }
        data = ", ".join(f"{name} {checksum}" for name, checksum in self.distribution.fingerprints.items())
        provenance = (
            f"meta-trained by l2lnp {VERSION} on the tasks '{self.distribution.source}', seed {s.seed}, "
            f"{progress.best_episode} of {s.n_episodes} episodes of {s.horizon_steps} steps, "
            f"validation loss {progress.best_score:.4f}\n"
            f"commit {commit() or 'not known'}; data {data}\n{s}\n{self.distribution.text}"
        )
        reads_mode = self._optimizer(self._validation[0].task.layout).uses_curvature or (
            s.curvature in BASIS_MODES and OPTIMIZERS[s.optimizer].uses_curvature
        )
        curvature = s.curvature if reads_mode else None
        return LearnedOptimizer(s.optimizer, kept, curvature, progress.best_phi, provenance)

    @property
    def _per(self) -> str:
        return str(self.settings.optimizer_settings.get("per", "layer"))

    @cached_property
    def _layout(self) -> Layout:
        """A layout with every LSTM that the tasks need: of all kinds, or the layers of the one network."""
        drawn = [[(i, kind) for i, (kind, _) in each.layers.items()] for each in self.distribution.layouts]
        if self._per == "kind":
            kinds = dict.fromkeys(["conv", "fully_connected", *(kind for each in drawn for _, kind in each)])
            return Layout.of_layers([(kind, {"w": (1,), "b": (1,)}) for kind in kinds])
        if any(each != drawn[0] for each in drawn):
            raise InputError(
                f"{self.distribution.source}: per=layer has an LSTM for each layer of one network, but the "
                "tasks have networks of different layers: take per=kind, or name one network alone"
            )
        return self._validation[0].task.layout

    def is_finished(self, progress: Progress) -> bool:
        """Whether all episodes are done, or validation has found nothing better for too long."""
        s, n_since = self.settings, progress.episode - progress.best_episode
        is_patient = s.patience is None or n_since < s.patience * s.validate_every_episodes
        return progress.episode >= s.n_episodes or not is_patient

    def run_episode(self, progress: Progress) -> tuple[Progress, Report]:
        """Return the progress after one more episode, and what happened in it; if it diverged, NaN."""
        settings = self.settings
        episode, horizon = self._draw(progress.episode, "train"), settings.horizon(progress.episode)
        learner = self._learner(
            episode,
            "train",
            horizon,
            unroll_length_steps=settings.truncation_steps,
            meta_learning_rate=settings.rate(progress.episode),
            clip_norm=settings.clip_norm,
            meta_loss=settings.meta_loss,
        )
        done, title = progress.episode + 1, episode.title
        if generator(settings.seed, "imitation", progress.episode).uniform() < settings.imitation:
            imitated = self._imitate(learner, episode, progress, horizon)
            phi, meta, losses = imitated.phi, imitated.meta, np.array(imitated.losses)
            title += ", imitation"
        else:
            phi, meta, losses = progress.phi, progress.meta, np.array([np.nan])
            try:  # one step beyond the horizon: its evaluation ends the last unroll
                training, losses = self._train(learner, episode, phi, meta, horizon + 1)
                phi, meta = training.phi, training.meta
            except DivergedError:  # nothing is learned from it; the next episode is another task
                title += ", diverged"
        progress = progress._replace(episode=done, phi=tree_to_host(phi), meta=tree_to_host(meta))
        score = None
        if done % settings.validate_every_episodes == 0 or done == settings.n_episodes:
            score = self.validate(progress.phi)
            if score < progress.best_score:
                progress = progress._replace(best_phi=progress.phi, best_score=score, best_episode=done)
        return progress, Report(title, float(np.mean(losses)), float(losses[-1]), score)

    def validate(self, phi: Phi) -> float:
        """Return the frozen optimizer's loss: mean over steps, geometric mean over the validation tasks."""
        scores = []
        for episode in self._validation:
            n_steps = self.settings.validation_steps
            learner = self._learner(episode, "validation", n_steps, frozen=True)
            try:
                _, losses = self._train(learner, episode, phi, None, n_steps)
            except DivergedError:
                losses = np.array([DIVERGED_LOSS])
            scores.append(np.minimum(np.nan_to_num(losses, nan=DIVERGED_LOSS), DIVERGED_LOSS).mean())
        return float(np.exp(np.mean(np.log(scores))))

    def _imitate(self, learner: JointLearner, episode: Episode, progress: Progress, horizon: int) -> Imitated:
        optimizer = learner.optimizer
        same = {
            name: value
            for name, value in settings_of(optimizer).items()
            if name == "schedule" or name.startswith("basis")
        }
        on_device = self.xp is not np
        flag = self.xp.zeros(1, np.int32)  # not looked at: numbers that are not finite change nothing
        with unwatched(learner, episode.task, flag) if on_device else nullcontext():
            imitated = imitate(
                optimizer,
                make_optimizer(TEACHER, optimizer.layout, self.execution, **same),
                tree_to_backend(self.xp, progress.phi),
                tree_to_backend(self.xp, progress.meta),
                episode.task,
                to_backend(self.xp, episode.theta),
                islice(episode.batches(self.xp), horizon),
                learner.unroll_length_steps,
                learner.meta_learning_rate,
                learner.clip_norm,
                learner.beginning,
            )
        losses = imitated.losses
        return imitated._replace(
            losses=fetched(self.xp, self.xp.stack(losses)).tolist() if on_device else losses
        )

    def _learner(self, episode: Episode, split: str, n_steps: int, **joint: Any) -> JointLearner:
        every = self.settings.draw_curvature_every(episode.index, split)
        optimizer, n_samples = self._optimizer(episode.task.layout, every), len(episode.pictures.labels)
        return JointLearner(
            optimizer, n_steps=n_steps, batch_size=episode.batch_size, n_samples=n_samples, **joint
        )

    def _train(
        self, learner: JointLearner, episode: Episode, phi: Phi, meta: State | None, n_steps: int
    ) -> tuple[Training, np.ndarray]:
        training = learner.start(to_backend(self.xp, episode.theta), tree_to_backend(self.xp, phi))
        if meta is not None:
            training = learner.resume(training._replace(meta=tree_to_backend(self.xp, meta)))
        losses, blocks = [], Blocks(learner, episode.task, self.xp)
        for made in blocks.through(training, islice(episode.batches(self.xp), n_steps)):
            training = made.training
            losses.append(made.report.loss)
        return training, np.array(losses)

    def _draw(self, index: int, split: str) -> Episode:
        s = self.settings
        episode = self.distribution.draw(s.seed, index, split, s.curvature, self.execution)
        if split == "train" and s.random_scaling:
            rng, r = generator(s.seed, "random scaling", index), s.random_scaling
            scale = np.exp(rng.uniform(-r, r, episode.theta.shape)).astype(episode.theta.dtype)
            task = Rescaled(episode.task, to_backend(self.xp, scale))
            return replace(episode, task=task, theta=episode.theta / scale)
        return episode

    def _optimizer(self, layout: Layout, curvature_every: int | None = None) -> Optimizer:
        s, (least, most) = self.settings, self.settings.curvature_range
        own = dict(s.optimizer_settings)
        if most > 1:
            own["curvature_every"] = curvature_every or (least if least == most else 1)
        return make_optimizer(s.optimizer, layout, execution=self.execution, **own)


def meta_train(
    trainer: MetaTrainer,
    progress: Progress,
    watch: Callable[[Progress, Report], None],
    is_interrupted: Callable[[], bool] = lambda: False,
) -> Progress:
    """Run episodes until the trainer is finished; ``watch`` is told of each, and may save the progress."""
    while not trainer.is_finished(progress) and not is_interrupted():
        progress, report = trainer.run_episode(progress)
        watch(progress, report)
    return progress
