"""The worker of the peer: the same models in PyTorch, as its users write them.

Runs in an environment that has PyTorch and lacks this package.
"""

import contextlib
import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.training_steps import rows
from benchmarks.training_steps.peer_networks import KERAS_NORM, build_encoder
from benchmarks.training_steps.worker import serve


class Contrastive(nn.Module):
    """Symmetric InfoNCE."""

    def __init__(self, encoder: nn.Module, features: int) -> None:
        super().__init__()
        self.encoder, self.probe = encoder, nn.Linear(features, rows.CLASSES)
        self.projector = nn.Sequential()
        self.projector.add_module("dense_0", nn.Linear(features, rows.WIDTH))
        self.projector.add_module("relu", nn.ReLU())
        self.projector.add_module("dense_1", nn.Linear(rows.WIDTH, rows.WIDTH))

    def forward(self, view_1: Tensor, view_2: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the losses of the pretext and of the probe."""
        features = self.encoder(view_1), self.encoder(view_2)
        first, second = (functional.normalize(self.projector(part)) for part in features)
        similarities = first @ second.T / rows.TEMPERATURE
        partners = torch.arange(len(similarities))
        directions = (similarities, similarities.T)
        losses = [functional.cross_entropy(each, partners) for each in directions]
        logits = self.probe(features[0].detach())
        return (losses[0] + losses[1]) / 2, functional.cross_entropy(logits, labels)

    def after_step(self) -> None:
        """Nothing follows a step."""


class Byol(nn.Module):
    """BYOL with a constant momentum."""

    def __init__(self, encoder: nn.Module, features: int) -> None:
        super().__init__()
        self.encoder, self.probe = encoder, nn.Linear(features, rows.CLASSES)
        self.projector, self.predictor = _mlp(features), _mlp(rows.WIDTH)

    def start(self) -> None:
        """Make the target a copy of the online network, once that has its weights."""
        self.target = copy.deepcopy(nn.ModuleList([self.encoder, self.projector]))
        self.target.requires_grad_(False)

    def forward(self, view_1: Tensor, view_2: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the losses of the pretext and of the probe."""
        views = view_1, view_2
        features = [self.encoder(view) for view in views]
        p1, p2 = (self.predictor(self.projector(part)) for part in features)
        with torch.no_grad():
            z1, z2 = (self.target[1](self.target[0](view)) for view in views)
        cosines = functional.cosine_similarity(p1, z2), functional.cosine_similarity(p2, z1)
        logits = self.probe(features[0].detach())
        pretext = 2 - cosines[0].mean() - cosines[1].mean()
        return pretext, functional.cross_entropy(logits, labels)

    def after_step(self) -> None:
        """Move the target towards the online network."""
        online = [*self.encoder.parameters(), *self.projector.parameters()]
        torch._foreach_lerp_(list(self.target.parameters()), online, 1 - rows.MOMENTUM)


def _mlp(width: int) -> nn.Sequential:
    network = nn.Sequential()
    network.add_module("dense_0", nn.Linear(width, rows.HIDDEN, bias=False))
    network.add_module("norm", nn.BatchNorm1d(rows.HIDDEN, **KERAS_NORM))
    network.add_module("relu", nn.ReLU())
    network.add_module("dense_1", nn.Linear(rows.HIDDEN, rows.WIDTH))
    return network


class TorchTrainer:
    """A model, its optimisers and its batches, in turn."""

    def __init__(self, model: Any, batches: list[list[Tensor]], compiled: bool) -> None:
        self.model, self.batches, self.steps = model, batches, 0
        self.losses = torch.compile(model) if compiled else model
        self.trained = [
            value
            for name, value in model.named_parameters()
            if value.requires_grad and not name.startswith("probe")
        ]
        decayed = [value for value in self.trained if value.ndim in (2, 4)]
        others = [value for value in self.trained if value.ndim not in (2, 4)]
        groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        options = {"eps": rows.ADAM_EPSILON, "weight_decay": rows.WEIGHT_DECAY}
        self.optimizers = (
            torch.optim.AdamW(groups, rows.LEARNING_RATE, **options),
            torch.optim.Adam(model.probe.parameters(), rows.PROBE_RATE, eps=rows.ADAM_EPSILON),
        )

    def step(self) -> float:
        """Take one step and return the loss of the pretext."""
        batch = self.batches[self.steps % len(self.batches)]
        self.steps += 1
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        pretext, probe = self.losses(*batch)
        (pretext + probe).backward()
        nn.utils.clip_grad_norm_(self.trained, rows.CLIP_NORM)
        for optimizer in self.optimizers:
            optimizer.step()
        self.model.after_step()
        return pretext.item()


def main(threads: int) -> None:
    """Serve requests with a number of threads."""
    torch.set_num_threads(threads)

    def product(side: int) -> Any:
        a = torch.rand(side, side)
        return lambda: a @ a

    serve(_build, product)


def _build(request: dict[str, Any], folder: Path) -> tuple[TorchTrainer, dict[str, Any]]:
    row, sizes = rows.ROWS[request["build"]], request["sizes"]
    features = (sizes["top"] or [sizes["width"]])[-1]
    method = Contrastive if row.method == "contrastive" else Byol
    model = method(build_encoder(sizes), features)
    _load(model, folder / "weights.npz")
    if isinstance(model, Byol):
        model.start()
    trainer = TorchTrainer(model, _batches(folder / "views.npz"), request["compiled"])
    return trainer, {"versions": f"PyTorch {torch.__version__}"}


def _load(model: nn.Module, path: Path) -> None:
    """Give every parameter our initial weight; those of norms are ones and zeros on both sides."""
    with np.load(path) as arrays:
        given = {name: torch.tensor(arrays[name]) for name in arrays.files}
    report = model.load_state_dict(given, strict=False)
    missing = [name for name in report.missing_keys if "norm" not in name]
    if missing or report.unexpected_keys:
        raise ValueError(f"missing {missing}, unexpected {report.unexpected_keys}")


def _batches(path: Path) -> list[list[Tensor]]:
    with np.load(path) as arrays, contextlib.suppress(KeyError):
        return [
            [
                *(torch.tensor(arrays[f"view_{k}_{i}"]).movedim(-1, 1) for k in (1, 2)),
                torch.tensor(arrays[f"label_{i}"]),
            ]
            for i in range(rows.BATCHES)
        ]
    raise ValueError(f"{path}: not {rows.BATCHES} batches of views")


if __name__ == "__main__":
    main(int(sys.argv[1]))
