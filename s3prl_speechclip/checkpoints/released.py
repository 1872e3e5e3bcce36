"""The checkpoints that the authors of SpeechCLIP and SpeechCLIP+ released on the Hub, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import atomic_file
from ..data.cache import cache_home, writing
from ..errors import CheckpointError, first_line, unknown_name
from ..hashing import file_hash
from ..model.config import find_variant

if TYPE_CHECKING:
    from .native import StoredModel
    from .official.ledger import Ledger

FILES = {
    "speechclip/models": (
        "base/flickr/cascaded/epoch_58-step_6902-val_recall_mean_1_7.7700.ckpt",
        "base/flickr/parallel/epoch_131-step_15443-val_recall_mean_1_36.0100.ckpt",
        "large/flickr/cascaded/epoch_187-step_21995-val_recall_mean_10_62.7700.ckpt",
        "large/flickr/parallel/epoch_56-step_6668-val_recall_mean_10_89.0000.ckpt",
        "large/coco/cascaded/epoch_12-step_28794-val_recall_mean_10_36.1455.ckpt",
        "large/coco/parallel/epoch_14-step_33224-val_recall_mean_10_84.0128.ckpt",
    ),
    "ShampooWang/speechclip_plus": (
        "base/flickr/cascaded+/epoch=326-step=38258-val_recall_mean_10=42.1100.ckpt",
        "base/flickr/hybrid/epoch=134-step=15794-val_recall_mean_10=80.0100.ckpt",
        "base/flickr/hybrid+/epoch=80-step=9476-val_recall_mean_10=81.0300.ckpt",
        "large/flickr/cascaded+/epoch=112-step=26441-val_recall_mean_10=60.0500.ckpt",
        "large/flickr/hybrid/epoch=85-step=10061-val_recall_mean_10=90.1000.ckpt",
        "large/flickr/hybrid+/epoch=50-step=5966-val_recall_mean_10=89.3500.ckpt",
        "large/coco/cascaded+/epoch=10-step=48740-val_recall_mean_10=31.2973.ckpt",
        "large/coco/hybrid/epoch=12-step=28794-val_recall_mean_10=79.2988.ckpt",
        "large/coco/hybrid+/epoch=21-step=48729-val_recall_mean_10=83.5408.ckpt",
    ),
}
"""Files by repository, from the download scripts of the two official code bases."""
HUB_NAMES = {
    "parallel": "speechclip_parallel",
    "cascaded": "speechclip_cascaded",
    "cascaded+": "speechclip_plus",
    "hybrid": "speechclip_hybrid",
    "hybrid+": "speechclip_hybrid_plus",
}
TITLES = {"flickr": "Flickr8k", "coco": "SpokenCOCO"}


@dataclass(frozen=True)
class Released:
    """A released checkpoint: `repository` and `file` in it, as `large/flickr/parallel/....ckpt`."""

    repository: str
    file: str

    @property
    def name(self) -> str:
        """Repository and folder, the value of `-k`."""
        return f"{self.repository}/{self.file.rpartition('/')[0]}"

    def describe(self) -> str:
        """Return a line of `python -m s3prl_speechclip.checkpoints list`."""
        size, corpus, kind, file = self.file.split("/")
        recall = re.search(r"mean_(\d+)[_=]([\d.]+)\.ckpt", file)
        assert recall is not None
        paper = find_variant(HUB_NAMES[kind]).paper_name
        figure = f"R@{recall[1]} {float(recall[2]):.2f}"
        return f"{self.name:48} {paper:22} {size:5} {TITLES[corpus]:10} {figure:>10}"

    def read(self, **hub: Any) -> tuple[StoredModel, Ledger]:
        """Read the checkpoint, with the account of its weights; see `download`.

        Raises:
            CheckpointError: it cannot be read, or is another file than at its first use.
        """
        from .official import convert_official

        path = self.download(**hub)
        digest = file_hash(path)
        self._check_digest(path, digest)
        return convert_official(path, digest)

    def download(self, **hub: Any) -> Path:
        """Return the local file, which is downloaded at its first use.

        Raises:
            CheckpointError: the Hub does not provide it.
        """
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(self.repository, self.file, **hub))
        except Exception as error:
            # The Hub client raises many kinds for one cause: it does not provide the file.
            raise CheckpointError(
                f"the Hub does not provide the checkpoint '{self.name}' ({first_line(error)}); go "
                "online once, or download its .ckpt yourself and give that"
            ) from error

    def _check_digest(self, path: Path, found: str) -> None:
        record = cache_home() / "released" / f"{self.name.replace('/', '--')}.sha256"
        if not record.is_file():
            with writing(record.parent), atomic_file(record) as partial:
                partial.write_text(found, encoding="utf-8")
        expected = record.read_text(encoding="utf-8").strip()
        if found != expected:
            raise CheckpointError(
                f"'{path}' is not the file that was first downloaded as {self.name} (SHA-256 "
                f"{expected[:12]} expected, {found[:12]} found): remove it, or '{record}' if its "
                "authors replaced it"
            )


RELEASED: Mapping[str, Released] = {
    released.name: released
    for repository, files in FILES.items()
    for released in (Released(repository, file) for file in files)
}


def find_released(source: str) -> Released | None:
    """Find a released checkpoint by its name; None: the name is of no official repository.

    Raises:
        CheckpointError: an official repository holds no checkpoint of that name, or several.
    """
    if source in RELEASED:
        return RELEASED[source]
    if source in FILES:
        names = ", ".join(name for name in RELEASED if name.startswith(f"{source}/"))
        raise CheckpointError(f"'{source}' holds several checkpoints: name one of {names}")
    if any(source.startswith(f"{repository}/") for repository in FILES):
        raise CheckpointError(unknown_name("released checkpoint", source, RELEASED))
    return None
