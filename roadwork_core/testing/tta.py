"""What test-time augmentation promises."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..data.preprocessing import Preprocessing
from ..errors import RoadworkError
from ..kinds import Kind, TtaContext
from ..learned_tta import TtaFitContext, ViewScores
from ..metrics import softmax
from .contract import ComponentContract, refuse
from .results import difference

if TYPE_CHECKING:
    from torch import Tensor

#: Heights and widths of the pictures it is tried on: landscape, portrait, very wide, smaller than the input, odd.
SIZES = ((48, 64), (64, 33), (40, 200), (20, 24), (37, 61))


class TtaContract(ComponentContract):
    """Views have stable names and fit the model, miss no part of the frame, and fuse to one row per picture.

    One that learns refuses to fuse before it is fitted, and is the same again when it is restored from its state.
    Set `has_identity` or `covers_the_frame` to False where that is not its purpose.
    """

    kind = Kind.TTA
    has_identity = True
    covers_the_frame = True
    image_size: tuple[int, int] = (32, 32)
    size_multiple = 8
    num_classes = 2

    def build(self, component: Any, fit: str = "stretch") -> Any:
        """The views for a model of `image_size`."""
        preprocessing = Preprocessing(
            size=self.image_size, mean=(0, 0, 0), std=(1, 1, 1), fit="stretch" if fit == "stretch" else "crop"
        )
        context = TtaContext(
            image_size=self.image_size,
            size_multiple=self.size_multiple,
            num_classes=self.num_classes,
            to_input=preprocessing.to_input,
        )
        return component.build(context)

    def exercise(self, component: Any) -> Any:
        from . import stand_ins

        tta, state = self._fitted(self.build(component))
        views = tta.views(stand_ins.pictures(1, *SIZES[0])[0])
        fused = tta.fuse(self._logits(len(tta.view_ids)))
        made = {"ids": list(tta.view_ids), "views": list(views), "fused": fused, "min_side": tta.min_side}
        return {**made, "state": state, "summary": tta.summary() if hasattr(tta, "summary") else None}

    def test_views_fit_the_model(self) -> None:
        import torch

        from . import stand_ins

        for component in self.cases():
            for fit in ("stretch", "crop"):
                tta = self.build(component, fit)
                ids = list(tta.view_ids)
                if not ids or len(set(ids)) != len(ids) or not all(isinstance(name, str) for name in ids):
                    refuse(f"view_ids are not names that each stand once: {ids}")
                if not isinstance(tta.min_side, int) or tta.min_side < 1:
                    refuse(f"min_side is {tta.min_side!r}, not a number of pixels")
                for size in SIZES:
                    image = stand_ins.pictures(1, *size)[0]
                    before = image.clone()
                    views = list(tta.views(image))
                    if not torch.equal(before, image):
                        refuse("views writes into the picture")
                    if len(views) != len(ids):
                        refuse(f"a picture of {size} has {len(views)} views, and view_ids names {len(ids)}")
                    for name, view in zip(ids, views, strict=True):
                        self._check_view(name, view, size)

    def test_identity_is_the_evaluation_transform(self) -> None:
        import torch

        from . import stand_ins

        if not self.has_identity:
            return
        for component in self.cases():
            tta = self.build(component, "crop")
            if "identity" not in tta.view_ids:
                refuse(f'no view is named "identity" (has_identity = False if none is): {list(tta.view_ids)}')
            image = stand_ins.pictures(1, *SIZES[0])[0]
            preprocessing = Preprocessing(size=self.image_size, mean=(0, 0, 0), std=(1, 1, 1))
            view = tta.views(image)[list(tta.view_ids).index("identity")]
            if not torch.equal(view, preprocessing.to_input(image)):
                refuse('the view "identity" is not ctx.to_input(image, ctx.image_size)')

    def test_draws_nothing(self) -> None:
        """The same picture has the same views, whatever the random generators."""
        import torch

        from . import stand_ins

        for component in self.cases():
            tta, image = self.build(component), stand_ins.pictures(1, *SIZES[0])[0]
            made = []
            for seed in (1, 2):
                torch.manual_seed(seed)
                made.append(list(tta.views(image)))
            if found := difference(made[0], made[1], "views"):
                refuse(f"two calls give other views: {found}")

    def test_covers_the_frame(self) -> None:
        """Every part of the picture is in a view; and where several views show parts of it, they leave no gap."""
        import torch

        if not self.covers_the_frame:
            return
        for component in self.cases():
            tta = self.build(component)
            for size in SIZES:
                seen = torch.stack([cells.flatten() for cells in self._seen(tta, size)])  # (cells, views)
                if unseen := int((~seen.any(dim=1)).sum()):
                    refuse(f"{unseen} of {len(seen)} parts of a picture of {size} are in no view")
                partial = seen[:, ~seen.all(dim=0)]
                if partial.shape[1] > 1 and (gaps := int((~partial.any(dim=1)).sum())):
                    refuse(f"the views that show a part of a picture of {size} leave {gaps} of {len(seen)} parts out")

    def test_identity_alone_is_no_augmentation(self) -> None:
        """With one view there is nothing to fuse: its logits are handed on to the bit."""
        import numpy as np

        for component in self.cases():
            tta, _ = self._fitted(self.build(component))
            if list(tta.view_ids) == ["identity"]:
                logits = self._logits(1)
                if not np.array_equal(tta.fuse(logits), logits[0]):
                    refuse("the only view is the identity, and its logits are changed")

    def test_learns_before_it_fuses(self) -> None:
        """Unfitted it refuses; its state survives JSON; it asks for no split that is not its to see."""
        import numpy as np

        for component in self.cases():
            unfitted = self.build(component)
            if not getattr(unfitted, "fits_on", None):
                continue
            if foreign := sorted(set(unfitted.fits_on) - {"train", "val_select"}):
                refuse(f"it asks to be fitted on {', '.join(foreign)}")
            try:
                unfitted.fuse(self._logits(len(unfitted.view_ids)))
            except RoadworkError:
                pass
            else:
                refuse("it fuses before it was fitted")
            fitted, state = self._fitted(unfitted)
            if getattr(fitted, "fits_on", None):
                refuse("restored from its state it asks to be fitted again")
            if not set(fitted.view_ids) or fitted.min_side > unfitted.min_side:
                refuse("fitted it needs larger pictures than it was fitted on")
            again = self.build(component).restore(json.loads(json.dumps(state, allow_nan=False)))
            logits = self._logits(len(fitted.view_ids))
            if not np.array_equal(fitted.fuse(logits), again.fuse(logits)):
                refuse("restored from its state, written as JSON, it fuses otherwise")
            for wrong in ({}, {**state, "views": {}, "weights": {}, "chosen": ""}):
                self._check_refused(component, wrong)

    def test_fuses_rows_in_order(self) -> None:
        import numpy as np

        for component in self.cases():
            tta, state = self._fitted(self.build(component))
            logits = self._logits(len(tta.view_ids))
            before = logits.copy()
            fused = tta.fuse(logits)
            if not np.array_equal(before, logits):
                refuse("fuse writes into its argument")
            if fused.shape != logits.shape[1:] or fused.dtype != np.float64:
                refuse(f"logits float64 {logits.shape} are fused to {fused.dtype} {fused.shape}")
            if not np.isfinite(fused).all():
                refuse("fused logits are not finite")
            if found := difference(fused[::-1].copy(), tta.fuse(logits[:, ::-1].copy()), "rows"):
                refuse(f"rows turned round are not fused to rows turned round: {found}")
            alone = np.concatenate([tta.fuse(logits[:, row : row + 1]) for row in range(logits.shape[1])])
            if not np.allclose(fused, alone, rtol=0, atol=1e-12):
                refuse("a row's fused logits depend on the rest of its batch")
            agreeing = np.repeat(logits[:1], len(logits), axis=0)
            if state is not None:
                # What is learned may calibrate; it may not overrule.
                if not np.array_equal(tta.fuse(agreeing).argmax(axis=-1), logits[0].argmax(axis=-1)):
                    refuse("views that agree on a class are overruled")
            elif not np.allclose(softmax(tta.fuse(agreeing)), softmax(logits[0]), rtol=0, atol=1e-9):
                refuse("views that agree are fused to something else than what they agree on")

    def _check_refused(self, component: Any, state: Any) -> None:
        try:
            self.build(component).restore(state)
        except (KeyError, ValueError):
            return
        refuse("a state that is not its own is taken")

    def _fitted(self, tta: Any) -> tuple[Any, Any]:
        """It, fitted where it learns, and its state."""
        if not getattr(tta, "fits_on", None):
            return tta, None
        views = len(tta.view_ids)
        scores = {split: self._scores(views, seed) for seed, split in enumerate(tta.fits_on)}
        context = TtaFitContext(splits=scores, positive=1, seed=0, report=lambda _: None)
        state = json.loads(json.dumps(tta.fit(context), allow_nan=False))
        return tta.restore(state), state

    def _scores(self, views: int, seed: int) -> ViewScores:
        """Logits of views that are noisier the later they come."""
        import numpy as np

        generator = np.random.default_rng(seed)
        labels = np.arange(60) % self.num_classes
        noise = generator.normal(size=(views, 60, self.num_classes)) * (1 + np.arange(views)[:, None, None])
        logits = 2.0 * np.eye(self.num_classes)[labels] + noise
        return ViewScores(logits=logits, labels=labels.astype(np.int64), groups=np.arange(60, dtype=np.int64) // 2)

    def _check_view(self, name: str, view: Tensor, size: tuple[int, int]) -> None:
        import torch

        if view.dtype is not torch.uint8 or view.ndim != 3 or view.shape[0] != 3 or 0 in view.shape:
            refuse(f"of a picture of {size} the view {name} is {view.dtype} {tuple(view.shape)}, not uint8 (3, h, w)")
        if any(side % self.size_multiple for side in view.shape[-2:]):
            refuse(f"the view {name} is {tuple(view.shape[-2:])}, no multiple of {self.size_multiple}")

    def _seen(self, tta: Any, size: tuple[int, int]) -> list[Tensor]:
        """For each cell of a 5 x 5 grid over the picture, which views change when that cell is lit."""
        import torch

        height, width = size
        dark = list(tta.views(torch.zeros((3, *size), dtype=torch.uint8)))
        seen = []
        for row in range(5):
            for column in range(5):
                lit = torch.zeros((3, *size), dtype=torch.uint8)
                rows = slice(row * height // 5, (row + 1) * height // 5)
                lit[:, rows, column * width // 5 : (column + 1) * width // 5] = 255
                changed = [bool((one != two).any()) for one, two in zip(dark, tta.views(lit), strict=True)]
                seen.append(torch.tensor(changed))
        return seen

    def _logits(self, views: int) -> Any:
        import numpy as np

        generator = np.random.default_rng(2)
        return 3 * generator.normal(size=(views, 7, self.num_classes))
