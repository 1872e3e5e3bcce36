"""Every kind of checkpoint behind one `read`: folders, official files, shipped models, Hub ids."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError, first_line
from ..model.config import VARIANTS
from .locate import CONFIG_FILE, WEIGHTS_FILE, check_source, find_checkpoint, shipped_model
from .released import find_released

if TYPE_CHECKING:
    from .native import StoredModel

__all__ = ["read"]


def read(source: str | Path, **hub: Any) -> StoredModel:
    """Read a trained model. Nothing in its files is run.

    Args:
        source: an experiment or checkpoint folder, an official SpeechCLIP or SpeechCLIP+ .ckpt, the
            name of a model that the package ships (`speechclip_plus`) or that the authors released
            (`speechclip/models/large/flickr/parallel`, see `released`), or a Hugging Face Hub id.
        **hub: options of huggingface_hub's download.

    Raises:
        CheckpointError: there is no such checkpoint, or it cannot be read.
    """
    check_source(source)
    # Whoever only asks where models lie need not wait for torch.
    from .native import read_checkpoint
    from .official import read_official

    path = Path(source)
    if path.is_dir():
        return read_checkpoint(find_checkpoint(path))
    if path.is_file():
        return read_official(path)
    if str(source) in VARIANTS:
        return read_checkpoint(shipped_model(str(source)))
    released = find_released(str(source))
    if released is not None:
        return released.read(**hub)[0]
    return read_checkpoint(_download(str(source), hub))


def _download(repository: str, hub: dict[str, Any]) -> Path:
    from huggingface_hub import snapshot_download

    files = [CONFIG_FILE, WEIGHTS_FILE]
    try:
        return Path(snapshot_download(repository, allow_patterns=files, **hub))
    except Exception as error:
        # The Hub client raises many kinds for one cause: there is no such checkpoint.
        raise CheckpointError(
            f"no checkpoint '{repository}': no such folder or file, and the Hub does not provide "
            f"it ({first_line(error)})"
        ) from error
