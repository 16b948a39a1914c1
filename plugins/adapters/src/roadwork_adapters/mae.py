"""Masked autoencoding (He et al., 2021, arXiv 2111.06377) on any transformer whose blocks take tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from roadwork_core.errors import UsageError
from roadwork_core.kinds import ObjectiveContext

if TYPE_CHECKING:
    from .objectives import Mae


class MaeObjective(nn.Module):
    """The blocks see part of the patches, a small decoder says what the others look like.

    The patches are left out where the first block begins, so positions are those of the whole picture. The decoder
    stands on the tokens that leave the last block; a norm that the backbone has after it is the decoder's own here.
    """

    views = 1

    def __init__(self, ctx: ObjectiveContext, options: Mae) -> None:
        super().__init__()
        self._backbone = (ctx.backbone,)  # in a tuple, so that it is no part of this module
        self.options = options
        self._own, self._whole = ctx.own, ctx.whole
        self.patch = cast(int, cast(Any, ctx.backbone).preprocessing.size_multiple)
        self.grid = (ctx.image_size[0] // self.patch, ctx.image_size[1] // self.patch)
        number = self.grid[0] * self.grid[1]
        self.visible = max(1, round(number * (1.0 - options.mask_ratio)))
        if self.patch < 2:
            raise _refusal("it does not cut its input into patches")
        if self.visible >= number:
            raise _refusal(f"of {number} patches none would be masked")
        self.prefix, width = self._probe(ctx.image_size)
        self.enter = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, options.width))
        self.mask_token = nn.Parameter(0.02 * torch.randn(options.width))
        layer = nn.TransformerEncoderLayer(
            options.width,
            options.width // options.head_width,
            4 * options.width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.decoder = nn.TransformerEncoder(layer, options.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(options.width)
        self.leave = nn.Linear(options.width, 3 * self.patch**2)
        self.register_buffer("positions", sine_positions(self.grid, options.width), persistent=False)

    def forward(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        images = views[0]
        number = self.grid[0] * self.grid[1]
        order = torch.rand(len(images), number, device=images.device).argsort(dim=1)
        kept = order[:, : self.visible]
        # Of several processes each puts its rows of the batch through the blocks.
        with _masked(self._backbone[0], self._own(kept), self.prefix) as seen:
            features = self._backbone[0](images)
        guesses = self._decoded(self._whole(seen[0], len(images)), kept)
        with torch.autocast(images.device.type, enabled=False):
            targets = patches_of(images.float(), self.patch)
            if self.options.normalise_patches:
                targets = normalised(targets)
            hidden = torch.ones(len(images), number, device=images.device).scatter(1, kept, 0.0)
            loss = mae_loss(guesses.float(), targets, hidden)
        return loss, features.detach().float()

    def after_step(self, step: int) -> None:
        """Nothing moves between the steps."""

    def _decoded(self, tokens: Tensor, kept: Tensor) -> Tensor:
        """Tokens of the visible patches, float (N, prefix + visible, D), to pixels of all, float (N, P, 3 p p)."""
        positions = cast(Tensor, self.positions)
        entered = self.enter(tokens)
        patches = self.mask_token.to(entered.dtype).expand(len(tokens), len(positions), -1)
        place = kept.unsqueeze(2).expand(-1, -1, entered.shape[2])
        patches = patches.scatter(1, place, entered[:, self.prefix :])
        whole = torch.cat([entered[:, : self.prefix], patches + positions], dim=1)
        answer: Tensor = self.leave(self.norm(self.decoder(whole)))
        return answer[:, self.prefix :]

    @torch.no_grad()
    def _probe(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """How many tokens stand before the patches, and how wide they are.

        Raises UsageError for a backbone whose blocks do not take one token for each patch, or not a part of them.
        """
        backbone = self._backbone[0]
        parameter = next(backbone.parameters())
        images = torch.zeros(1, 3, *image_size, device=parameter.device, dtype=parameter.dtype)
        number = self.grid[0] * self.grid[1]
        training = [module for module in backbone.modules() if module.training]
        backbone.eval()
        try:
            with _masked(backbone, None, 0) as seen:
                backbone(images)
            tokens = seen[0]
            prefix = tokens.shape[1] - number if tokens.ndim == 3 else -1
            if not 0 <= prefix < 16:
                raise _refusal(f"its blocks answer with {tuple(tokens.shape)}, not with a token for each of {number}")
            with _masked(backbone, torch.arange(self.visible, device=images.device)[None], prefix) as seen:
                backbone(images)
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            raise _refusal(f"its blocks do not take a part of the patches ({reason})") from None
        finally:
            for module in training:
                module.training = True
        if seen[0].shape[1] != prefix + self.visible:
            raise _refusal("its blocks do not keep their tokens apart")
        return prefix, int(tokens.shape[2])


@contextmanager
def _masked(backbone: nn.Module, kept: Tensor | None, prefix: int) -> Iterator[list[Tensor]]:
    """Inside, the first block takes only the `kept` patches (N, visible); yields what leaves the last block."""
    blocks = cast(Any, backbone).blocks()
    seen: list[Tensor] = []

    def enter(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if kept is None:
            return None
        if not inputs:
            raise TypeError("the tokens are not its first argument")
        tokens, *others = inputs
        place = (prefix + kept).unsqueeze(2).expand(-1, -1, tokens.shape[2])
        return (torch.cat([tokens[:, :prefix], tokens.gather(1, place)], dim=1), *others), named

    def leave(_: nn.Module, __: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    handles = [blocks[0].register_forward_pre_hook(enter, with_kwargs=True), blocks[-1].register_forward_hook(leave)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def patches_of(images: Tensor, side: int) -> Tensor:
    """Images, float (N, 3, H, W), as flat patches, float (N, P, 3 side side), row by row."""
    number, channels, height, width = images.shape
    rows, columns = height // side, width // side
    cut = images[:, :, : rows * side, : columns * side].reshape(number, channels, rows, side, columns, side)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(number, rows * columns, -1)


def normalised(patches: Tensor) -> Tensor:
    """Each patch with mean 0 and variance 1, the sample variance with 1e-6 added."""
    return (patches - patches.mean(dim=2, keepdim=True)) / (patches.var(dim=2, keepdim=True) + 1e-6).sqrt()


def mae_loss(guesses: Tensor, targets: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared error over the hidden patches only; `hidden` is 1 for them and 0 for the others, float (N, P)."""
    errors = (guesses - targets).square().mean(dim=2)
    return (errors * hidden).sum() / hidden.sum()


def sine_positions(grid: tuple[int, int], width: int) -> Tensor:
    """Fixed positions of a grid's places, float (rows * columns, width): sines and cosines of row and column."""
    rates = 1.0 / 10_000 ** (torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    rows, columns = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in grid), indexing="ij")
    angles = [place.reshape(-1, 1) * rates for place in (rows, columns)]
    parts = [wave for angle in angles for wave in (angle.sin(), angle.cos())]
    found = torch.cat(parts, dim=1).float()
    return nn.functional.pad(found, (0, width - found.shape[1]))


def _refusal(reason: str) -> UsageError:
    return UsageError(
        f"the objective mae cannot train this backbone: {reason}",
        hint='it needs a plain vision transformer with positions added to its patches; "vicreg" and "dino" take any',
    )
