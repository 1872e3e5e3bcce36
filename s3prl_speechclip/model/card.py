"""The card that goes with a checkpoint: README.md beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from .config import ModelConfig, Variant, find_variant

LIBRARY = "s3prl_speechclip"
PAPERS = {
    "SpeechCLIP": "2210.00705",
    "SpeechCLIP+": "2402.06959",
}
# The Hub's word where nobody has said: the code's own licence does not cover weights.
UNKNOWN_LICENCE = "other"


def model_card(config: ModelConfig, about: Mapping[str, Any], trainable_parameters: int) -> str:
    """Write a model card.

    Args:
        config: what the model is made of.
        about: where its weights come from: `source`, `corpus`, `also` (corpora), `recordings`,
            `hours`, `images`, `data_licences`, `step`, `batch_size`, `hardware`, `seed`, `recall`
            (names and percent), `licence`, `limits` (sentences), as far as they are known.
        trainable_parameters: number of parameters that training changed.

    Returns:
        Markdown with the Hub's YAML header.
    """
    variant = find_variant(config.variant)
    sections = [
        f"# {variant.paper_name} ({config.size})",
        _summary(config, variant),
        "## Use",
        _usage(about),
        "## Architecture",
        _table(_architecture(config, variant, trainable_parameters)),
        "## Training",
        _table(_training(config, variant, about)),
    ]
    recall = about.get("recall")
    if isinstance(recall, Mapping) and recall:
        sections += ["## Recall", _table({str(k): f"{v:.1f} %" for k, v in recall.items()})]
    if about.get("limits"):
        sections += ["## Limits", str(about["limits"])]
    sections += ["## Licence", _licence(about), "## Citation", _citation()]
    header = yaml.safe_dump(_header(config, about), sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n\n" + "\n\n".join(sections) + "\n"


def _header(config: ModelConfig, about: Mapping[str, Any]) -> dict[str, Any]:
    header: dict[str, Any] = {
        "library_name": LIBRARY,
        "license": about.get("licence", UNKNOWN_LICENCE),
        "pipeline_tag": "feature-extraction",
        "tags": [
            "speech",
            "speech-image retrieval",
            "SpeechCLIP",
            config.variant,
            *(["mini"] if config.size == "mini" else []),
        ],
    }
    if about.get("corpus"):
        header["datasets"] = _corpora(about)
    return header


def _summary(config: ModelConfig, variant: Variant) -> str:
    parts = []
    if variant.parallel:
        parts.append("an embedding of the utterance in CLIP's joint space")
    if variant.keywords is not None:
        how = "a fixed number of" if variant.keywords == "cls" else "a variable number of"
        parts.append(f"{how} keywords, and an embedding of them as CLIP reads them")
    text = f"A visually grounded speech model. From 16 kHz speech it gives {', and '.join(parts)}."
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


def _architecture(config: ModelConfig, variant: Variant, trainable: int) -> dict[str, str]:
    rows = {
        "Variant": f"{variant.paper_name} (`{variant.name}`)",
        "Speech encoder": f"{config.speech_encoder.name}, "
        + ("trained" if config.speech_encoder.trainable else "frozen"),
        "CLIP": f"{config.clip.name}, " + ("trained" if config.clip.trainable else "frozen"),
        "Trained parameters": f"{trainable:,}",
        "Padding": "no utterance depends on its batch"
        if config.batch_invariant
        else "as in the official code; features may depend on the batch",
    }
    if variant.keywords == "cls":
        rows["Keywords"] = str(config.keywords.number)
    if variant.keywords is not None:
        rows["Vocabulary"] = config.clip.vocabulary
    return rows


def _training(config: ModelConfig, variant: Variant, about: Mapping[str, Any]) -> dict[str, str]:
    known = {
        "Corpus": " and ".join(_corpora(about)) or "not recorded",
        "Licences of the data": about.get("data_licences"),
        "Recordings": about.get("recordings"),
        "Hours of speech": about.get("hours") or None,
        "Images": about.get("images"),
        "Objective": _objective(config, variant),
        "Weights from": about.get("source"),
        "Step": about.get("step"),
        "Batch size": about.get("batch_size"),
        "Hardware": about.get("hardware"),
        "Seed": about.get("seed"),
        "SHA-256 of the source": about.get("sha256"),
    }
    return {name: str(value) for name, value in known.items() if value is not None}


def _corpora(about: Mapping[str, Any]) -> list[str]:
    return [str(name) for name in (about.get("corpus"), *about.get("also", ())) if name]


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


def _citation() -> str:
    return "\n".join(f"- {name}: https://arxiv.org/abs/{number}" for name, number in PAPERS.items())


def _table(rows: Mapping[str, str]) -> str:
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    return "\n".join(lines)
