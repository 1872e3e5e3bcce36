"""Word times that come in a file of their own, beside a corpus."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from s3prl_speechclip.data.manifest import Manifest, Word
from s3prl_speechclip.errors import CorpusError

logger = logging.getLogger(__name__)

FORM = (
    '{"data": [{"caption": {"wav": "PATH.wav"}, "text_alignment": "START__WORD__END ..."}]}, as '
    "SpokenCOCO_*_unrolled_karpathy_with_alignments.json"
)


def with_alignments(manifest: Manifest, path: Path) -> Manifest:
    """Give a corpus the word times of a file.

    Args:
        manifest: the corpus; recordings that the file does not align keep what they have, and a
            note counts them.
        path: JSON in the form of the alignments of SpokenCOCO; times in seconds, recordings known
            by their file's name.

    Raises:
        CorpusError: the file is missing, of another form, or aligns no recording of the corpus.
    """
    aligned = _read(path)
    utterances = tuple(
        replace(u, words=aligned.get(Path(u.audio).stem, u.words)) for u in manifest.utterances
    )
    found = sum(Path(u.audio).stem in aligned for u in utterances)
    if not found:
        raise CorpusError(
            f"'{path}' aligns {len(aligned)} recordings, none of them of {manifest.corpus}; give "
            "the alignments of this corpus"
        )
    note = f"word times of {found} of {len(utterances)} recordings from {path.name}"
    logger.info("%s", note)
    return replace(manifest, utterances=utterances, notes=(*manifest.notes, note))


def _read(path: Path) -> dict[str, tuple[Word, ...]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["data"]
        pairs = [_row(row) for row in rows]
    except OSError as error:
        raise CorpusError(f"cannot read the alignments '{path}': {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorpusError(f"'{path}' holds no alignments ({error}); expected {FORM}") from error
    return {name: words for name, words in pairs if words}


def _row(row: dict[str, Any]) -> tuple[str, tuple[Word, ...]]:
    words = []
    for token in row.get("text_alignment", "").split():
        fields = token.split("__")
        # A pause has no word between its times.
        if len(fields) == 3 and fields[1]:
            words.append(Word(fields[1].lower(), float(fields[0]), float(fields[2])))
    return Path(row["caption"]["wav"]).stem, tuple(words)
