"""What a backbone promises."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from unittest import mock

from ..data.preprocessing import Preprocessing
from ..kinds import BackboneContext, Kind, TokenBackbone
from .contract import ComponentContract, refuse, seeded

if TYPE_CHECKING:
    from torch import Tensor


class BackboneContract(ComponentContract):
    """A backbone maps normalised images to features, and is rebuilt offline from its `architecture`.

    Give `options` under which it loads without a network (random weights, or a local folder).
    """

    kind = Kind.BACKBONE

    def exercise(self, component: Any) -> Any:
        backbone = component.build(BackboneContext()).eval()
        rebuilt = component.build(BackboneContext(architecture=backbone.architecture))
        return {
            "features": backbone(self._images(backbone)),
            "keys": list(rebuilt.state_dict()),
            "architecture": dict(backbone.architecture),
        }

    def test_says_what_it_is(self) -> None:
        for component in self.cases():
            backbone = self._built(component)
            if not isinstance(getattr(backbone, "preprocessing", None), Preprocessing):
                refuse("it has no `preprocessing` (roadwork_core.data.preprocessing.Preprocessing)")
            multiple = backbone.preprocessing.size_multiple
            if any(side % multiple for side in backbone.preprocessing.size):
                refuse(f"its size {backbone.preprocessing.size} is no multiple of its size_multiple {multiple}")
            modules = set(backbone.modules())
            blocks = list(backbone.blocks())
            if not blocks or any(block not in modules for block in blocks):
                refuse("blocks() must list modules of the backbone, input to output, at least one")
            if any(tensor.is_meta for tensor in backbone.state_dict().values()):
                refuse("some of its weights are not loaded (on the meta device)")

    def test_gives_features_of_its_dimension(self) -> None:
        import torch

        for component in self.cases():
            backbone = self._built(component)
            images = self._images(backbone)
            features = backbone(images)
            if features.shape != (len(images), backbone.feature_dim):
                refuse(f"{len(images)} images make {tuple(features.shape)}; feature_dim is {backbone.feature_dim}")
            if not features.is_floating_point() or not torch.isfinite(features).all():
                refuse("its features are not finite")
            if not torch.allclose(features[:1], backbone(images[:1]), atol=1e-4, rtol=1e-4):
                refuse("in evaluation an image's features depend on the rest of its batch")

    def test_gives_tokens_if_it_says_so(self) -> None:
        import torch

        for component in self.cases():
            backbone, says = self._built(component), bool(getattr(component, "gives_tokens", False))
            if says != isinstance(backbone, TokenBackbone):
                refuse(f"gives_tokens is {says}, and the module has {'no' if says else 'a'} token_dim with tokens()")
            if not says:
                continue
            images = self._images(backbone)
            tokens = backbone.tokens(images)
            if tokens.ndim != 3 or tokens.shape[::2] != (len(images), backbone.token_dim) or not tokens.shape[1]:
                refuse(f"{len(images)} images make {tuple(tokens.shape)} tokens; token_dim is {backbone.token_dim}")
            if not tokens.is_floating_point() or not torch.isfinite(tokens).all():
                refuse("its tokens are not finite")
            if not torch.allclose(tokens[:1], backbone.tokens(images[:1]), atol=1e-4, rtol=1e-4):
                refuse("in evaluation an image's tokens depend on the rest of its batch")
            tokens.square().mean().backward()
            if all(parameter.grad is None for parameter in backbone.parameters()):
                refuse("no gradient of its tokens reaches any of its parameters")
            again = component.build(BackboneContext(architecture=backbone.architecture)).eval()
            again.load_state_dict(backbone.state_dict(), strict=True)
            if not torch.allclose(tokens, again.tokens(images), atol=1e-6, rtol=1e-5):
                refuse("rebuilt with the same weights it gives other tokens: something is not in the state dict")

    def test_learns_in_fp32_and_bf16(self) -> None:
        import torch

        for component in self.cases():
            for half in (False, True):
                backbone = seeded(component.build)(BackboneContext()).train()
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                    features = backbone(self._images(backbone, 4))
                features.float().square().mean().backward()
                gradients = [p.grad for p in backbone.parameters() if p.grad is not None]
                name = "bf16" if half else "fp32"
                if not gradients:
                    refuse("no gradient reaches any of its parameters")
                if not all(torch.isfinite(tensor).all() for tensor in (features, *gradients)):
                    refuse(f"features or gradients are not finite in {name}")

    def test_is_rebuilt_offline_from_its_architecture(self) -> None:
        import torch

        for component in self.cases():
            backbone = self._built(component)
            try:
                document = json.loads(json.dumps(dict(backbone.architecture), allow_nan=False))
            except (TypeError, ValueError) as error:
                refuse(f"its architecture is no JSON value: {error}")
            if path := _machine_path(document):
                refuse(f"its architecture names a path of this machine: {path}")
            with offline():
                again = component.build(BackboneContext(architecture=document)).eval()
            expected, keys = backbone.state_dict(), again.state_dict()
            if list(expected) != list(keys):
                refuse(f"rebuilt it has other state-dict keys: {sorted(set(expected) ^ set(keys))[:5]}")
            again.load_state_dict(expected, strict=True)
            images = self._images(backbone)
            if not torch.allclose(backbone(images), again(images), atol=1e-6, rtol=1e-5):
                refuse("rebuilt with the same weights it gives other features: something is not in the state dict")
            same = (again.feature_dim, again.preprocessing, dict(again.architecture))
            if same != (backbone.feature_dim, backbone.preprocessing, dict(backbone.architecture)):
                refuse("rebuilt it has another feature_dim, preprocessing or architecture")

    def test_every_weight_can_be_stored(self) -> None:
        """No parameter or buffer that matters is kept out of the state dict, and none is stored twice unseen."""
        for component in self.cases():
            backbone = self._built(component)
            if missing := [n for n, _ in backbone.named_parameters() if n not in backbone.state_dict()]:
                refuse(f"these parameters are not in the state dict: {', '.join(missing)}")

    def _built(self, component: Any) -> Any:
        return seeded(component.build)(BackboneContext()).eval()

    @staticmethod
    def _images(backbone: Any, count: int = 2) -> Tensor:
        from . import stand_ins

        return stand_ins.inputs(count, backbone.preprocessing.size)


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """No connection can be opened, and the hub's client is told so."""

    def blocked(*_: Any, **__: Any) -> Any:
        refuse("it opens a network connection while it is rebuilt")

    settings = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    with (
        mock.patch.dict(os.environ, settings),
        mock.patch.object(socket.socket, "connect", blocked),
        mock.patch.object(socket.socket, "connect_ex", blocked),
    ):
        yield


def _machine_path(value: Any) -> str | None:
    if isinstance(value, str):
        return value if value.startswith(("/", "~")) or value[1:3] in (":\\", ":/") else None
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((path for item in items if (path := _machine_path(item))), None)
