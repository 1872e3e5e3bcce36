"""The pretraining objective of one batch, and recall on a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.nn.functional import all_reduce

from ..data.batches import IndexedPairs, PairDataset, load_batches
from ..model import SpeechClip
from ..modules.quantizer import code_perplexity
from ..recall import recall_at_k
from ..structures import PairBatch, SpeechBatch, SpeechOutput, StepOutput


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
        waveforms: Tensor,
        lengths: Tensor,
        images: Tensor,
        pair_ids: Tensor,
        texts: tuple[str, ...],
        step: int,
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Do what `losses` does, in the plain types that Fabric and DDP hand on."""
        batch = PairBatch(SpeechBatch(waveforms, lengths), images, pair_ids, texts)
        output = self.losses(batch, step)
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
        output = model(batch.speech, scaling=scaling)
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


def gather(rows: Tensor) -> Tensor:
    """Put the processes' rows together in the order of the whole batch, with gradient.

    Process r of W holds rows r, r + W, r + 2 W, ... of the whole batch.

    Args:
        rows: (B, ...), the same shape in every process.

    Returns:
        (W B, ...); `rows` itself where there is one process.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    world, rank = dist.get_world_size(), dist.get_rank()
    whole = rows.new_zeros(len(rows) * world, *rows.shape[1:])
    mine = torch.arange(len(rows), device=rows.device) * world + rank
    whole = whole.index_copy(0, mine, rows)
    if rows.requires_grad:
        gathered: Tensor = all_reduce(whole)
        return gathered
    dist.all_reduce(whole)
    return whole


def _gather_embeddings(output: SpeechOutput) -> SpeechOutput:
    return replace(
        output,
        parallel=None if output.parallel is None else gather(output.parallel),
        cascaded=None if output.cascaded is None else gather(output.cascaded),
    )


def pair_batch(pairs: IndexedPairs, image_features: Tensor) -> PairBatch:
    """Put the images' cached features beside the recordings."""
    return PairBatch(
        pairs.speech, image_features[pairs.image_indices], pairs.pair_ids, pairs.texts
    )


@torch.no_grad()
def embed_split(
    model: SpeechClip,
    dataset: PairDataset,
    batches: Sequence[Sequence[int]],
    *,
    workers: int = 0,
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Embed the recordings of a split.

    Args:
        model: in evaluation mode.
        dataset: the split.
        batches: indices into it.
        workers: processes that read.

    Returns:
        Embeddings (N, E) float32 on the CPU by name, the recordings' indices (N,) and pair ids
        (N,), in the order of `batches`.
    """
    device = model.clip.vocabulary.device
    kept: dict[str, list[Tensor]] = {}
    indices, pair_ids = [], []
    for pairs in load_batches(dataset, batches, workers):
        output = model(pairs.speech.to(device))
        for name, embedding in output.embeddings.items():
            kept.setdefault(name, []).append(embedding.float().cpu())
        indices.append(pairs.indices)
        pair_ids.append(pairs.pair_ids)
    embeddings = {name: torch.cat(rows) for name, rows in kept.items()}
    return embeddings, torch.cat(indices), torch.cat(pair_ids)


def split_recall(
    embeddings: dict[str, Tensor], pair_ids: Tensor, images: Tensor, image_ids: Tensor
) -> dict[str, dict[str, dict[int, float]]]:
    """Give recall@1, 5 and 10 in percent, by embedding and direction."""
    return {
        name: recall_at_k(speech, images, pair_ids, image_ids)
        for name, speech in embeddings.items()
    }
