"""SUPERB's keyword spotting on Speech Commands v0.01; v0.02 is read too, as another corpus."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from ...data.audio import audio_info
from ...errors import CorpusError
from ..heads import classes
from ..task import Layout, Metric, Task, Values, first_existing

LATER = "v0.02"
TRAIN = ("speech_commands_v0.01", f"speech_commands_{LATER}", "train")
TEST = ("speech_commands_test_set_v0.01", f"speech_commands_test_set_{LATER}", "test")
NOISE = "_background_noise_"
CLASSES_FILE = "classes.txt"  # beside a corpus in this layout with words of its own
EFFECTS = (("gain", "-3.0"),)  # of s3prl's data set, on 16 kHz mono
CLASS_COUNT = 12  # classes of s3prl's expert


def _place(root: Path) -> Values:
    return {
        "datarc": {
            "speech_commands_root": str(first_existing(root, *TRAIN)),
            "speech_commands_test_root": str(first_existing(root, *TEST)),
        }
    }


def _edition(root: Path) -> str:
    chosen = (first_existing(root, *names) for names in (TRAIN, TEST))
    return LATER if any(path.name.endswith(LATER) for path in chosen) else ""


def _prepare(section: Values, folder: Path) -> None:
    root = Path(section["datarc"]["speech_commands_root"])
    test = Path(section["datarc"]["speech_commands_test_root"])
    for path in sorted((root / NOISE).glob("*.wav")):
        info = audio_info(path)
        if info.duration < 1:
            raise CorpusError(
                f"'{path}' lasts {info.duration:.2f} s, expected a second or more of background "
                "noise, of which s3prl crops a second; remove it"
            )
    for other in (root, test):
        hidden = next(other.glob("*/._*.wav"), None)
        if hidden is not None:
            raise CorpusError(
                f"'{hidden}' is no recording but a file that macOS added; remove such files with "
                f"find '{other}' -name '._*' -delete"
            )
    classes = _set_class_words(root)
    unknown = {path.name for path in test.iterdir() if path.is_dir()} - set(classes)
    if unknown:
        raise CorpusError(
            f"'{test / min(unknown)}' is none of the {CLASS_COUNT} classes ({', '.join(classes)}); "
            "remove it"
        )


def _set_class_words(root: Path) -> list[str]:
    """Set the words of the corpus in s3prl's module, which holds them as a constant."""
    from s3prl.downstream.speech_commands import dataset

    words = list(_official_words())
    path = root.parent / CLASSES_FILE
    if path.is_file():
        words = path.read_text(encoding="utf-8").split()
        if len(set(words)) != CLASS_COUNT or not {"_unknown_", "_silence_"} <= set(words):
            raise CorpusError(
                f"'{path}' must name {CLASS_COUNT} classes, _unknown_ and _silence_ among them; "
                f"found {len(words)}"
            )
    dataset.CLASSES[:] = words  # the list that the expert's module holds too
    return words


@cache
def _official_words() -> tuple[str, ...]:
    from s3prl.downstream.speech_commands import dataset

    return tuple(dataset.CLASSES)


def _sort_recordings(expert: Any) -> None:
    """Sort what s3prl lists in the file system's order, so that batches do not depend on it."""
    for data in (expert.train_dataset, expert.dev_dataset):
        together = sorted(zip(data.data, data.sample_weights, strict=True), key=str)
        data.data = [entry for entry, _ in together]
        data.sample_weights = [weight for _, weight in together]
    expert.test_dataset.data.sort(key=str)


def _words(expert: Any) -> list[str]:
    from s3prl.downstream.speech_commands import dataset

    return list(dataset.CLASSES)


TASK = Task(
    name="speech_commands",
    short="ks",
    title="keyword spotting",
    metrics=(Metric(key="acc", label="KS acc", column="KS"),),
    pooled=True,
    head=classes(_words, effects=EFFECTS),
    layout=Layout(
        title="Speech Commands v0.01",
        fetch="download.tensorflow.org (the training and the test archive)",
        text="speech_commands_v0.01/<word>/*.wav with _background_noise_/, "
        "speech_commands_test_set_v0.01/<class>/*.wav (or the folders of v0.02)",
        needed=("|".join(TRAIN), "|".join(TEST)),
        place=_place,
        key="datarc.speech_commands_root",
        edition=_edition,
        published={
            "speech_commands_v0.01/*/*.wav|train/*/*.wav": 64_727,
            "speech_commands_test_set_v0.01/*/*.wav|test/*/*.wav": 3_081,
        },
    ),
    prepare=_prepare,
    correct=_sort_recordings,
)
