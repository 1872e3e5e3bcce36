"""Probe the mini HuBERT beside the spectra that it hears and the same network untrained."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchaudio.transforms import MelSpectrogram
from tqdm import tqdm

from ...data.audio import read_audio
from ...data.manifest import Manifest, Utterance, Word
from ...encoders.speech import SpeechEncoder, build_speech_encoder
from ...errors import CorpusError, EncoderError
from ...hashing import file_hash
from ...model.config import SpeechEncoderConfig
from ...modules.padding import pad_waveforms
from ...results import result_record
from ...structures import HOP, SAMPLE_RATE, TaskResult
from ..speech import SpeechCorpus
from .probe import (
    CLUSTERS,
    FITTED,
    FOLDS,
    Labelled,
    commonest,
    frame_centres,
    normalized_by,
    phone_probe,
    phrase_probe,
    phrase_recordings,
    same_voices,
    word_probe,
)
from .units import WINDOW, MfccFeatures, batches_of_like_length, frames_of

WEIGHTS = "model.safetensors"
MELS = 40
CONTEXT = 5  # frames on either side in `mfcc_context`

WORD_VOICES = {
    "train": ("flite-slt", "flite-awb", "flite-kal16", "espeak-en-us", "espeak-en-us+f3"),
    "test": ("flite-rms", "espeak-en-gb-scotland+f2", "espeak-en-us-nyc+m7"),
}
"""The stamps' synthetic voices; those of the test are never trained on, HuBERT included."""
CAPTIONS = {"train": ("train",), "test": ("test_image", "dev_image")}
"""The stamps' splits whose captions are taken."""
FEWEST = 2  # training captions that a word is in

PROTOCOL: Mapping[str, Any] = {
    "phones": "flite's phones and their times; trained on voices slt, awb and kal16, tested on "
    "rms, other sentences of random words; frames in pauses left out",
    "phones_same_voices": f"the same, tested on one in {FOLDS} of the training voices' sentences, "
    "which are not trained on",
    "phrases": f"recordings by people, English voice packs; {FOLDS} folds of speakers",
    "words": f"word times in read captions; trained on {', '.join(WORD_VOICES['train'])}, tested "
    f"on {', '.join(WORD_VOICES['test'])}, captions of images that are not trained on; words of "
    f"{FEWEST} or more training captions",
    "normalisation": "zero mean and unit variance per speaker, of frames, for all features",
    "probe": "one linear layer, L-BFGS",
    "frames_fitted": FITTED,
    "clusters": CLUSTERS,
    "mfcc": "13 coefficients with first and second differences",
    "mfcc_context": f"mfcc of {2 * CONTEXT + 1} frames",
    "log_mel": f"{MELS} mel bands",
    "untrained": "the same architecture with random weights",
    "layer_0": "what enters the first transformer layer",
}


@dataclass(frozen=True)
class Words:
    """The captions of the word probe."""

    train: tuple[Utterance, ...]
    test: tuple[Utterance, ...]
    vocabulary: frozenset[str]
    """The words that are told apart."""


Encode = Callable[[list[NDArray[np.float32]]], dict[str, list[NDArray[np.float32]]]]
"""Gives the (T, D) frames of waveforms, of several features by name."""
Table = dict[str, dict[int, NDArray[np.float32]]]
"""The frames of recordings by index, of several features by name."""


def evaluate_hubert(
    folder: Path, corpus: SpeechCorpus, stamps: Manifest, seed: int = 0
) -> TaskResult:
    """Probe a HuBERT for phones, phrases and words.

    Args:
        folder: of a transformers HubertModel, as it ships.
        corpus: the speech corpus.
        stamps: with the synthetic voices' word times.
        seed: of the untrained network and of k-means.

    Raises:
        EncoderError: the folder holds no such model.
        CorpusError: a split or the word times are missing.
    """
    started = time.perf_counter()
    if not (folder / WEIGHTS).is_file():
        raise EncoderError(f"'{folder}' holds no {WEIGHTS}; give the folder of a trained HuBERT")
    words = _words(stamps)
    metrics: dict[str, Any] = {
        task: {} for task in ("phones", "phones_same_voices", "phrases", "words")
    }
    for prefix, encode in (
        ("", spectral_frames),
        ("untrained/", hidden_frames(_encoder(folder, weights=False, seed=seed))),
        ("trained/", hidden_frames(_encoder(folder, weights=True, seed=seed))),
    ):
        for task, figures in _probe(encode, corpus, stamps, words, seed).items():
            metrics[task].update({f"{prefix}{name}": value for name, value in figures.items()})
    metrics["chance"] = _chance(corpus, words)
    return result_record(
        started=started,
        task="probe",
        system="mini_hubert",
        size="mini",
        corpus="speech",
        checkpoint=str(folder),
        checkpoint_hash=file_hash(folder / WEIGHTS),
        metrics=metrics,
        protocol=dict(PROTOCOL),
        seed=seed,
        mini=True,
    )


def spectral_frames(
    waveforms: list[NDArray[np.float32]],
) -> dict[str, list[NDArray[np.float32]]]:
    """Give MFCC, MFCC of several frames, and log-mel spectra at HuBERT's frames."""
    mfcc = MfccFeatures()(waveforms)
    spectrum = MelSpectrogram(SAMPLE_RATE, n_fft=WINDOW, hop_length=HOP, n_mels=MELS, center=False)
    log_mel = [torch.log(spectrum(torch.from_numpy(w)) + 1e-6).T.numpy() for w in waveforms]
    return {"mfcc": mfcc, "mfcc_context": [_in_context(m) for m in mfcc], "log_mel": log_mel}


def hidden_frames(encoder: SpeechEncoder) -> Encode:
    """Give all hidden states of an encoder, as `layer_0`, `layer_1` and so on."""

    def encode(waveforms: list[NDArray[np.float32]]) -> dict[str, list[NDArray[np.float32]]]:
        speech = pad_waveforms([torch.from_numpy(waveform) for waveform in waveforms])
        with torch.inference_mode():
            found = encoder(speech)
        valid = found.lengths.tolist()
        return {
            f"layer_{layer}": [row[:t].numpy() for row, t in zip(states, valid, strict=True)]
            for layer, states in enumerate(found.hidden_states)
        }

    return encode


def _probe(
    encode: Encode,
    corpus: SpeechCorpus,
    stamps: Manifest,
    words: Words,
    seed: int,
) -> dict[str, dict[str, dict[str, float]]]:
    """Run the three probes on every kind of feature that `encode` gives."""
    phones = [*corpus.split("probe_train"), *corpus.split("probe_test")]
    table = _encoded(encode, {i: corpus.waveform(i) for i in phones}, "phones")
    results: dict[str, dict[str, dict[str, float]]] = {}
    for task, (train, test) in (
        ("phones", (corpus.split("probe_train"), corpus.split("probe_test"))),
        ("phones_same_voices", same_voices(corpus)),
    ):
        results[task] = {n: phone_probe(f, corpus, train, test, seed) for n, f in table.items()}
    phrases = phrase_recordings(corpus)
    table = _encoded(encode, {i: corpus.waveform(i) for i in phrases}, "phrases")
    results["phrases"] = {name: phrase_probe(f, corpus) for name, f in table.items()}
    read = [*words.train, *words.test]
    waveforms = {i: read_audio(stamps.path(u.audio)) for i, u in enumerate(read)}
    table = _encoded(encode, waveforms, "words")
    speakers = {i: utterance.speaker for i, utterance in enumerate(read)}
    results["words"] = {}
    for name, frames in table.items():
        frames = normalized_by(frames, speakers)
        spoken = [_spoken(u, frames[i], words.vocabulary) for i, u in enumerate(read)]
        cut = len(words.train)
        results["words"][name] = word_probe(_together(spoken[:cut]), _together(spoken[cut:]))
    return results


def _encoder(folder: Path, *, weights: bool, seed: int) -> SpeechEncoder:
    config = SpeechEncoderConfig(name=str(folder), pretrained=weights, normalize_waveform=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_speech_encoder(config, batch_invariant=True).float().eval()


def _encoded(encode: Encode, waveforms: Mapping[int, NDArray[np.float32]], what: str) -> Table:
    table: Table = {}
    with tqdm(total=len(waveforms), desc=f"encoding {what}", disable=None) as bar:
        for batch in batches_of_like_length({i: frames_of(len(w)) for i, w in waveforms.items()}):
            for name, found in encode([waveforms[index] for index in batch]).items():
                table.setdefault(name, {}).update(zip(batch, found, strict=True))
            bar.update(len(batch))
    return table


def _in_context(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Put the frames on either side beside each, the first and last repeated at the ends."""
    padded = np.pad(frames, ((CONTEXT, CONTEXT), (0, 0)), mode="edge")
    width = 2 * CONTEXT + 1
    return np.concatenate([padded[k : k + len(frames)] for k in range(width)], axis=1)


def _words(stamps: Manifest) -> Words:
    chosen: dict[str, list[Utterance]] = {}
    captions: dict[str, dict[str, set[str]]] = {}
    for part, splits in CAPTIONS.items():
        seen = {u.caption for u in stamps.utterances if u.split in splits}
        unique = {
            (u.speaker, u.caption): u
            for u in stamps.utterances
            if u.speaker in WORD_VOICES[part] and u.caption in seen
        }
        chosen[part] = list(unique.values())
        captions[part] = {}
        for utterance in chosen[part]:
            for word in utterance.words:
                captions[part].setdefault(_name(word), set()).add(utterance.caption)
    vocabulary = frozenset(
        word
        for word, found in captions["train"].items()
        if len(word) > 1 and len(found) >= FEWEST and word in captions["test"]
    )
    kept = {
        part: tuple(u for u in own if any(_name(word) in vocabulary for word in u.words))
        for part, own in chosen.items()
    }
    if len(vocabulary) < 2:
        raise CorpusError("the stamps have no words in both training and test captions")
    return Words(kept["train"], kept["test"], vocabulary)


def _spoken(
    utterance: Utterance, frames: NDArray[np.float32], vocabulary: frozenset[str]
) -> list[tuple[str, NDArray[np.float32]]]:
    """Give the words of a caption with the mean of their frames."""
    centres = frame_centres(len(frames))
    found = []
    for word in utterance.words:
        within = (centres >= word.start) & (centres < word.end)
        if _name(word) in vocabulary and within.any():
            found.append((_name(word), frames[within].mean(0)))
    return found


def _together(spoken: Sequence[list[tuple[str, NDArray[np.float32]]]]) -> Labelled:
    words = [word for own in spoken for word in own]
    return Labelled(
        np.stack([frames for _, frames in words]),
        np.array([name for name, _ in words]),
        np.arange(len(words)),
    )


def _chance(corpus: SpeechCorpus, words: Words) -> dict[str, float]:
    """Give what guessing the commonest label gets right, in percent."""
    phones = [p.symbol for i in corpus.split("probe_test") for p in corpus.recordings[i].phones]
    return {
        "phones": commonest(phones),
        "phrases": commonest(corpus.recordings[i].phrase for i in phrase_recordings(corpus)),
        "words": commonest(
            _name(word)
            for utterance in words.test
            for word in utterance.words
            if _name(word) in words.vocabulary
        ),
    }


def _name(word: Word) -> str:
    return word.text.casefold()
