"""Recall between recordings and images, written captions, and other languages."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3prl_speechclip.data.files import read_lines
from s3prl_speechclip.errors import CorpusError, ResultError
from s3prl_speechclip.options import add_option
from s3prl_speechclip.structures import TaskResult

from .shared.benchmark import (
    Benchmark,
    Measured,
    Trial,
    add_corpus_options,
    add_model_options,
    titled_table,
)
from .shared.board import CHANCE, KS, Section, recall_columns, recall_figures
from .shared.decoding import embed_texts

if TYPE_CHECKING:
    from torch import Tensor

    from s3prl_speechclip.data.manifest import Utterance
    from s3prl_speechclip.model.speechclip import SpeechClip
    from s3prl_speechclip.modules.recall import recall_at_k

__all__ = ["BENCHMARK", "recall_at_k"]

EMBEDDINGS = ("parallel", "cascaded", "sum")
WRITTEN = ("captions", "transcripts")
"""Texts in place of recordings, through CLIP's text encoder."""
DIRECTIONS = {"S2I": "speech_to_image", "I2S": "image_to_speech", "mean": "mean"}
PROTOCOL = {
    "recall": "percent of queries with a right answer among the first k",
    "speech_to_image": "right: the image with the recording's id",
    "image_to_speech": "right: any recording with the image's id",
    "candidates": "images once per id, the first of each; all recordings",
    "ties": "pessimistic",
    "interval_95": "Wilson score interval, queries taken as independent",
    "chance": "expectation of a random order, exact",
    "text": "zero-shot, English recordings and written captions: right is the recording's own "
    "caption, and any recording of a caption; repeated captions once",
    "captions": "each recording's written English caption in its place, by CLIP's text encoder: "
    "the upper bound of a model that recognises every word; where all recordings have one",
    "transcripts": "the same with a recogniser's transcripts; an empty one is a random vector",
    "across_languages": "the first recording of a picture in one language looks for any of its "
    "recordings in another, among those of all pictures that both describe",
    "precision": "fp32",
}


def __getattr__(name: str) -> Any:
    """Import `recall_at_k` when it is asked for: it needs torch, and `--help` reads this file."""
    if name != "recall_at_k":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from s3prl_speechclip.modules.recall import recall_at_k

    return recall_at_k


def add_options(p: ArgumentParser) -> None:
    """Add the options."""
    add_model_options(p)
    add_corpus_options(p, states=True)
    add_option(
        p,
        "--transcripts FILE",
        "a recogniser's output, lines of an utterance's id and its English text: what speech "
        "recognition and CLIP's text encoder retrieve",
        type=Path,
    )


def run(args: Namespace) -> Measured:
    """Measure recall at 1, 5 and 10 in both directions, for each embedding and their sum.

    Between recordings and images; between written captions in place of recordings, or a
    recogniser's transcripts, and images; between English recordings and written captions where
    there are any; between recordings in different languages where there are several.

    Raises:
        CorpusError, AudioError, ImageError: something of the corpus cannot be read, or recordings
            have no transcript.
        ResultError: an embedding is not a number.
    """
    trial = Trial(args)  # before what is heavy, so that a mistyped name is found at once
    model = trial.model

    import torch

    from s3prl_speechclip.model.embedding import embed_images, embed_speech
    from s3prl_speechclip.modules.recall import retrieval_ranks

    from .formulas.retrieval_scores import (
        crossing_recall,
        image_recall,
        named_embeddings,
        with_intervals,
    )

    transcripts = read_transcripts(Path(args.transcripts)) if args.transcripts else {}
    metrics: dict[str, Any] = {}
    for split in trial.splits:
        data = trial.retrieval_set(split)
        speech = embed_speech(model, data, workers=args.num_workers)
        rows = trial.manifest.split(split)
        utterances = [rows[index] for index in speech.indices.tolist()]
        if not utterances:
            raise ResultError(f"no recording of split '{split}' can be read")
        described = torch.isin(data.image_ids, speech.pair_ids)
        if data.dataset.broken:
            trial.notes.append(
                f"{split}: left out {len(data.dataset.broken)} recordings that cannot be read and "
                f"{int((~described).sum())} images that no other recording describes"
            )
        named = named_embeddings(speech.by_name)
        pictures, image_ids = embed_images(model, data)[described], data.image_ids[described]
        metrics[split] = image_recall(named, speech.pair_ids, utterances, pictures, image_ids)
        written = {"captions": [u.english for u in utterances]}
        if args.transcripts:
            written["transcripts"] = transcribed(utterances, transcripts, args.transcripts)
        for name, texts in written.items():
            if name == "transcripts" or all(texts):
                vectors = written_vectors(model, texts)
                ranks = retrieval_ranks(vectors, pictures, speech.pair_ids, image_ids)
                metrics[split][name] = with_intervals(ranks)
        if text := caption_recall(model, named, utterances):
            metrics[split]["text"] = text
        if across := crossing_recall(named, speech.pair_ids, utterances):
            metrics[split]["across_languages"] = across
    about = {"image_resize": model.clip.image_resize}
    return Measured(trial.record("retrieval", metrics, {**PROTOCOL, **about}))


def read_transcripts(path: Path) -> dict[str, str]:
    """Read a recogniser's output: lines of an utterance's id and, after white space, its text.

    An id alone is an empty transcript. Kaldi calls this form `text`.

    Raises:
        CorpusError: the file cannot be read, or an id stands in two lines.
    """
    found: dict[str, str] = {}
    for line in read_lines(path):
        name, *text = line.split(maxsplit=1)
        if name in found:
            raise CorpusError(f"'{path}' has two lines of '{name}'; leave one")
        found[name] = "".join(text)
    return found


def transcribed(
    utterances: Sequence[Utterance], transcripts: Mapping[str, str], path: Path
) -> list[str]:
    """Return the transcript of each recording, known by its id or by the name of its file.

    Raises:
        CorpusError: a recording has none, or one by the name of several files.
    """
    keys = [(u.utterance_id, Path(u.audio).stem) for u in utterances]
    missing = [one for one, stem in keys if one not in transcripts and stem not in transcripts]
    if missing:
        raise CorpusError(
            f"'{path}' has no line of {len(missing)} of {len(keys)} recordings, such as "
            f"'{missing[0]}'; add them, an id alone where nothing was recognised"
        )
    files = Counter(Path(audio).stem for audio in {u.audio for u in utterances})
    shared = [stem for one, stem in keys if one not in transcripts and files[stem] > 1]
    if shared:
        raise CorpusError(
            f"'{path}' has a line '{shared[0]}', the name of {files[shared[0]]} files; "
            "begin its lines with the recordings' ids"
        )
    return [transcripts[one] if one in transcripts else transcripts[stem] for one, stem in keys]


def written_vectors(model: SpeechClip, texts: Sequence[str]) -> Tensor:
    """Embed texts by CLIP, an empty one as a random vector, which finds what chance finds.

    The same vector for all empty ones would tie them, and ties are broken against the query.

    Returns:
        (N, E) unit vectors, float32 on the CPU.
    """
    import torch
    from torch.nn import functional as F

    place = {text: number for number, text in enumerate(sorted(set(texts)))}
    vectors = embed_texts(model, list(place))[[place[text] for text in texts]]
    random = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(0))
    empty = torch.tensor([not text.strip() for text in texts])
    return torch.where(empty[:, None], F.normalize(random, dim=-1), vectors)


def caption_recall(
    model: SpeechClip, named: Mapping[str, Tensor], utterances: Sequence[Utterance]
) -> dict[str, Any]:
    """Measure recall between English recordings and captions; empty without captions."""
    from .formulas.retrieval_scores import text_recall

    captions = {
        row: utterance.english
        for row, utterance in enumerate(utterances)
        if utterance.spoken_language == "en" and utterance.english
    }
    if not captions:
        return {}
    distinct = sorted(set(captions.values()))
    spoken = {name: vectors[list(captions)] for name, vectors in named.items()}
    return text_recall(spoken, list(captions.values()), embed_texts(model, distinct), distinct)


def table(result: TaskResult) -> str:
    """Lay a result out, chance in a row of its own per split."""
    shown = {"S>I": "speech_to_image", "I>S": "image_to_speech"}
    head = ("split", "embedding", *(f"{arrow} R@{k}" for arrow in shown for k in KS))
    rows = [
        (split, name, *(f"{found[name][d][f'recall@{k}']:.1f}" for d in shown.values() for k in KS))
        for split, found in result.metrics.items()
        for name in (*EMBEDDINGS, *WRITTEN, CHANCE)
        if name in found
    ]
    counts = ", ".join(
        f"{split}: {found['recordings']:,} recordings, {found['images']:,} images"
        for split, found in result.metrics.items()
    )
    return titled_table(result, "recall in percent", head, rows, counts)


BENCHMARK = Benchmark(
    add_options=add_options,
    run=run,
    table=table,
    section=Section(
        name="retrieval",
        title="Image-speech retrieval",
        about="Recall at k in percent. S2I: speech to image; I2S: image to speech, right if any "
        "caption of the image is among the first k; mean: of both directions.",
        columns=recall_columns(DIRECTIONS),
        rank_by="mean R@10",
        figures=lambda result: recall_figures(result.metrics, EMBEDDINGS, DIRECTIONS),
    ),
)
