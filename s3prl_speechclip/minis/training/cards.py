"""The model cards of the mini encoders, Markdown with the Hub's header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...results import markdown_table
from ...structures import TaskResult
from ..pictures import SOURCES
from .clip import ARCHITECTURE as CLIP
from .clip import KS, TRUNK_PACKAGE, TrainedClip
from .hubert import ARCHITECTURE as HUBERT
from .hubert import HubertRecipe, RoundConfig, TrainedHubert
from .speech import SpeechCorpus

STAMPS_LICENCE = "GPL-2"


def encoder_card(
    title: str, library: str, tags: str, about: str, sections: Mapping[str, Sequence[str]]
) -> str:
    """Lay a card out.

    Args:
        title: name of the model.
        library: library that loads it, in the Hub's words.
        tags: the Hub's tags, separated by commas.
        about: first paragraph.
        sections: lines by heading.
    """
    lines = ["---", f"library_name: {library}", "license: gpl-2.0", f"tags: [{tags}]", "---", ""]
    lines += [f"# {title}", "", about, ""]
    for heading, body in sections.items():
        lines += [f"## {heading}", "", *body, ""]
    return "\n".join(lines)


def clip_card(trained: TrainedClip, recall: TaskResult, hardware: str) -> str:
    """Write the card of the mini CLIP.

    Args:
        trained: the model.
        recall: result of `evaluate_clip`.
        hardware: hardware of the training.
    """
    config, batches, loop = trained.config, trained.config.batches, trained.config.loop
    text = CLIP["text_cfg"]
    parameters = sum(p.numel() for p in trained.encoder.parameters() if p.requires_grad)
    about = (
        "A CLIP (arXiv 2103.00020) small enough to train and to run on a laptop: a text tower "
        f"of {text['layers']} layers of width {text['width']} over "
        f"{len(trained.encoder.vocabulary):,} of CLIP's BPE tokens, and a linear projection of "
        "an ImageNet EfficientNet-lite0 that stays frozen and comes from its own package on "
        f"PyPI, {TRUNK_PACKAGE}. {parameters / 1e6:.1f} million trained parameters, stored in "
        "float16. Tokens that the table lacks are spelled in letters. It exists so that "
        "speech-image models can be trained and tested without a model hub."
    )
    pictures = [
        (name, f"{count:,}", SOURCES[name].licence if name in SOURCES else STAMPS_LICENCE)
        for name, count in trained.sources.items()
    ]
    scores = [
        (
            f"{split} ({found['images']} images)",
            model,
            *(f"{found[model]['mean'][f'recall@{k}']:.1f}" for k in KS),
        )
        for split, found in recall.metrics.items()
        for model in ("trained", "untrained", "chance")
    ]
    sections = {
        "Data": [
            markdown_table(("source", "pictures", "licence"), pictures, even=False),
            "",
            *(f"- {note}" for note in trained.notes),
            "- names and definitions of ImageNet's 1,000 classes (WordNet, as timm carries them), "
            "and what the trunk's own classifier says of every picture",
        ],
        "Training": [
            "CLIP's contrastive loss between pictures and texts (captions, tags, or both), in "
            "which what shares a name is not contrasted. Classes of ImageNet join in twice: their "
            "names are contrasted with prototypes that are computed from the classifier's weights "
            "and the features' covariance, and pictures are to be named as the classifier names "
            "them, so that words which no caption has get their place.",
            "",
            f"{loop.total_steps:,} steps of {batches.batch_size} pictures "
            f"({batches.corpus_share:.0%} of them stamps) and {batches.classes} classes; "
            f"AdamW, peak rate {loop.optimizer.lr:g}, weight decay "
            f"{loop.optimizer.weight_decay:g}; dropout {config.feature_dropout:g} on features. "
            f"Seed {trained.seed}; {trained.seconds / 60:.0f} minutes on {hardware}.",
        ],
        "Scores": [
            "Zero-shot recall on stamps that training never saw, in percent, both directions "
            "averaged, from `benchmarks/results/mini/clip.json`. The recipe was made by looking at "
            "`dev_image`; nothing was chosen by `test_image`.",
            "",
            markdown_table(("split", "model", *(f"recall@{k}" for k in KS)), scores, even=False),
        ],
        "Limits": [
            "It knows a few thousand English words, mostly names of things, and pictures of one "
            "thing on white; of scenes, relations, numbers and other languages it knows next to "
            "nothing. Its figures say nothing of published CLIP models. Captions of the held-out "
            "stamps were not read; that other pictures show the same kinds of things, under the "
            "same names, is the point. Stamps of the training split may be drawn by the same "
            "artists as held-out ones.",
        ],
    }
    return encoder_card(
        "Mini CLIP", "open_clip", "clip, image-text retrieval, mini", about, sections
    )


def hubert_card(
    recipe: HubertRecipe,
    trained: TrainedHubert,
    corpus: SpeechCorpus,
    probes: TaskResult,
    hardware: str,
) -> str:
    """Write the card of the mini HuBERT.

    Args:
        recipe: recipe of the training.
        trained: the model.
        corpus: corpus of the training.
        probes: result of `evaluate_hubert`.
        hardware: hardware of the training.
    """
    masking, first = recipe.masking, recipe.rounds[0]
    parameters = sum(p.numel() for p in trained.model.parameters()) / 1e6
    about = (
        "A HuBERT (arXiv 2106.07447) small enough to train and to run on a laptop: "
        f"{HUBERT['num_hidden_layers']} transformer layers of width "
        f"{HUBERT['hidden_size']} on narrow convolutions with HuBERT's hop of 320 "
        f"samples, {parameters:.1f} million parameters, stored in float16. It exists so that "
        "speech-image models can be trained and tested without a model hub."
    )
    counts = [
        (
            name,
            f"{count.recordings:,}",
            f"{count.hours:.2f}",
            str(count.speakers),
            str(len(count.languages)),
            "yes" if count.synthetic else "no",
            count.licence,
        )
        for name, count in corpus.counts().items()
    ]
    head = ("source", "recordings", "hours", "speakers", "languages", "synthetic", "licence")
    sections = {
        "Data": [
            f"{corpus.hours:.1f} hours, 16 kHz, of which the probes' and 1 % for validation are "
            "not trained on:",
            "",
            markdown_table(head, counts, even=False),
            "",
            *(f"- {note}" for note in corpus.notes),
        ],
        "Training": [
            f"First lesson: {recipe.spectral_steps} steps in which the convolutions learn log-mel "
            "energies. Then masked prediction in rounds, each on from the weights of the one "
            "before:",
            "",
            *(f"{number}. {_round(config)}" for number, config in enumerate(recipe.rounds, 1)),
            "",
            f"Batches of {first.batch_seconds:.0f} s, AdamW, peak rate {first.lr:g}, bfloat16; "
            f"spans of {masking.span} frames begin at {100 * masking.probability:.0f} % of "
            f"frames; unmasked frames weigh {masking.unmasked_weight:g}. Features are normalised "
            f"per speaker before clustering. Seed {recipe.seed}; {trained.seconds / 60:.0f} "
            f"minutes of training on {hardware}.",
            "",
            f"Of the validation recordings' masked frames "
            f"{trained.accuracy['accuracy_masked']:.1f} % get their unit, of the others "
            f"{trained.accuracy['accuracy_unmasked']:.1f} %.",
        ],
        "Scores": [
            "Linear probes; accuracy in percent, from `benchmarks/results/mini/hubert.json`. "
            "Phones are frames of flite's voices: of one that the probe was not trained on, and of "
            "those that it was, other sentences. Phrases are said by people whom the probe never "
            "heard, words by voices that neither it nor the HuBERT did.",
            "",
            _probe_table(probes),
        ],
        "Limits": [
            "Most of what it heard is synthetic and short; it was trained for minutes, and its "
            "figures say nothing of published HuBERT models.",
        ],
    }
    return encoder_card("Mini HuBERT", "transformers", "speech, hubert, mini", about, sections)


def _round(config: RoundConfig) -> str:
    what = "MFCC" if config.layer is None else f"hidden state {config.layer}"
    text = f"{config.steps:,} steps on {config.units} k-means clusters of {what}"
    voices = config.voices
    if voices.speed > 1:
        text += f"; recordings played up to {voices.speed:g} times faster or slower"
    if voices.gain:
        text += f", with a random gain over frequency of {voices.gain:g} dB"
    if voices.noise:
        text += f", with white noise {voices.noise[0]:g} to {voices.noise[1]:g} dB under them"
    return text + "."


def _probe_table(probes: TaskResult) -> str:
    figures = {
        "phones, other voice": ("phones", "frame_accuracy"),
        "phones, same voices": ("phones_same_voices", "frame_accuracy"),
        "phrases": ("phrases", "accuracy"),
        "words": ("words", "accuracy"),
    }
    rows = []
    for name in dict.fromkeys(n for task, _ in figures.values() for n in probes.metrics[task]):
        found = [probes.metrics[task].get(name, {}).get(key) for task, key in figures.values()]
        rows.append((name, *("" if value is None else f"{value:.1f}" for value in found)))
    return markdown_table(("features", *figures), rows, even=False)
