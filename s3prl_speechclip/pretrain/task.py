"""The pretraining objective of one batch, and recall on a split."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..model.speechclip import SpeechClip
from ..modules.quantizer import code_perplexity
from ..runtime.distributed import gather
from ..structures import PairBatch, SpeechBatch, SpeechFeatures, SpeechOutput, StepOutput


class PretrainTask(nn.Module):
    """A model and its objective, as one module that processes can share.

    Args:
        model: what is trained.
    """

    def __init__(self, model: SpeechClip) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        speech: Tensor | tuple[Tensor, ...],
        lengths: Tensor,
        images: Tensor,
        pair_ids: Tensor,
        texts: tuple[str, ...],
        step: int,
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Do what `losses` does, in the plain types that Fabric and DDP hand on.

        `speech` is waveforms, or the hidden states that were made of them.
        """
        given: SpeechBatch | SpeechFeatures = (
            SpeechBatch(speech, lengths)
            if isinstance(speech, Tensor)
            else SpeechFeatures(speech, lengths)
        )
        output = self.losses(PairBatch(given, images, pair_ids, texts), step)
        return dict(output.losses), dict(output.report)

    def losses(self, batch: PairBatch, step: int) -> StepOutput:
        """Take one step's losses over the batches of all processes.

        Args:
            batch: this process's share.
            step: counted from 0; CIF scales its quantity to the target in the first steps.
        """
        model = self.model
        scaling_steps = model.config.cif.scaling_steps
        scaling = scaling_steps < 0 or step < scaling_steps
        output = model(batch.speech, scaling=scaling, frames=False)
        images = gather(model.clip.encode_images(batch.images))
        pair_ids = gather(batch.pair_ids)
        gathered = _gather_embeddings(output)
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
            inside = output.keywords.token_ids[output.keywords.token_ids > 0]
            report["keywords"] = float(output.keywords.lengths.float().mean())
            report["code_perplexity"] = float(
                code_perplexity(inside, int(self.model.clip.vocabulary.max()) + 1)
            )
        return report


def _gather_embeddings(output: SpeechOutput) -> SpeechOutput:
    return replace(
        output,
        parallel=None if output.parallel is None else gather(output.parallel),
        cascaded=None if output.cascaded is None else gather(output.cascaded),
    )
