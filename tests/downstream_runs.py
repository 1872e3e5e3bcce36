"""Requests for short runs on few-file corpora."""

from __future__ import annotations

from pathlib import Path

from s3prl_speechclip.downstream.request import Request

BASELINE = "fbank_no_cmvn"
SMALL = {
    "fluent_commands": "downstream_expert.datarc.train_batch_size=4",
    "speech_commands": "downstream_expert.datarc.batch_size=4",
    "libriphone": "downstream_expert.corpus.batch_size=2",
    "snips": "downstream_expert.corpus.batch_size=2,,downstream_expert.model.project_dim=16,,"
    "downstream_expert.model.RNNs.dim=[8, 8]",
    "voxceleb1": "downstream_expert.datarc.max_timestep=8000",
    "emotion": "runner.gradient_accumulate_steps=2",
    "asr": "downstream_expert.datarc.batch_size=2,,downstream_expert.modelrc.project_dim=16,,"
    "downstream_expert.modelrc.RNNs.dim=[8, 8]",
}


def ask(task: str, root: Path, folder: Path, steps: int = 4, changes: str = "") -> Request:
    brief = f"runner.total_steps={steps},,runner.eval_step=2,,runner.save_step=1"
    override = ",,".join(
        filter(None, [brief, "runner.num_workers=0", "runner.log_step=2", SMALL.get(task), changes])
    )
    return Request(
        task=task,
        upstream=BASELINE,
        data_root=str(root),
        folder=folder,
        override=override,
        device="cpu",
    )
