"""SUPERB's emotion recognition on IEMOCAP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...errors import CorpusError
from ..heads import classes
from ..task import Layout, Metric, Task, Values

EMOTIONS = {"neu": 0, "hap": 1, "ang": 2, "sad": 3}
ALIASES = {"exc": "hap"}  # SUPERB counts excitement as happiness


def _place(root: Path) -> Values:
    lists = root / "meta_data"
    return {"datarc": {"root": str(root), "meta_data": str(lists) if lists.is_dir() else None}}


def _prepare(section: Values, folder: Path) -> None:
    data = section["datarc"]
    if not data.get("meta_data"):
        data["meta_data"] = str(folder / "meta_data")
        _write_lists(Path(data["root"]), folder / "meta_data")


def _write_lists(root: Path, folder: Path) -> None:
    """Write a list of each session's recordings, and one of the others', as s3prl's script does."""
    sessions = sorted(path.name for path in root.glob("Session*") if path.is_dir())
    labelled = {name: _read_labels(root, name) for name in sessions}
    for name in sessions:
        others = [entry for other in sessions if other != name for entry in labelled[other]]
        for split, entries in (("train", others), ("test", labelled[name])):
            target = folder / name / f"{split}_meta_data.json"
            target.parent.mkdir(parents=True, exist_ok=True)
            lists = {"labels": EMOTIONS, "meta_data": entries}
            target.write_text(json.dumps(lists), encoding="utf-8")


def _read_labels(root: Path, session: str) -> list[dict[str, str]]:
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
            label = ALIASES.get(parts[2], parts[2])
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


def _names(expert: Any) -> list[str]:
    names = expert.test_dataset.idx2emotion
    return [names[number] for number in range(len(names))]


TASK = Task(
    name="emotion",
    short="er",
    title="emotion recognition",
    # No column of the leaderboard: the official figure is a mean over five folds.
    metrics=(Metric(key="acc", label="ER acc"),),
    pooled=True,
    head=classes(_names),
    layout=Layout(
        title="IEMOCAP",
        fetch="USC's SAIL lab",
        text="Session{1..5}/sentences/wav/*/*.wav and Session{1..5}/dialog/EmoEvaluation/*.txt",
        needed=("Session1",),
        place=_place,
        key="datarc.root",
        published={
            "Session*/sentences/wav/*/*.wav": 10_039,
        },
    ),
    prepare=_prepare,
)
