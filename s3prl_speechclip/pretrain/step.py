"""One step of pretraining, as the papers write it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from ..model.speechclip import SpeechClip
from ..modules.quantizer import code_perplexity
from ..runtime.distributed import gather
from ..structures import PairBatch, SpeechOutput, StepOutput


class PretrainStep(nn.Module):
    """A model and its objective, as one module that Fabric and DDP can wrap."""

    def __init__(self, model: SpeechClip) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: PairBatch, step: int) -> StepOutput:
        """Compute the losses of a batch that is shared by all processes.

        Args:
            batch: this process's share.
            step: steps taken before this one; CIF scales its quantity to the target in the first.
        """
        model = self.model
        scaling_steps = model.config.cif.scaling_steps
        scaling = scaling_steps < 0 or step < scaling_steps
        output = model(batch.speech, scaling=scaling, frames=False)
        gathered = replace(
            output, **{name: gather(rows) for name, rows in output.embeddings.items()}
        )
        images = gather(model.clip.encode_images(batch.images))
        pair_ids = gather(batch.pair_ids)
        losses = model.objective(gathered, images, pair_ids)
        if model.config.clip.trainable and model.config.objective.text_weight > 0:
            texts = gather(model.clip.encode_text(batch.texts))
            weight = model.config.objective.text_weight
            losses["text"] = weight * model.contrast(texts, images, pair_ids)
        return StepOutput(losses, self._report(output))

    @torch.no_grad()
    def _report(self, output: SpeechOutput) -> dict[str, float]:
        report = {"logit_scale": float(self.model.contrast.logit_scale)}
        if output.keywords is not None:
            token_ids = output.keywords.token_ids
            size = int(self.model.clip.vocabulary.max()) + 1
            report["keywords"] = float(output.keywords.lengths.float().mean())
            report["code_perplexity"] = float(code_perplexity(token_ids[token_ids > 0], size))
        return report
