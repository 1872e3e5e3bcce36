"""Model cards: README.md beside a model's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from .config import ModelConfig, Variant, find_variant

LIBRARY = "s3prl_speechclip"
PAPERS = {
    "SpeechCLIP": "2210.00705",
    "SpeechCLIP+": "2402.06959",
}
UNKNOWN_LICENCE = "other"  # the Hub's word; the code's own licence does not cover weights


def render_card(
    header: Mapping[str, Any], title: str, summary: str, sections: Mapping[str, str | None]
) -> str:
    """Write a card in the Hub's form.

    Args:
        header: YAML header.
        title: first heading.
        summary: text below it.
        sections: Markdown by heading; None or empty: left out.
    """
    parts = [f"# {title}", summary]
    for heading, text in sections.items():
        if text:
            parts += [f"## {heading}", text]
    yaml_header = yaml.safe_dump(dict(header), sort_keys=False, allow_unicode=True)
    return f"---\n{yaml_header}---\n\n" + "\n\n".join(parts) + "\n"


def table(rows: Sequence[Sequence[object]], head: Sequence[str] = ("", "")) -> str:
    """Write a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(_row(cells) for cells in lines)


def _row(cells: Sequence[object]) -> str:
    text = "|".join(str(cell) if cell == "---" else f" {cell} " if cell else " " for cell in cells)
    return f"|{text}|"


def model_card(config: ModelConfig, about: Mapping[str, Any], trainable_parameters: int) -> str:
    """Write the card of a SpeechCLIP model.

    Args:
        config: configuration of the model.
        about: origin of its weights: `source`, `corpus`, `also` (corpora), `recordings`,
            `hours`, `images`, `data_licences`, `step`, `batch_size`, `hardware`, `seed`, `recall`
            (names and percent), `licence`, `limits` (sentences), as far as they are known.
        trainable_parameters: number of parameters that training changed.

    Returns:
        Markdown with the Hub's YAML header.
    """
    variant = find_variant(config.variant)
    corpora = [str(name) for name in (about.get("corpus"), *about.get("also", ())) if name]
    header: dict[str, Any] = {
        "library_name": LIBRARY,
        "license": about.get("licence", UNKNOWN_LICENCE),
        "pipeline_tag": "feature-extraction",
        "tags": ["speech", "speech-image retrieval", "SpeechCLIP", config.variant],
    }
    if config.size == "mini":
        header["tags"].append("mini")
    if about.get("corpus"):
        header["datasets"] = corpora
    recall = about.get("recall") or {}
    return render_card(
        header,
        f"{variant.paper_name} ({config.size})",
        _summary(config, variant),
        {
            "Use": _usage(about),
            "Architecture": table(_architecture(config, variant, trainable_parameters)),
            "Training": table(_training(config, variant, about, corpora)),
            "Recall": table([(name, f"{value:.1f} %") for name, value in recall.items()])
            if recall
            else None,
            "Limits": about.get("limits"),
            "Licence": _licence(about),
            "Citation": "\n".join(
                f"- {name}: https://arxiv.org/abs/{number}" for name, number in PAPERS.items()
            ),
        },
    )


def _summary(config: ModelConfig, variant: Variant) -> str:
    parts = []
    if variant.parallel:
        parts.append("an embedding of the utterance in CLIP's joint space")
    if variant.keywords is not None:
        how = "a fixed number of" if variant.keywords == "cls" else "a variable number of"
        parts.append(f"{how} keywords, and their embedding by CLIP's text encoder")
    text = (
        f"A visually grounded speech model. From 16 kHz speech it computes {', and '.join(parts)}."
    )
    if config.size == "mini":
        text += (
            " It is a miniature, for trying things out and for tests; its figures say nothing of "
            "the published models."
        )
    return text


def _usage(about: Mapping[str, Any]) -> str:
    where = about.get("repo_id", "path/to/this/folder")
    return (
        "```python\n"
        f"from {LIBRARY} import SpeechClip\n"
        f'model = SpeechClip.from_pretrained("{where}")\n'
        "```\n\n"
        "`model.encode_speech([waveform])` takes 1-D float tensors at 16 kHz."
    )


def _architecture(
    config: ModelConfig, variant: Variant, trainable: int
) -> list[tuple[str, object]]:
    speech, clip = config.speech_encoder, config.clip
    rows: list[tuple[str, object]] = [
        ("Variant", f"{variant.paper_name} (`{variant.name}`)"),
        ("Speech encoder", f"{speech.name}, {'trained' if speech.trainable else 'frozen'}"),
        ("CLIP", f"{clip.name}, {'trained' if clip.trainable else 'frozen'}"),
        ("Trained parameters", f"{trainable:,}"),
        (
            "Padding",
            "no utterance depends on its batch"
            if config.batch_invariant
            else "as in the official code; features may depend on the batch",
        ),
    ]
    if variant.keywords == "cls":
        rows.append(("Keywords", config.keywords.number))
    if variant.keywords is not None:
        rows.append(("Vocabulary", clip.vocabulary))
    return rows


def _training(
    config: ModelConfig, variant: Variant, about: Mapping[str, Any], corpora: Sequence[str]
) -> list[tuple[str, object]]:
    rows = [
        ("Corpus", " and ".join(corpora) or "not recorded"),
        ("Licences of the data", about.get("data_licences")),
        ("Recordings", about.get("recordings")),
        ("Hours of speech", about.get("hours") or None),
        ("Images", about.get("images")),
        ("Objective", _objective(config, variant)),
        ("Weights from", about.get("source")),
        ("Step", about.get("step")),
        ("Batch size", about.get("batch_size")),
        ("Hardware", about.get("hardware")),
        ("Seed", about.get("seed")),
        ("SHA-256 of the source", about.get("sha256")),
    ]
    return [(name, str(value)) for name, value in rows if value is not None]


def _objective(config: ModelConfig, variant: Variant) -> str:
    weights = config.objective
    terms = []
    if variant.parallel:
        terms.append(f"parallel x {weights.parallel_weight:g}")
    if variant.keywords is not None:
        terms.append(f"cascaded x {weights.cascaded_weight:g}")
    text = f"masked InfoNCE between speech and images, both directions: {', '.join(terms)}"
    if variant.keywords == "cif":
        text += f"; quantity loss x {config.cif.quantity_weight:g}"
    return text


def _licence(about: Mapping[str, Any]) -> str:
    if "licence" in about:
        return f"{about['licence']}."
    return (
        f"The code of `{LIBRARY}` is MIT. The weights are under the terms of what they were "
        "trained on and started from: the corpus, the speech encoder and CLIP named above."
    )
