"""What an augmentation promises."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from ..kinds import AugmentationContext, Kind
from .contract import SEED, ComponentContract, refuse, seed_everything
from .results import difference

if TYPE_CHECKING:
    from torch import Tensor


class AugmentationContract(ComponentContract):
    """A sample augmentation keeps uint8 pictures of three channels; a batch one keeps images and probabilities.

    Both draw from torch's global generator alone.
    """

    kind = Kind.AUGMENTATION
    image_size: tuple[int, int] = (32, 32)
    num_classes = 2
    #: How often it is tried: an effect that is rare needs more.
    draws = 12

    @property
    def batch(self) -> bool:
        return bool(getattr(self.cls, "batch", False))

    def build(self, component: Any) -> Any:
        """The transform."""
        return component.build(AugmentationContext(image_size=self.image_size, num_classes=self.num_classes))

    def exercise(self, component: Any) -> Any:
        transform = self.build(component)
        return [transform(*arguments) for arguments in self._draws()]

    def test_keeps_the_format(self) -> None:
        for component in self.cases():
            transform = self.build(component)
            seed_everything(SEED)
            for arguments in self._draws():
                made = transform(*arguments)
                if self.batch:
                    self._check_batch(arguments, made)
                else:
                    self._check_picture(made)

    def test_draws_from_torch_alone(self) -> None:
        """Other states of `random` and numpy give the same result, and are left as they were."""
        import numpy as np
        import torch

        for component in self.cases():
            results = []
            for seed in (1, 2):
                random.seed(seed)
                np.random.seed(seed)
                torch.manual_seed(SEED)
                before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
                results.append(self.exercise(component))
                after = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
                if before != after:
                    refuse("it draws from Python's or numpy's generator; only torch's is seeded for each sample")
            if found := difference(*results):
                refuse(f"with torch's generator at one state two runs differ: {found}")

    def test_does_not_seed(self) -> None:
        """It draws from the generator as it finds it, and does not set it."""
        import torch

        for component in self.cases():
            states = []
            for seed in (1, 2):
                torch.manual_seed(seed)
                self.exercise(component)
                states.append(torch.get_rng_state())
            if torch.equal(*states):
                refuse("it seeds torch's generator, so every sample is changed alike")

    def test_leaves_its_arguments_alone(self) -> None:
        import torch

        for component in self.cases():
            transform = self.build(component)
            for arguments in self._draws():
                before = [tensor.clone() for tensor in arguments]
                transform(*arguments)
                if not all(torch.equal(one, two) for one, two in zip(before, arguments, strict=True)):
                    refuse("it writes into its arguments, which may be cached")

    def _draws(self) -> list[tuple[Tensor, ...]]:
        import torch

        from . import stand_ins

        if self.batch:
            targets = torch.nn.functional.one_hot(torch.arange(6) % self.num_classes, self.num_classes).float()
            images = stand_ins.inputs(6, self.image_size)
            return [(images, targets)] * self.draws
        sizes = [(32, 32), (48, 64), (64, 40), (33, 91)]
        return [(stand_ins.pictures(1, *sizes[draw % len(sizes)], seed=draw)[0],) for draw in range(self.draws)]

    @staticmethod
    def _check_picture(made: Any) -> None:
        import torch

        if not isinstance(made, torch.Tensor) or made.dtype is not torch.uint8:
            refuse(f"a uint8 picture becomes {getattr(made, 'dtype', type(made).__name__)}")
        if made.ndim != 3 or made.shape[0] != 3 or 0 in made.shape:
            refuse(f"a picture (3, H, W) becomes {tuple(made.shape)}")

    @staticmethod
    def _check_batch(arguments: tuple[Tensor, ...], made: Any) -> None:
        import torch

        if not isinstance(made, tuple | list) or len(made) != 2:
            refuse("a batch augmentation gives images and targets")
        for name, given, got in zip(("images", "targets"), arguments, made, strict=True):
            if got.shape != given.shape or got.dtype != given.dtype:
                refuse(f"{name} {given.dtype} {tuple(given.shape)} become {got.dtype} {tuple(got.shape)}")
            if not torch.isfinite(got).all():
                refuse(f"{name} are not finite")
        sums = made[1].sum(dim=1)
        if made[1].min() < -1e-6 or not torch.allclose(sums, torch.ones_like(sums), atol=1e-5):
            refuse("targets are no longer probabilities: each row must sum to 1")
