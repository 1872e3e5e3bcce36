"""The leaderboard's sections."""

from __future__ import annotations

from .leaderboard_tables import Column, Section


def _columns(*names: str, lower: tuple[str, ...] = (), digits: int = 1) -> tuple[Column, ...]:
    return tuple(Column(name=name, lower_is_better=name in lower, digits=digits) for name in names)


SUPERB_COLUMNS = _columns(
    "PR",
    "KS",
    "IC",
    "QbE",
    "SF_F1",
    "SF_CER",
    "ASR",
    "SID",
    "ASV",
    "SD",
    "ER",
    lower=("PR", "SF_CER", "ASR", "ASV", "SD"),
    digits=2,
)
RECALL_COLUMNS = tuple(
    f"{direction} R@{k}" for direction in ("S2I", "I2S", "mean") for k in (1, 5, 10)
)
IMAGE_TEXT_COLUMNS = tuple(
    f"{direction} R@{k}" for direction in ("T2I", "I2T", "mean") for k in (1, 5, 10)
)
SLOTS = tuple(f"kw{number}" for number in range(1, 9))

PATTERNS = (
    "perfect match",
    "semantically related",
    "bucketing",
    "default token",
    "unexpected",
)

SECTIONS = (
    Section(
        name="superb",
        title="SUPERB",
        about="Frozen features under SUPERB's probes, in percent. PR: phone error rate; KS, IC, "
        "SID, ER: accuracy; QbE: maximum term-weighted value x 100; SF: slot F1 and character "
        "error rate; ASR: word error rate; ASV: equal error rate; SD: diarization error rate. "
        "superb_s is 1000 x (value - base) / (top - base) by SUPERB's reference points, mean "
        "within a task, then over all ten; a partial score is over the tasks that it names, and "
        "comparable only with scores over the same.",
        columns=(
            *SUPERB_COLUMNS,
            Column(name="superb_s", title="superb_s", digits=0),
            Column(name="partial", title="partial score", digits=0),
        ),
        rank_by="superb_s",
    ),
    Section(
        name="superb_hidden",
        title="SUPERB, hidden set",
        about="Other recordings than the public set: not comparable with it. ST: BLEU; SS: "
        "SI-SDRi.",
        columns=_columns(
            "PR",
            "SID",
            "ER",
            "ASR",
            "QbE_MAP",
            "QbE_EER",
            "ASV",
            "SD",
            "ST",
            "SS",
            lower=("PR", "ASR", "QbE_EER", "ASV", "SD"),
            digits=2,
        ),
        rank_by="PR",
    ),
    Section(
        name="retrieval",
        title="Image-speech retrieval",
        about="Recall at k in percent. S2I: speech to image; I2S: image to speech, right if any "
        "caption of the image is among the first k; mean: of both directions.",
        columns=_columns(*RECALL_COLUMNS),
        rank_by="mean R@10",
    ),
    Section(
        name="retrieval_validation",
        title="Image-speech retrieval, validation",
        about="The best validation recall that released checkpoints carry in their names, mean of "
        "both directions.",
        columns=_columns("R@1", "R@10", digits=2),
        rank_by="R@10",
    ),
    Section(
        name="keywords",
        title="Keywords",
        about="Percent of keywords with a word piece of the caption among their 5 nearest tokens, "
        "by keyword slot and on average; F1 of the distinct words that keywords name against the "
        "caption's, as this project defines it.",
        columns=(
            *_columns(*SLOTS, "average"),
            Column(name="chance", title="average, by chance", merit=False),
            Column(name="words_f1", title="words F1"),
        ),
        rank_by="average",
    ),
    Section(
        name="words",
        title="Word discovery",
        about="Every spoken word is labelled with a keyword. Recognition: share of a word's "
        "occurrences that have its most frequent label, mean over words heard 10 times or more, "
        "and percent of those at 75 % or more; then percent of words by what their label is.",
        columns=(
            *_columns("recognition"),
            Column(name="recognised_well", title="at 75 %"),
            *_columns(*PATTERNS),
        ),
        rank_by="recognition",
    ),
    Section(
        name="zerospeech",
        title="ZeroSpeech 2021 semantic",
        about="100 x Spearman's correlation of people's scores with negated distances, mean over "
        "data sets and mean weighted by their pairs.",
        columns=(
            *_columns(
                "dev_librispeech",
                "dev_synthetic",
                "test_librispeech",
                "test_synthetic",
                "test_weighted_librispeech",
                "test_weighted_synthetic",
                digits=2,
            ),
            Column(name="layer", title="layer chosen on dev", digits=0, merit=False),
        ),
        rank_by="test_synthetic",
    ),
    Section(
        name="image_text",
        title="Mini CLIP: image-text retrieval",
        about="Recall at k in percent of written captions and images that training did not have. "
        "T2I: text to image; I2T: image to text; mean: of both directions.",
        columns=_columns(*IMAGE_TEXT_COLUMNS),
        rank_by="mean R@10",
    ),
    Section(
        name="probe",
        title="Mini HuBERT: probes",
        about="Linear probes of frozen features in percent: phones of synthetic speech by an "
        "unseen voice (accuracy of frames, phone error rate, purity of clusters), phrases by "
        "unseen people, and words by an unseen voice.",
        columns=(
            Column(name="frame_accuracy", title="phone accuracy"),
            Column(name="phone_error", title="phone error", lower_is_better=True),
            Column(name="purity", title="phone purity"),
            Column(name="phrases", title="phrase accuracy"),
            Column(name="words", title="word accuracy"),
        ),
        rank_by="frame_accuracy",
    ),
    Section(
        name="speed",
        title="Speed",
        about="On the machine that the corpus column names.",
        columns=(
            Column(name="train", title="training, examples/s"),
            Column(name="encode", title="encoding, recordings/s"),
            Column(name="real_time", title="encoding, x real time"),
        ),
        rank_by="encode",
    ),
)
