"""An exponential average of a cohort's weights, which is what is evaluated and kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

State = dict[str, Tensor]


class Average:
    """parameters: name -> [R, ...], those in training, changed in place since parts are views."""

    def __init__(self, parameters: State):
        self.parameters = parameters
        self.weights = {n: p.detach().clone() for n, p in parameters.items()}
        self._in_place = False

    @torch.no_grad()
    def update(self, newest: float | Tensor) -> None:
        """After a step. newest: the share of the new weights."""
        for name, parameter in self.parameters.items():
            self.weights[name].lerp_(parameter.detach(), newest)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averaged weights in place of the last ones, for a while."""
        if self._in_place:
            yield
            return
        live = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.keep()
        self._in_place = True
        try:
            yield
        finally:
            self._in_place = False
            self._put(live)

    def keep(self) -> None:
        """Put the averaged weights in for good."""
        self._put(self.weights)

    @torch.no_grad()
    def _put(self, weights: State) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(weights[name])
