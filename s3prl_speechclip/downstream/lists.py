"""Lists of recordings that s3prl's experts read and scripts of its repository write."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import soundfile

from ..errors import CorpusError

EMOTIONS = {"neu": 0, "hap": 1, "ang": 2, "sad": 3}


def write_emotion_lists(root: Path, folder: Path) -> Path:
    """Write IEMOCAP's lists of recordings, for each session the others and itself.

    Four emotions, excitement taken as happiness, as SUPERB has them.

    Args:
        root: of the corpus.
        folder: to write to.

    Returns:
        `folder`.

    Raises:
        CorpusError: a folder is missing or holds no utterance of those emotions.
    """
    sessions = sorted(path.name for path in root.glob("Session*") if path.is_dir())
    told = {name: _emotions(root, name) for name in sessions}
    for name in sessions:
        others = [entry for other in sessions if other != name for entry in told[other]]
        for split, entries in (("train", others), ("test", told[name])):
            target = folder / name / f"{split}_meta_data.json"
            target.parent.mkdir(parents=True, exist_ok=True)
            lists = {"labels": EMOTIONS, "meta_data": entries}
            target.write_text(json.dumps(lists), encoding="utf-8")
    return folder


def _emotions(root: Path, session: str) -> list[dict[str, str]]:
    recordings = {
        path.stem: path.relative_to(root).as_posix()
        for path in sorted((root / session / "sentences" / "wav").rglob("*.wav"))
    }
    entries = []
    for file in sorted((root / session / "dialog" / "EmoEvaluation").glob("*.txt")):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            parts = [part for part in line.split("\t") if part]
            if not line.startswith("[") or len(parts) < 3 or parts[1] not in recordings:
                continue
            label = {"exc": "hap"}.get(parts[2], parts[2])
            if label in EMOTIONS:
                path = recordings[parts[1]]
                speaker = Path(path).name.split("_")[0]
                entries.append({"path": path, "label": label, "speaker": speaker})
    if not entries:
        raise CorpusError(
            f"'{root / session}' holds no utterance of {', '.join(EMOTIONS)}; expected "
            "sentences/wav/*/*.wav and dialog/EmoEvaluation/*.txt"
        )
    return entries


def write_length_tables(root: Path, folder: Path, splits: Sequence[str]) -> Path:
    """Write the lengths of recordings that s3prl's speech recognition sorts by, longest first.

    Args:
        root: of a corpus in LibriSpeech's layout.
        folder: to write to.
        splits: folders below `root`; those that are not there are left out.

    Returns:
        `folder`.

    Raises:
        CorpusError: a recording cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for split in splits:
        try:
            sized = [
                (soundfile.info(str(path)).frames, path.relative_to(root).as_posix())
                for path in sorted((root / split).rglob("*.flac"))
            ]
        except soundfile.LibsndfileError as error:
            raise CorpusError(f"a recording of '{root / split}' cannot be read: {error}") from error
        if not sized:
            continue
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["", "file_path", "length", "label"])
            rows = sorted(sized, key=lambda entry: -entry[0])
            writer.writerows([n, path, length, ""] for n, (length, path) in enumerate(rows))
    return folder
