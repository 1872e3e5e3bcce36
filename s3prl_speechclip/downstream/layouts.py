"""How the corpora of the tasks lie on disk, and which keys of s3prl's configuration say so."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CorpusError

EXPERT = "downstream_expert"
Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A task's corpus in its official layout."""

    title: str
    fetch: str
    """Where people get it."""
    layout: str
    """What lies below its root."""
    place: Callable[[Path], Values]
    """The keys of the section `downstream_expert` for a root."""
    needed: tuple[str, ...]
    """Files and folders below the root without which it is not the corpus."""
    key: str
    """Dotted key whose override says that the corpus is given otherwise."""
    mini: bool = False
    """True where a mini set can be made."""


def _first(root: Path, choices: Sequence[str]) -> Path:
    return next((root / name for name in choices if (root / name).exists()), root / choices[0])


def _speech_commands(root: Path) -> Values:
    train, test = SPEECH_COMMANDS
    return {
        "datarc": {
            "speech_commands_root": str(_first(root, train.split("|"))),
            "speech_commands_test_root": str(_first(root, test.split("|"))),
        }
    }


def _libriphone(root: Path) -> Values:
    lexicons = [str(root / name) for name in LEXICONS if (root / name).is_file()]
    return {"corpus": {"path": str(root), "lexicon": lexicons}}


def _snips(root: Path) -> Values:
    root = _first(root, ("SNIPS", "."))
    speakers = root / "speakers.json"
    groups: Values = {}
    if speakers.is_file():
        try:
            groups = dict(json.loads(speakers.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise CorpusError(f"cannot read '{speakers}' ({error}); restore it") from error
    return {
        "corpus": {"path": str(root), **groups},
        "text": {"slots_file": str(root / "slots.txt")},
    }


def _quesst(root: Path) -> Values:
    return {"datarc": {"dataset_root": str(_first(root, ("quesst14Database", ".")))}}


def _voxceleb1(root: Path) -> Values:
    split = _first(root, SPEAKER_SPLITS.split("|"))
    return {"datarc": {"file_path": str(root), "meta_data": str(split)}}


def _emotion(root: Path) -> Values:
    lists = root / "meta_data"
    return {"datarc": {"root": str(root), "meta_data": str(lists) if lists.is_dir() else None}}


def _asr(root: Path) -> Values:
    tables = root / "len_for_bucket"
    bucket_file = str(tables) if tables.is_dir() else None
    return {"datarc": {"libri_root": str(root), "bucket_file": bucket_file}}


def _sv_voxceleb1(root: Path) -> Values:
    names = {
        "train_meta_data": "dev_speaker_ids.txt",
        "dev_meta_data": "dev_meta_data.txt",
        "test_meta_data": "voxceleb1_test_v2.txt",
    }
    files = {key: str(root / name) for key, name in names.items()}
    return {"datarc": {"file_path": str(root), **files}}


def _diarization(root: Path) -> Values:
    return {"loaderrc": {f"{split}_dir": str(root / split) for split in ("train", "dev", "test")}}


SPEECH_COMMANDS = ("speech_commands_v0.01|train", "speech_commands_test_set_v0.01|test")
SPEAKER_SPLITS = "iden_split.txt|veri_test_class.txt"
LEXICONS = (
    "librispeech-lexicon-200k-g2p.txt",
    "librispeech-lexicon-allothers-g2p.txt",
    "librispeech-lexicon.txt",
)

CORPORA: Mapping[str, Corpus] = {
    "fluent_commands": Corpus(
        title="Fluent Speech Commands",
        fetch="fluent.ai",
        layout="data/{train,valid,test}_data.csv, wavs/speakers/<speaker>/*.wav",
        place=lambda root: {"datarc": {"file_path": str(root)}},
        needed=("data/train_data.csv", "data/valid_data.csv", "data/test_data.csv"),
        key=f"{EXPERT}.datarc.file_path",
        mini=True,
    ),
    "speech_commands": Corpus(
        title="Speech Commands v0.01",
        fetch="download.tensorflow.org (the training and the test archive)",
        layout="speech_commands_v0.01/<word>/*.wav with _background_noise_/, "
        "speech_commands_test_set_v0.01/<class>/*.wav",
        place=_speech_commands,
        needed=SPEECH_COMMANDS,
        key=f"{EXPERT}.datarc.speech_commands_root",
        mini=True,
    ),
    "libriphone": Corpus(
        title="LibriSpeech",
        fetch="openslr.org/12, and its lexicon from openslr.org/11",
        layout="{train-clean-100,dev-clean,test-clean}/<speaker>/<chapter>/*.flac and *.trans.txt, "
        f"and {' or '.join(LEXICONS)}",
        place=_libriphone,
        needed=("train-clean-100", "dev-clean", "test-clean", "|".join(LEXICONS)),
        key=f"{EXPERT}.corpus.path",
        mini=True,
    ),
    "snips": Corpus(
        title="Audio SNIPS",
        fetch="SUPERB's preprocessed release (s3prl's documentation of SF links it)",
        layout="{train,valid,test}/<speaker>-snips-<split>-<number>.wav, all.iob.snips.txt, "
        "slots.txt",
        place=_snips,
        needed=("SNIPS/all.iob.snips.txt|all.iob.snips.txt", "SNIPS/slots.txt|slots.txt"),
        key=f"{EXPERT}.corpus.path",
        mini=True,
    ),
    "quesst14_dtw": Corpus(
        title="QUESST 2014",
        fetch="speech.fit.vutbr.cz (quesst14Database.tgz)",
        layout="quesst14Database/ with Audio/, dev_queries/, eval_queries/, scoring/",
        place=_quesst,
        needed=(
            "quesst14Database/scoring/language_key_utterances.lst|"
            "scoring/language_key_utterances.lst",
        ),
        key=f"{EXPERT}.datarc.dataset_root",
        mini=True,
    ),
    "voxceleb1": Corpus(
        title="VoxCeleb1",
        fetch="the VoxCeleb project",
        layout="{dev,test}/wav/id1XXXX/<video>/*.wav and iden_split.txt",
        place=_voxceleb1,
        needed=(SPEAKER_SPLITS,),
        key=f"{EXPERT}.datarc.file_path",
    ),
    "emotion": Corpus(
        title="IEMOCAP",
        fetch="USC's SAIL lab",
        layout="Session{1..5}/sentences/wav/*/*.wav and Session{1..5}/dialog/EmoEvaluation/*.txt",
        place=_emotion,
        needed=("Session1",),
        key=f"{EXPERT}.datarc.root",
    ),
    "asr": Corpus(
        title="LibriSpeech",
        fetch="openslr.org/12",
        layout="{train-clean-100,dev-clean,test-clean}/<speaker>/<chapter>/*.flac and *.trans.txt",
        place=_asr,
        needed=("train-clean-100", "dev-clean", "test-clean"),
        key=f"{EXPERT}.datarc.libri_root",
    ),
    "sv_voxceleb1": Corpus(
        title="VoxCeleb1",
        fetch="the VoxCeleb project, and the lists beside s3prl's task of that name",
        layout="{dev,test}/wav/id1XXXX/<video>/*.wav, dev_speaker_ids.txt, dev_meta_data.txt, "
        "voxceleb1_test_v2.txt",
        place=_sv_voxceleb1,
        needed=("dev/wav", "test/wav", "voxceleb1_test_v2.txt"),
        key=f"{EXPERT}.datarc.file_path",
    ),
    "diarization": Corpus(
        title="LibriMix",
        fetch="the LibriMix project, prepared as SUPERB's SD documentation says",
        layout="{train,dev,test}/ in Kaldi's layout (wav.scp, utt2spk, segments, reco2dur)",
        place=_diarization,
        needed=("train", "dev", "test"),
        key=f"{EXPERT}.loaderrc.train_dir",
    ),
}
