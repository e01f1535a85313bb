"""One step of training the head of `features`: cells with a synthetic defect marked, the backbone as it is."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, max_pool2d

from train.backbones.backbone import Backbone
from train.heads.structure_head import CELL, StructureHead

__all__ = ["StructureLearner"]

MARKED_SHARE = 0.25
"""Of a cell that a defect covers, from which the cell counts as one; of less, it counts as neither."""
HIGHEST = 5
"""Cells by which a crop as a whole is judged."""
FOCAL, DICE, WHOLE = 20.0, 0.3, 0.2
"""Weights of the losses: of cells, scaled by how wrong each is (Lin et al. 2017, arXiv 1708.02002); of map and mask
overlapping, which a small defect moves as much as a large one; of the crop as a whole."""
WEIGHT_DECAY = 1e-3


class StructureLearner:
    """A head and its optimiser."""

    def __init__(self, head: StructureHead, backbone: Backbone) -> None:
        """Steps wait for a learning rate, see set_learning_rate."""
        self.head = head
        self.backbone = backbone
        self.optimizer = self._fresh_optimizer()

    def begin(self, seed: int) -> None:
        """A head that has learnt nothing, in place of what the last one learnt."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for module in self.head.modules():
                if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                    module.reset_parameters()
            self.head.set_rare()
        self.head.usual.copy_(torch.tensor([0.0, 1.0]))
        self.optimizer = self._fresh_optimizer()

    def step(self, crops: Tensor, masks: Tensor) -> Tensor:
        """The loss before the step. crops: (B, C, h, w) uint8; masks: (B, h, w) bool, where defects are."""
        with torch.no_grad():
            cells, coarse = self.head.gathered(self.backbone.fine(crops.float() / 255.0))
        self.head.train()
        loss = marking_loss(self.head(cells, coarse), masks)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.head.eval()
        return loss.detach()

    def set_learning_rate(self, learning_rate: float) -> None:
        """Change the rate from the next step on."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

    def _fresh_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.head.parameters(), lr=0.0, weight_decay=WEIGHT_DECAY)


def marking_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Of log odds (B, h / 4, w / 4) against where defects are (B, h, w)."""
    covered = masks[:, None].float()
    marked = (avg_pool2d(covered, CELL)[:, 0] >= MARKED_SHARE).float()
    counted = 1.0 - (max_pool2d(covered, CELL)[:, 0] - marked).clamp(min=0.0)
    p = logits.sigmoid()
    wrong = marked * (1.0 - p) + (1.0 - marked) * p
    entropy = binary_cross_entropy_with_logits(logits, marked, reduction="none")
    focal = (wrong.square() * entropy * counted).mean()
    overlap = (2.0 * (p * marked).sum(dim=(1, 2)) + 1.0) / (p.sum(dim=(1, 2)) + marked.sum(dim=(1, 2)) + 1.0)
    flat = logits.flatten(1)
    highest = flat.topk(min(HIGHEST, flat.shape[1]), dim=1).values.mean(dim=1)
    whole = binary_cross_entropy_with_logits(highest, masks.flatten(1).any(dim=1).float())
    return FOCAL * focal + DICE * (1.0 - overlap).mean() + WHOLE * whole
