"""Features of the semantic set in the files that the toolkit `zerospeech-benchmarks` reads.

meta.yaml      who submits what; the parts in <> are left to the submitter
params.yaml    how the features are pooled and compared
semantic/{dev,test}/{librispeech,synthetic}/<filename>.npy    (T, D) float64, or .txt
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from s3prl_speechclip.data.cache import writing
from s3prl_speechclip.data.corpora.zerospeech import SPLITS, SemanticSet
from s3prl_speechclip.errors import ResultError

from .zerospeech_features import FeatureSource, frames

FORMATS = ("npy", "txt")


@dataclass(frozen=True)
class Choice:
    """How a recording becomes a vector, and vectors are compared."""

    layer: int
    pooling: str
    distance: str


def write_submission(
    folder: Path,
    source: FeatureSource,
    data: SemanticSet,
    choice: Choice,
    *,
    form: Literal["npy", "txt"] = "npy",
    batch_size: int = 32,
    show_progress: bool = True,
) -> Path:
    """Write a submission; `zrc benchmarks:run sLM21 FOLDER -t semantic` scores it.

    Args:
        folder: to write to; new or empty.
        source: of the features.
        data: the set.
        choice: of layer, pooling and distance.
        form: of the files.
        batch_size: recordings encoded at once.
        show_progress: a bar on standard error.

    Raises:
        ResultError: the folder holds something.
        CorpusError, AudioError: something of the set is missing, or the folder cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ResultError(f"'{folder}' is not empty; name a new folder for the submission")
    with writing(folder):
        for split in SPLITS:
            recordings = data.split(split).recordings()
            target = folder / "semantic" / split
            for kind in {kind for kind, _ in recordings}:
                (target / kind).mkdir(parents=True)
            for (kind, name), layers in frames(source, recordings, batch_size, show_progress):
                matrix = layers[choice.layer].numpy().astype(np.float64)
                if form == "npy":
                    np.save(target / kind / f"{name}.npy", matrix)
                else:
                    # With all digits, so that both forms score alike.
                    np.savetxt(target / kind / f"{name}.txt", matrix, fmt="%.17g")
        _write_yaml(folder / "params.yaml", _parameters(choice, form))
        _write_yaml(folder / "meta.yaml", _meta(source, data, choice))
    return folder


def _parameters(choice: Choice, form: str) -> dict[str, object]:
    return {
        "quiet": False,
        "semantic": {
            "metric": choice.distance,
            "pooling": choice.pooling,
            "librispeech": True,
            "synthetic": True,
            "n_jobs": 1,
        },
        # The toolkit takes the semantic task's file type from here.
        "syntactic": {"score_files_type": f".{form}"},
    }


def _meta(source: FeatureSource, data: SemanticSet, choice: Choice) -> dict[str, object]:
    size = f" ({source.size})" if source.size else ""
    return {
        "username": "<user name on zerospeech.com>",
        "benchmark_name": "sLM21",
        "model_info": {
            "system_description": f"{source.system}{size}, layer {choice.layer}, features of "
            f"{data.corpus}, SHA-256 of the weights {source.checkpoint_hash or 'none'}",
            "train_set": "<what the system was trained on>",
            "gpu_budget": "<hours>",
        },
        "publication": {
            "author_label": "<first author et al.>",
            "authors": "<all authors>",
            "paper_title": "<title>",
            "paper_url": "<address>",
            "publication_year": 0,
            "institution": "<institution>",
            "team": "<team>",
        },
        "open_source": True,
        "code_url": "<address>",
    }


def _write_yaml(path: Path, values: dict[str, object]) -> None:
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
