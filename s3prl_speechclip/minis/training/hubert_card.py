"""The model card of the mini HuBERT."""

from __future__ import annotations

from ...structures import TaskResult
from ..speech import SpeechCorpus
from .hubert import ARCHITECTURE
from .hubert_rounds import HubertRecipe, RoundConfig, Trained


def hubert_card(
    recipe: HubertRecipe, trained: Trained, corpus: SpeechCorpus, probes: TaskResult, hardware: str
) -> str:
    """Write the card, Markdown with the Hub's header.

    Args:
        recipe: that it was trained by.
        trained: the model.
        corpus: that it was trained on.
        probes: what `evaluate_hubert` measured.
        hardware: that it was trained on.
    """
    masking, first = recipe.masking, recipe.rounds[0]
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "license: gpl-2.0",
            "tags: [speech, hubert, mini]",
            "---",
            "",
            "# Mini HuBERT",
            "",
            "A HuBERT (arXiv 2106.07447) small enough to train and to run on a laptop: "
            f"{ARCHITECTURE['num_hidden_layers']} transformer layers of width "
            f"{ARCHITECTURE['hidden_size']} on narrow convolutions with HuBERT's hop of 320 "
            f"samples, {sum(p.numel() for p in trained.model.parameters()) / 1e6:.1f} million "
            "parameters, "
            "stored in float16. It exists so that speech-image models can be trained and tested "
            "without a model hub.",
            "",
            "## Data",
            "",
            f"{corpus.hours:.1f} hours, 16 kHz, of which the probes' and 1 % for validation are "
            "not trained on:",
            "",
            "| source | recordings | hours | speakers | languages | synthetic | licence |",
            "|---|---|---|---|---|---|---|",
            *(
                f"| {name} | {count.recordings:,} | {count.hours:.2f} | {count.speakers} | "
                f"{len(count.languages)} | {'yes' if count.synthetic else 'no'} | {count.licence} |"
                for name, count in corpus.counts().items()
            ),
            "",
            *(f"- {note}" for note in corpus.notes),
            "",
            "## Training",
            "",
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
            "",
            "## Scores",
            "",
            "Linear probes; accuracy in percent, from `benchmarks/results/mini/hubert.json`. "
            "Phones are frames of flite's voices: of one that the probe was not trained on, and of "
            "those that it was, other sentences. Phrases are said by people whom the probe never "
            "heard, words by voices that neither it nor the HuBERT did.",
            "",
            *_scores(probes),
            "",
            "## Limits",
            "",
            "Most of what it heard is synthetic and short; it was trained for minutes, and its "
            "figures say nothing of published HuBERT models.",
            "",
        ]
    )


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


def _scores(probes: TaskResult) -> list[str]:
    figures = {
        "phones, other voice": ("phones", "frame_accuracy"),
        "phones, same voices": ("phones_same_voices", "frame_accuracy"),
        "phrases": ("phrases", "accuracy"),
        "words": ("words", "accuracy"),
    }
    names = list(dict.fromkeys(n for task, _ in figures.values() for n in probes.metrics[task]))
    rows = [f"| features | {' | '.join(figures)} |", "|---" * (len(figures) + 1) + "|"]
    for name in names:
        found = [probes.metrics[task].get(name, {}).get(key) for task, key in figures.values()]
        cells = ["" if value is None else f"{value:.1f}" for value in found]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows
