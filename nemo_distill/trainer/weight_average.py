"""A moving average of the weights during training: what validation scores, and what the `.nemo` holds.

NeMo's own callback validates with averages but writes other weights to the `.nemo`, and Lightning 2.4 has none.
"""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from nemo_distill.config.errors import ConfigurationError

SAVED = "weight_average"  # the callback's key in a checkpoint


class WeightAverage(Callback):
    """Averages the trained weights after every optimizer step: average = d * average + (1 - d) * weights.

    In step t, d is the smaller of `decay` and (1 + t) / (10 + t), so that the first, random weights are soon
    forgotten. In a checkpoint, the model's weights are the averages, so that whatever loads it gets these. The weights
    that training goes on with stand beside them, and a resumed training equals one that was not interrupted.

    Args:
        decay: the share of the old average that is kept; None: no averages. A checkpoint with averages is then
            refused, because the training would go on with them.
    """

    def __init__(self, decay: float | None):
        self.decay = decay
        self._others: list[Tensor] = []  # the averages, or while they are in the model, the trained weights
        self._shown = self._ended = False
        self._updates = self._step = 0

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint.get(SAVED)
        if saved is None or self._ended:  # then NeMo loads the best checkpoint, to write its averages
            return
        if self.decay is None:
            raise ConfigurationError(
                [
                    "ema=null: the checkpoint to resume from holds a moving average of weights; set ema to its decay, "
                    f"{saved['decay']}."
                ]
            )
        self._updates = saved["updates"]
        self._others = [
            checkpoint["state_dict"][name].to(weight, copy=True) for name, weight in _trained(pl_module).items()
        ]
        with torch.no_grad():
            for name, weight in _trained(pl_module).items():
                weight.copy_(saved["weights"][name])

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if not self._others:
            return
        trained = _trained(pl_module)
        weights, averages = [weight.detach() for weight in trained.values()], self._others
        if self._shown:
            weights, averages = averages, weights
        by_weight = dict(zip(map(id, trained.values()), averages))
        for name, weight in pl_module.named_parameters(remove_duplicate=False):  # a tied weight has several names
            if id(weight) in by_weight and name in checkpoint["state_dict"]:
                checkpoint["state_dict"][name] = by_weight[id(weight)]
        checkpoint[SAVED] = {"decay": self.decay, "updates": self._updates, "weights": dict(zip(trained, weights))}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = trainer.global_step
        self._begin(pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self.decay is None or trainer.global_step == self._step:  # gradients are being accumulated
            return
        self._step = trainer.global_step
        self._updates += 1
        decay = min(self.decay, (1 + self._updates) / (10 + self._updates))
        with torch.no_grad():
            get_ema_multi_avg_fn(decay)(self._others, _weights(pl_module), self._updates)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(pl_module)  # before training, Lightning tries a few batches of validation
        self._show(pl_module, averages=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._ended:
            self._show(pl_module, averages=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ended = True
        self._show(pl_module, averages=True)  # for the .nemo, which NeMo writes after this

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # on_train_end has not run if a resumed training has no steps left. If NeMo's time limit ended it, on_fit_end
        # does not run either.
        if stage == "fit":
            self.on_train_end(trainer, pl_module)

    def _begin(self, pl_module: LightningModule) -> None:
        if self.decay is None:
            return
        weights = _weights(pl_module)
        if not self._others:
            self._others = [weight.detach().clone() for weight in weights]
        # A checkpoint is read before the model moves to its device.
        self._others = [other.to(weight.device) for other, weight in zip(self._others, weights)]

    def _show(self, pl_module: LightningModule, averages: bool) -> None:
        """Exchanges the model's weights, unless it already has the averages, or the trained weights."""
        if not self._others or self._shown == averages:
            return
        with torch.no_grad():
            for weight, other in zip(_weights(pl_module), self._others):
                kept = weight.clone()
                weight.copy_(other)
                other.copy_(kept)
        self._shown = averages


def _trained(pl_module: LightningModule) -> dict[str, Tensor]:
    """Returns the weights that the training changes, each once, by name."""
    return {name: weight for name, weight in pl_module.named_parameters() if weight.requires_grad}


def _weights(pl_module: LightningModule) -> list[Tensor]:
    return list(_trained(pl_module).values())
