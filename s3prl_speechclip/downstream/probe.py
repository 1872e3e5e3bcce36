"""The trained probe: s3prl's featurizer and expert, with the expert's data loaders."""

from __future__ import annotations

import contextlib
import copy
import importlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader

from ..errors import AudioError, ConfigError, CorpusError, SpeechClipError
from ..runtime.randomness import own_randomness
from .compat import quiet
from .plan import Plan
from .recordings import read_as_mono
from .task import EXPERT, Task
from .upstreams import check_selection

Records = defaultdict[str, list[Any]]


def build_probe(plan: Plan, upstream: nn.Module, device: torch.device) -> Probe:
    """Build what a plan trains, on the upstream's device; its first weights follow from the seed.

    Raises:
        SpeechClipError: what a user can cause, on one line.
    """
    request = plan.request
    states = check_selection(upstream, str(request.selection), request.layer, device)
    with own_randomness(plan.seed):
        featurizer = build_featurizer(plan, upstream, device)
        expert = build_expert(plan, featurizer.output_dim, featurizer.downsample_rate)
    specaug: nn.Module | None = None
    if plan.config.get("specaug"):
        from s3prl.downstream.specaug import SpecAug

        with _section("specaug"):
            specaug = SpecAug(**plan.config["specaug"])
    trained = upstream if request.trainable else None
    return Probe(featurizer, expert, states, trained, specaug).to(device)


def build_featurizer(plan: Plan, upstream: nn.Module, device: torch.device) -> Any:
    """Build s3prl's featurizer, which weighs or selects the upstream's hidden states."""
    from s3prl.upstream.interfaces import Featurizer

    request = plan.request
    with quiet():
        return Featurizer(
            upstream,
            request.selection,
            upstream_device=device,
            layer_selection=request.layer,
            normalize=bool(request.normalize),
        ).to(device)


class Probe(nn.Module):
    """Recordings or their features to an expert's loss.

    Args:
        featurizer: s3prl's, weighs and selects hidden states.
        expert: s3prl's, the task's head.
        states_of_upstream: number of the upstream's states.
        upstream: fine-tuned along with them, or None: its features are given.
        specaug: s3prl's masking of features in training, or None.
    """

    featurizer: Any
    expert: Any

    def __init__(
        self,
        featurizer: nn.Module,
        expert: nn.Module,
        states_of_upstream: int,
        upstream: nn.Module | None = None,
        specaug: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.featurizer = featurizer
        self.expert = expert
        self.states_of_upstream = states_of_upstream
        self.upstream = upstream
        self.specaug = specaug
        # Not an argument of forward: a distributed wrapper hands copies of those on.
        self.records = new_records()

    def forward(
        self,
        split: str,
        wavs: Sequence[Tensor],
        features: Any,
        others: Sequence[Any],
        batch_id: int,
    ) -> Tensor:
        """Compute the mean loss of a batch; the expert's notes go to `records`.

        Args:
            split: the expert's name of it.
            wavs: (L,) each.
            features: output of the frozen upstream; None where the upstream is trained.
            others: labels and names, as the expert's collation returns them.
            batch_id: number of the batch in its split.
        """
        if self.upstream is not None:
            features = self.upstream(wavs)
        frames = self.featurizer(wavs, features)
        if self.specaug is not None and self.training:
            frames, _ = self.specaug(frames)
        loss: Tensor = self.expert(split, frames, *others, records=self.records, batch_id=batch_id)
        return loss

    def states(self) -> dict[str, dict[str, Tensor]]:
        """Return the weights under the names of s3prl's checkpoints."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_states(self, states: dict[str, Any]) -> None:
        """Load the weights of those parts that a checkpoint has.

        Raises:
            RuntimeError: they do not fit.
        """
        for name, part in self._parts().items():
            if name in states:
                # The best score is set by replacing the buffer, at whatever length.
                part.load_state_dict(states[name])

    def _parts(self) -> dict[str, nn.Module]:
        parts = {"Featurizer": self.featurizer, "Downstream": self.expert}
        return parts | ({"Upstream": self.upstream} if self.upstream is not None else {})


def new_records() -> Records:
    """Return empty records for an expert."""
    return defaultdict(list)


def build_optimizer(config: Mapping[str, Any], module: nn.Module, steps: int) -> optim.Optimizer:
    """Build the optimiser of the section `optimizer`.

    Raises:
        ConfigError: the section is missing, or s3prl cannot use it.
    """
    from s3prl.optimizers import get_optimizer

    with _section("optimizer"):
        optimizer: optim.Optimizer = get_optimizer([module], steps, config["optimizer"])
    return optimizer


def build_scheduler(config: Mapping[str, Any], optimizer: optim.Optimizer, steps: int) -> Any:
    """Build the schedule of the section `scheduler`; None where there is none.

    Raises:
        ConfigError: s3prl cannot use the section.
    """
    if not config.get("scheduler"):
        return None
    from s3prl.schedulers import get_scheduler

    with _section("scheduler"):
        return get_scheduler(optimizer, steps, config["scheduler"])


def build_expert(plan: Plan, width: int, rate: int) -> nn.Module:
    """Build the expert of a plan's task.

    Args:
        plan: the run.
        width: size of the upstream's features.
        rate: samples per frame.

    Raises:
        ConfigError: s3prl's module needs a package that is not installed, or a key is missing.
        CorpusError: the expert cannot use the corpus.
    """
    task = plan.task
    config = copy.deepcopy(plan.config)  # s3prl's experts change theirs
    try:
        with corpus_errors(task), quiet():
            if task.prepare is not None:
                task.prepare(config[EXPERT], plan.folder)
            package = f"s3prl.downstream.{task.folder}"
            module = importlib.import_module(f"{package}.expert")
            read_as_mono(package)
            expert: nn.Module = module.DownstreamExpert(
                upstream_dim=width, upstream_rate=rate, **{**config, **plan.arguments()}
            )
            if task.correct is not None:
                task.correct(expert)
    except ImportError as error:
        name = error.name or str(error)
        raise ConfigError(
            f"s3prl's {task.name} needs the package '{name}'; install it with: "
            "pip install 's3prl_speechclip[superb]'"
        ) from error
    return expert


@contextlib.contextmanager
def corpus_errors(task: Task) -> Iterator[None]:
    """Turn what an expert's own reading of a corpus stumbles over into one line."""
    try:
        yield
    except AudioError as error:
        raise CorpusError(one_line(error)) from error
    except SpeechClipError:
        raise
    except (AssertionError, OSError, KeyError, ValueError, IndexError, TypeError) as error:
        raise CorpusError(
            f"s3prl's {task.name} cannot use the corpus as it is configured "
            f"({type(error).__name__}: {one_line(error)}); expected: "
            f"{task.layout_text}"
        ) from error


def one_line(error: Exception) -> str:
    """Return an error's text on one line, without pretraining's option to skip recordings."""
    return " ".join(str(error).split()).replace(", or leave it out with --skip-broken", "")


def data_loader(task: Task, expert: Any, split: str) -> DataLoader[Any]:
    """Make the data loader that an expert has for a split.

    Raises:
        ConfigError: the expert has no split of that name.
        CorpusError: the expert cannot read the split.
    """
    with corpus_errors(task), quiet():
        try:
            loader: DataLoader[Any] | None = expert.get_dataloader(split)
        except (AttributeError, NotImplementedError):
            loader = None  # how s3prl's experts reject a split
    if loader is None:
        raise ConfigError(f"s3prl's {task.name} has no split '{split}'")
    return loader


@contextlib.contextmanager
def _section(name: str) -> Iterator[None]:
    """Turn what s3prl raises at a section of a configuration into one line."""
    try:
        yield
    except (KeyError, NameError, TypeError, AttributeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"the section {name} cannot be used: {type(error).__name__}: {error}"
        ) from error
