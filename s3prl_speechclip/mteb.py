"""The models of this project in mteb, the benchmark of embeddings.

mteb has no plug-ins, so importing this module enters the models into the table that
`mteb.get_model` looks names up in: the released checkpoints by the names of `-k`
(`speechclip/models/large/coco/parallel`), the shipped ones as `s3prl_speechclip/NAME-mini`.

mteb's `hit_rate_at_k` is the recall at k of this project and of the papers: whether any right
answer is among the first k. Its `recall_at_k` is the share of all right answers that are. Both
agree from speech to image, where a query has one right answer; an image with five recordings has
five.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .checkpoints.locate import Located, shipped_model
from .checkpoints.released import RELEASED, Released
from .data.audio import mono
from .data.images import to_rgb
from .encoders.shipped import shipped_folder
from .encoders.vocabulary import CONTEXT
from .errors import ConfigError, unknown_name
from .model.config import VARIANTS, find_variant
from .model.speechclip import SpeechClip
from .results import versions
from .runtime.devices import find_device

try:
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_implementations import MODEL_REGISTRY
    from mteb.models.model_meta import ModelMeta, ScoringFunction
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"the package '{error.name}' is missing; on Python 3.11 or later install what this needs "
        "with: pip install 's3prl_speechclip[mteb]'",
        name=error.name,
    ) from error

if TYPE_CHECKING:
    from mteb.types import BatchedInput
    from PIL.Image import Image
    from torch.utils.data import DataLoader

MINI = "s3prl_speechclip/{}-mini"
"""Name of a shipped model in mteb, by its hub name."""
FLICKR = {"FlickrAudioToImageRetrieval", "FlickrImageToAudioRetrieval"}
COCO = {
    *(f"SpokenCOCO{way}Retrieval" for way in ("A2I", "I2A")),
    *(f"SpeechCoco{way}Retrieval" for way in ("A2I", "I2A")),
}
TRAINED_ON = {"flickr": FLICKR, "coco": COCO}
"""mteb's tasks that a model is not zero-shot on, by training corpus.

The Flickr tasks are the whole corpus, with the 6,000 images of SpeechCLIP's training. SpokenCOCO's
are its test split; SpeechCoco's are images of COCO's validation part, most of which the Karpathy
split trains on.
"""
PAPERS: Mapping[str, Mapping[str, Any]] = {
    "speechclip/models": {
        "release_date": "2022-10-03",
        "license": "bsd-3-clause",  # of the code; the weights state none of their own
        "public_training_code": "https://github.com/atosystem/SpeechCLIP",
        "citation": "@inproceedings{shih2022speechclip,\n  title={{SpeechCLIP}: Integrating Speech "
        "with Pre-Trained Vision and Language Model},\n  author={Shih, Yi-Jen and Wang, Hsuan-Fu "
        "and Chang, Heng-Jui and Berry, Layne and Lee, Hung-yi and Harwath, David},\n"
        "  booktitle={IEEE SLT},\n  year={2022}\n}",
    },
    "ShampooWang/speechclip_plus": {
        "release_date": "2024-02-10",
        "license": "not specified",
        "public_training_code": "https://github.com/ShampooWang/SpeechCLIP_plus",
        "citation": "@article{wang2024speechclipplus,\n  title={{SpeechCLIP+}: Self-supervised "
        "multi-task representation learning for speech via {CLIP} and speech-image data},\n"
        "  author={Wang, Hsuan-Fu and Shih, Yi-Jen and Chang, Heng-Jui and Berry, Layne and Peng, "
        "Puyuan and Lee, Hung-yi and Wang, Hsin-Min and Harwath, David},\n"
        "  journal={arXiv:2402.06959},\n  year={2024}\n}",
    },
}
DATA = {
    "flickr": "https://groups.csail.mit.edu/sls/downloads/flickraudio",
    "coco": "https://groups.csail.mit.edu/sls/downloads/spokencoco",
    "stamps": "https://packages.debian.org/tuxpaint-stamps-default",
}
"""Addresses of training data."""
WIDTHS = {"base": 512, "large": 768}  # E of CLIP ViT-B/32 and ViT-L/14
GPL = "https://www.gnu.org/licenses/old-licenses/gpl-2.0.html"  # of stamps, the mini models' data
SUM = "sum"  # of the parallel and the cascaded embedding


class SpeechClipEncoder(AbsEncoder):
    """A model of the SpeechCLIP family as mteb's encoder of audio, images and text.

    `mteb.get_model(NAME)` makes one. A model of one's own:
    `mteb.evaluate(SpeechClipEncoder("result/pretrain/my_run"), tasks)`.

    Args:
        model_name: name in mteb, or anything that `SpeechClip.from_pretrained` takes.
        revision: ignored, each name has one.
        device: `cpu`, `cuda` or `cuda:N`; None: a GPU where there is one.
        embedding: embedding of speech, `parallel`, `cascaded` or `sum`; None: the first of these
            that the model has.
        **options: further options of `SpeechClip.from_pretrained`, such as `batch_invariant`.

    Raises:
        ConfigError: the model has no such embedding.
        CheckpointError: as `SpeechClip.from_pretrained`.
    """

    def __init__(
        self,
        model_name: str,
        revision: str | None = None,
        *,
        device: str | None = None,
        embedding: str | None = None,
        **options: Any,
    ) -> None:
        source = SOURCES.get(model_name, model_name)
        self.model = SpeechClip.from_pretrained(source, **options)
        self.model.to(find_device(device or "auto"))
        variant = find_variant(self.model.config.variant)
        kinds = {"parallel": variant.parallel, "cascaded": variant.keywords is not None}
        names = [name for name, held in kinds.items() if held]
        self.embedding = embedding or names[0]
        if self.embedding not in (*names, SUM):
            raise ConfigError(unknown_name(f"embedding of {model_name}", self.embedding, names))
        self.mteb_model_meta = MODEL_REGISTRY.get(model_name) or _own_meta(source, self.model)

    @torch.no_grad()
    def encode(self, inputs: DataLoader[BatchedInput], **task: Any) -> Tensor:
        """Embed what a data loader of mteb gives: audio, images or text, or their sum.

        Args:
            inputs: batches with some of the columns `audio`, `image` and `text`.
            **task: mteb's description of the task, which changes nothing.

        Returns:
            (N, E) unit vectors, float32 on the CPU.
        """
        ways: Mapping[str, Callable[..., Tensor]] = {
            "audio": self._audio,
            "image": self._images,
            "text": self.model.encode_text,
        }
        rows = []
        for batch in inputs:
            parts = [embed(batch[name]) for name, embed in ways.items() if name in batch]
            rows.append(F.normalize(torch.stack(parts).sum(0).float().cpu(), dim=-1))
        return torch.cat(rows)

    def _audio(self, recordings: Sequence[Mapping[str, Any]]) -> Tensor:
        named = self.model.encode_speech([_waveform(one) for one in recordings]).embeddings
        if self.embedding == SUM:
            return torch.stack(list(named.values())).sum(0)
        return named[self.embedding]

    def _images(self, images: Sequence[Image]) -> Tensor:
        transform = self.model.clip.preprocess()
        pixels = torch.stack([transform(to_rgb(image)) for image in images])
        return self.model.encode_images(pixels.to(self.model.clip.vocabulary.device))


def _waveform(recording: Mapping[str, Any]) -> np.ndarray:
    """Return a recording of mteb, with channels first where it has several, as 16 kHz mono."""
    channels = np.atleast_2d(np.asarray(recording["array"], dtype=np.float32)).T
    return mono(channels, int(recording["sampling_rate"]))


def _meta(name: str, revision: str, width: int, **about: Any) -> ModelMeta:
    """Return the metadata of a model; what `about` leaves out is unknown."""
    unknown = (
        *("n_parameters", "memory_usage_mb", "release_date", "license", "training_datasets"),
        *("public_training_code", "public_training_data"),
    )
    return ModelMeta(
        loader=SpeechClipEncoder,
        name=name,
        revision=revision,
        embed_dim=width,
        max_tokens=CONTEXT,
        languages=["eng-Latn"],
        modalities=["audio", "image", "text"],
        framework=["PyTorch"],
        similarity_fn_name=ScoringFunction.COSINE,
        use_instructions=False,
        open_weights=True,
        **{**dict.fromkeys(unknown), **about},
    )


def _released_meta(released: Released) -> ModelMeta:
    size, corpus, *_ = released.file.split("/")
    return _meta(
        released.name,
        "main",
        WIDTHS[size],
        training_datasets=TRAINED_ON[corpus],
        public_training_data=DATA[corpus],
        reference=f"https://huggingface.co/{released.repository}",
        **PAPERS[released.repository],
    )


def _mini_meta(variant: str) -> ModelMeta:
    about = json.loads((shipped_folder("clip") / "config.json").read_text(encoding="utf-8"))
    return _meta(
        MINI.format(variant),
        versions()["s3prl_speechclip"],
        about["architecture"]["embed_dim"],
        license=GPL,
        training_datasets=set(),
        public_training_data=DATA["stamps"],
    )


def _own_meta(source: str, model: SpeechClip) -> ModelMeta:
    name = f"own/{Path(source).name}"
    return _meta(name, Located(source, "").digest()[:12] or "main", model.clip.joint_width)


SOURCES = {name: name for name in RELEASED}
SOURCES |= {MINI.format(name): str(shipped_model(name)) for name in VARIANTS}
"""Argument of `SpeechClip.from_pretrained` by name in mteb."""
MODEL_REGISTRY.update({name: _released_meta(released) for name, released in RELEASED.items()})
MODEL_REGISTRY.update({MINI.format(name): _mini_meta(name) for name in VARIANTS})
