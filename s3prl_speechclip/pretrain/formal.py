"""Formal supervision of a run: its captions, its language model, its discriminator.

The captions are never those of the speech that they judge: images with an odd pair id lend their
captions, recordings of images with an even one are judged by them.
"""

from __future__ import annotations

import copy
import logging
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from ..data.manifest import Manifest
from ..errors import ConfigError
from ..model.speechclip import SpeechClip
from ..modules.formal import (
    SequenceDiscriminator,
    TokenLanguageModel,
    discriminator_loss,
    generator_loss,
    sequence_cross_entropy,
)
from ..structures import Keywords
from .config import PretrainConfig

logger = logging.getLogger(__name__)

FEWEST = 16  # captions that a language model can be trained on
HELD_OUT = 10  # every so many captions measure it
LANGUAGE_MODEL_STEPS = 60  # after which a thousand captions are learned by heart
MEASURE_STEPS = 10
BATCH = 128  # captions
LEARNING_RATE = 1e-3  # of both critics
R1_WEIGHT = 1.0
PUNCTUATION = re.compile(r"[^\w\s']")  # nobody speaks it


class FormalSupervision:
    """The two critics, and what trains them.

    Args:
        config: configuration of the run.
        manifest: its corpus.
        model: provides the token embeddings, on its device.
        state: what `state` returned when the run was saved; empty: the language model is trained.

    Raises:
        ConfigError: the model has no keywords, or the corpus too few captions.
    """

    def __init__(
        self,
        config: PretrainConfig,
        manifest: Manifest,
        model: SpeechClip,
        state: Mapping[str, Any],
    ) -> None:
        if model.branch.head is None:
            raise ConfigError(
                f"{config.model.variant} has no keywords to supervise; set "
                "model.objective.perplexity_weight=0,,model.objective.adversarial_weight=0"
            )
        self._objective = config.model.objective
        self._seed = config.seed
        codebook = model.clip.codebook().detach().float()
        captions = caption_rows(manifest, model)
        if len(captions) < FEWEST:
            raise ConfigError(
                f"formal supervision needs {FEWEST} English captions in the training split of "
                f"{manifest.corpus}, found {len(captions)}; choose another corpus with --data"
            )
        self._lengths = torch.tensor([len(rows) for rows in captions], device=codebook.device)
        self._rows = pad_sequence(captions, batch_first=True).to(codebook.device)
        # Its own random numbers: a run's others do not depend on whether it is supervised.
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            learned = [rows for place, rows in enumerate(captions) if place % HELD_OUT]
            counts = torch.bincount(torch.cat(learned), minlength=len(codebook))
            self.language_model = TokenLanguageModel(codebook, counts).to(codebook.device)
            self.discriminator = SequenceDiscriminator(codebook).to(codebook.device)
            self.optimizer = torch.optim.Adam(
                self.discriminator.parameters(), lr=LEARNING_RATE, betas=(0.0, 0.99)
            )
            self._knows_language = False
            if state:
                self._restore(state)
            if self._objective.perplexity_weight and not self._knows_language:
                self._learn_language()
        self.language_model.eval().requires_grad_(False).zero_grad()

    def losses(self, keywords: Keywords, pair_ids: Tensor) -> dict[str, Tensor]:
        """Compute the weighted loss terms of a batch's keywords, in training.

        Args:
            keywords: of the batch.
            pair_ids: (B,) int64.
        """
        judged = pair_ids % 2 == 0
        embeddings, lengths = keywords.embeddings[judged], keywords.lengths[judged]
        objective, terms = self._objective, {}
        with torch.autocast(embeddings.device.type, enabled=False):
            if objective.perplexity_weight:
                assert keywords.probabilities is not None
                predicted = self.language_model(embeddings)
                cost = sequence_cross_entropy(predicted, keywords.probabilities[judged], lengths)
                terms["perplexity"] = objective.perplexity_weight * cost
            if objective.adversarial_weight and judged.any():
                self.discriminator.requires_grad_(False)
                scores = self.discriminator(embeddings, lengths)
                terms["adversarial"] = objective.adversarial_weight * generator_loss(scores)
        return terms

    def learn(self, keywords: Keywords, pair_ids: Tensor, step: int) -> dict[str, float]:
        """Train the discriminator for one step; returns figures to log.

        Args:
            keywords: of the batch.
            pair_ids: (B,) int64.
            step: the run's; draws the captions, so that a resumed run draws the same.
        """
        judged = pair_ids % 2 == 0
        if not self._objective.adversarial_weight or not judged.any():
            return {}
        made = keywords.embeddings[judged].detach().float(), keywords.lengths[judged]
        drawn = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        chosen = torch.randint(len(self._rows), (int(judged.sum()),), generator=drawn)
        chosen = chosen.to(self._rows.device)
        real = F.embedding(self._rows[chosen], self.language_model.codebook), self._lengths[chosen]
        self.discriminator.requires_grad_(True)
        with torch.enable_grad(), torch.autocast(made[0].device.type, enabled=False):
            loss = discriminator_loss(self.discriminator, real, made, R1_WEIGHT)
            if loss.isfinite():  # a step whose keywords are no numbers is not taken either
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
        return {"discriminator": float(loss.detach())}

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {
            "language_model": self.language_model.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "knows_language": self._knows_language,
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.language_model.load_state_dict(state["language_model"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._knows_language = bool(state.get("knows_language", True))

    def _learn_language(self) -> None:
        """Train the language model on the captions, and log its perplexity on those held out."""
        model = self.language_model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.1)
        places = torch.arange(len(self._rows), device=self._rows.device)
        held = places % HELD_OUT == 0
        best, kept = math.inf, copy.deepcopy(model.state_dict())
        for step in range(LANGUAGE_MODEL_STEPS + 1):
            if step % MEASURE_STEPS == 0:
                with torch.no_grad():
                    perplexity = float(self._caption_cost(places[held], model.eval()).exp())
                model.train()
                if perplexity < best:
                    best, kept = perplexity, copy.deepcopy(model.state_dict())
            chosen = places[~held][torch.randint(int((~held).sum()), (BATCH,))]
            optimizer.zero_grad()
            self._caption_cost(chosen, model).backward()
            optimizer.step()
        model.load_state_dict(kept)
        self._knows_language = True
        logger.info(
            "language model of %d captions: perplexity %.1f on %d others",
            int((~held).sum()),
            best,
            int(held.sum()),
        )

    def _caption_cost(self, chosen: Tensor, model: TokenLanguageModel) -> Tensor:
        rows = self._rows[chosen]
        wanted = F.one_hot(rows, len(model.codebook)).float()
        predicted = model(F.embedding(rows, model.codebook))
        return sequence_cross_entropy(predicted, wanted, self._lengths[chosen])


def caption_rows(manifest: Manifest, model: SpeechClip) -> list[Tensor]:
    """Return the captions that lend themselves, once an image, as codebook rows (K,) int64."""
    train = manifest.split(manifest.train_split)
    texts = {(u.pair_id, u.english): None for u in train if u.pair_id % 2 and u.english}
    found = [model.clip.codebook_rows(PUNCTUATION.sub("", text)) for _, text in texts]
    return [torch.tensor(rows) for rows in found if rows]
