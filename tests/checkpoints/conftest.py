"""The golden cases, each converted once."""

from __future__ import annotations

import copy
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from s3prl_speechclip.checkpoints.native import StoredModel
from s3prl_speechclip.checkpoints.official import convert_official
from s3prl_speechclip.checkpoints.official.ledger import Ledger
from s3prl_speechclip.checkpoints.official.reading import open_official
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.structures import SpeechBatch

CASES = (
    "parallel",
    "parallel_ln",
    "cascaded",
    "cascaded_plus",
    "hybrid",
    "hybrid_plus",
    "hybrid_plus_ln",
)


@dataclass(frozen=True)
class Case:
    """One golden case."""

    path: Path
    """Of the official checkpoint."""
    arrays: dict[str, Tensor]
    """Inputs and outputs of the official code, by the goldens' names."""
    stored: StoredModel
    ledger: Ledger

    def model(self) -> SpeechClip:
        return SpeechClip.from_stored(self.stored)

    @property
    def waveforms(self) -> list[Tensor]:
        return [self.arrays[f"wav{i}"] for i in range(4)]

    @property
    def speech(self) -> SpeechBatch:
        lengths = torch.tensor([len(waveform) for waveform in self.waveforms])
        return SpeechBatch(
            torch.nn.utils.rnn.pad_sequence(self.waveforms, batch_first=True), lengths
        )

    def keyword_lengths(self, mode: str) -> Tensor:
        fixed = torch.full((4,), self.stored.config.keywords.number)
        return self.arrays.get(f"{mode}/cif_dsample_feats_length", fixed)


@pytest.fixture(scope="session")
def load_case(goldens: Path) -> Callable[[str], Case]:
    @cache
    def load(name: str) -> Case:
        with np.load(goldens / name / "io.npz") as arrays:
            tensors = {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}
        path = goldens / name / "official.ckpt"
        return Case(path, tensors, *convert_official(path))

    return load


@pytest.fixture(scope="session", params=CASES)
def case(request: pytest.FixtureRequest, load_case: Callable[[str], Case]) -> Case:
    return load_case(request.param)


def namespace(values: dict[str, Any], kind: type) -> Any:
    """Nest plain settings in the class that official files pickle them in."""
    instance = kind()
    instance.__dict__.update(
        {k: namespace(v, kind) if isinstance(v, dict) else v for k, v in values.items()}
    )
    return instance


@pytest.fixture
def save_official(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[str, Any], dict[str, Tensor]], Path]:
    """Write a file in the official form, under the official class's name."""

    def save(settings: dict[str, Any], state: dict[str, Tensor]) -> Path:
        name = "avssl.base.ordered_namespace"
        kind = type("OrderedNamespace", (), {"__module__": name})
        module = types.ModuleType(name)
        module.OrderedNamespace = kind  # type: ignore[attr-defined]
        path = tmp_path / "official.ckpt"
        with monkeypatch.context() as patch:
            for package in ("avssl", "avssl.base", name):
                patch.setitem(sys.modules, package, module)
            content = {
                "epoch": 3,
                "global_step": 70,
                "state_dict": OrderedDict(state),
                "hyper_parameters": {"config": namespace(settings, kind)},
            }
            torch.save(content, path)
        return path

    return save


@pytest.fixture
def edit_official(load_case, save_official) -> Callable[..., Path]:
    """Write a golden checkpoint anew, after a function has changed its settings and weights."""

    def edit(name: str, change: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> Path:
        official = open_official(load_case(name).path)
        settings, state = copy.deepcopy(official.settings.values), dict(official.state)
        change(settings, state)
        return save_official(settings, state)

    return edit
