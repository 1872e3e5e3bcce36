"""One step of pretraining, as the papers write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from operator import itemgetter
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from ..model.speechclip import SpeechClip
from ..modules.losses import EVERY
from ..modules.quantizer import code_perplexity
from ..runtime.distributed import gather, own_rows
from ..runtime.randomness import random_state, restore_random_state
from ..structures import PairBatch, SpeechOutput, StepOutput
from .formal import FormalSupervision


class PretrainStep(nn.Module):
    """A model and its objective, as one module that Fabric and DDP can wrap."""

    def __init__(self, model: SpeechClip, formal: FormalSupervision | None = None) -> None:
        super().__init__()
        self.model = model
        self.formal = formal  # not a module: nothing of it is wrapped, or trained by the run

    def forward(self, batch: PairBatch, step: int) -> StepOutput:
        """Compute the losses of a batch that is shared by all processes, for this one's share.

        Args:
            batch: this process's share.
            step: steps taken before this one; CIF scales its quantity to the target in the first.
        """
        output, embeddings = self.embed(batch, step)
        gathered = {name: gather(rows) for name, rows in embeddings.items()}
        losses = self.losses(output, gathered, gather(batch.pair_ids), own_rows())
        report = self.report(output)
        if self.formal is not None and output.keywords is not None:
            report |= self.formal.learn(output.keywords, batch.pair_ids, step)
            losses |= self.formal.losses(output.keywords, batch.pair_ids)
        return StepOutput(losses, report)

    def embed(self, batch: PairBatch, step: int) -> tuple[SpeechOutput, dict[str, Tensor]]:
        """Run the model; returns its output and (B, E) unit vectors by name."""
        model = self.model
        scaling_steps = model.config.cif.scaling_steps
        scaling = scaling_steps < 0 or step < scaling_steps
        output = model(batch.speech, scaling=scaling, frames=False)
        embeddings = {**output.embeddings, "images": model.clip.encode_images(batch.images)}
        if model.config.clip.trainable and model.config.objective.text_weight > 0:
            embeddings["texts"] = model.clip.encode_text(batch.texts)
        return output, embeddings

    def losses(
        self,
        output: SpeechOutput,
        embeddings: Mapping[str, Tensor],
        pair_ids: Tensor,
        rows: slice = EVERY,
    ) -> dict[str, Tensor]:
        """Compute the weighted loss terms of these rows of the whole batch's embeddings."""
        model, images = self.model, embeddings["images"]
        speech = replace(
            output, parallel=embeddings.get("parallel"), cascaded=embeddings.get("cascaded")
        )
        losses = model.objective(speech, images, pair_ids, rows)
        if "texts" in embeddings:
            weight = model.config.objective.text_weight
            losses["text"] = weight * model.contrast(embeddings["texts"], images, pair_ids, rows)
        return losses

    @torch.no_grad()
    def report(self, output: SpeechOutput) -> dict[str, float]:
        """Return figures to log beside the losses."""
        report = {"logit_scale": float(self.model.contrast.logit_scale)}
        if output.keywords is not None:
            token_ids = output.keywords.token_ids
            size = int(self.model.clip.vocabulary.max()) + 1
            report["keywords"] = float(output.keywords.lengths.float().mean())
            report["code_perplexity"] = float(code_perplexity(token_ids[token_ids > 0], size))
        return report


def backward_in_chunks(
    fabric: Fabric, module: PretrainStep, batch: PairBatch, step: int, chunks: int, scale: float
) -> StepOutput:
    """Compute the losses and gradients of a step with the memory of one chunk of its batch.

    All chunks are embedded without a graph; the loss is differentiated by the embeddings; then each
    chunk is embedded again, with the same dropout, and passes its part of that gradient on
    (GradCache, arXiv 2101.06983). What depends on the batch in another way than through the
    contrastive loss, the keywords' batch norm, sees one chunk at a time.

    Args:
        fabric: launched, of one process.
        module: the step, not wrapped.
        batch: the whole batch.
        step: steps taken before this one.
        chunks: number of parts that the batch is cut into.
        scale: factor of the gradients.
    """
    size = -(-len(batch.pair_ids) // chunks)
    places = [slice(start, start + size) for start in range(0, len(batch.pair_ids), size)]
    parts = [
        replace(batch.map(itemgetter(rows)), texts=batch.texts[rows], indices=batch.indices[rows])
        for rows in places
    ]
    buffers = [buffer.clone() for buffer in module.buffers()]
    states, cached = [], []
    with torch.no_grad(), fabric.autocast():
        for part in parts:
            states.append(random_state())
            cached.append(module.embed(part, step))
    for buffer, value in zip(module.buffers(), buffers, strict=True):
        buffer.copy_(value)  # the second pass changes the statistics of batch norms
    whole = {
        name: torch.cat([embeddings[name] for _, embeddings in cached]).requires_grad_()
        for name in cached[0][1]
    }
    contrasted = replace(cached[0][0], firing=None, keywords=None)
    losses = module.losses(contrasted, whole, batch.pair_ids)
    found = torch.autograd.grad(sum(losses.values()), list(whole.values()))  # type: ignore[arg-type]
    gradients = dict(zip(whole, found, strict=True))
    losses = {name: value.detach() for name, value in losses.items()}
    fixed = {name: value.detach() for name, value in whole.items()}
    for rows, part, state in zip(places, parts, states, strict=True):
        restore_random_state(state)
        with fabric.autocast():
            output, embeddings = module.embed(part, step)
        total: Any = sum((embeddings[name].float() * gradients[name][rows]).sum() for name in whole)
        share = len(part.pair_ids) / len(batch.pair_ids)
        own = module.model.objective(
            replace(output, parallel=None, cascaded=None), embeddings["images"], part.pair_ids
        )
        for name, value in own.items():  # means over recordings: CIF's quantity, repetition
            total = total + share * value
            losses[name] = losses.get(name, torch.zeros(())) + share * value.detach()
        if rows.start == 0:  # the temperature's own gradient
            total = total + sum(module.losses(contrasted, fixed, batch.pair_ids).values())
        fabric.backward(total * scale)
    return StepOutput(losses, module.report(output))
