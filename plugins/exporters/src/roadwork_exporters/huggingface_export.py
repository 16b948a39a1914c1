"""Writes a bundle as a transformers image classifier whose probability is the served score."""

from __future__ import annotations

import contextlib
import io
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from roadwork_core.bundle.golden import read_pictures
from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.errors import RoadworkError, UsageError, VerificationError
from roadwork_core.extras import how_to_install
from roadwork_core.files import pretty_json
from roadwork_core.kinds import ExporterContext

from .card import with_note
from .folding import Floats, affine, fold, rule_of

if TYPE_CHECKING:
    from roadwork_core.bundle import Bundle

    from .components import HuggingFace

#: How far the classifier's probability may be from the score on the same pixels.
TOLERANCE = 1e-4
STREETVISION = ("None", "Roadwork")
_RESAMPLE = {"nearest": 0, "bilinear": 2, "bicubic": 3}


def export(options: HuggingFace, ctx: ExporterContext) -> dict[str, Any]:
    """Fills `ctx.folder`. Raises UsageError for a bundle that a stock classifier cannot express, VerificationError
    where the written folder, read back, scores or decides otherwise."""
    try:
        import transformers  # noqa: F401
    except ImportError:
        raise RoadworkError(
            "transformers is not installed", hint=how_to_install("huggingface", "roadwork-exporters")
        ) from None
    bundle, scorer = ctx.runtime.bundle, ctx.runtime.scorer
    if list(scorer.tta.view_ids) != ["identity"]:
        raise UsageError(
            f"a transformers pipeline looks once, and this bundle's test-time augmentation"
            f" {bundle.model['tta']['use']} takes {len(scorer.tta.view_ids)} views",
            hint='make a bundle with [tta] use = "none", or export --to onnx',
        )
    if getattr(cast(Any, scorer.model).head, "reads_tokens", False):
        raise UsageError(
            f"the head {bundle.model['head']['use']} pools the tokens itself, and a classifier of transformers pools"
            " them in its own way",
            hint="export --to onnx",
        )
    rule = rule_of(bundle, options.policy, calibrated=options.calibrated)
    weight, bias = fold(*affine(cast(Any, scorer.model).head, bundle.model["feature_dim"]), rule, bundle.positive)
    labels = STREETVISION if options.labels == "streetvision" else _ordered(bundle)
    processor = _processor(scorer.preprocessing)
    model = _classifier(bundle, cast(Any, scorer.model).backbone, labels, weight, bias)
    with _quietly():
        model.save_pretrained(ctx.folder)
        processor.save_pretrained(ctx.folder)
    _write_cards(options, bundle, ctx)
    logits = scorer.logits(pictures := read_pictures(bundle.path / "golden/inputs.safetensors"))
    found = _check(ctx, pictures, rule.scores(logits, bundle.positive), labels)
    return {
        "architecture": type(model).__name__,
        "labels": list(labels),
        "policy": rule.policy,
        "cut": rule.cut,
        "temperature": rule.temperature,
        "parity": found,
    }


def _ordered(bundle: Bundle) -> tuple[str, str]:
    return bundle.labels[1 - bundle.positive], bundle.labels[bundle.positive]


def _processor(preprocessing: Preprocessing) -> Any:
    """The image processor that does what the bundle's preprocessing does. Raises UsageError where none can."""
    from transformers import BitImageProcessor

    height, width = preprocessing.size
    crop = preprocessing.fit == "crop"
    if crop and height != width:
        raise UsageError(f"an image processor of transformers crops to squares, the model takes {height} x {width}")
    return BitImageProcessor(
        do_resize=True,
        size={"shortest_edge": height} if crop else {"height": height, "width": width},
        resample=_RESAMPLE[preprocessing.interpolation],
        do_center_crop=crop,
        crop_size={"height": height, "width": width},
        do_rescale=True,
        do_normalize=True,
        image_mean=list(preprocessing.mean),
        image_std=list(preprocessing.std),
        do_convert_rgb=True,
    )


def _classifier(bundle: Bundle, backbone: Any, labels: tuple[str, str], weight: Floats, bias: Floats) -> Any:
    """The stock classifier with the encoder's weights and the folded layer."""
    from transformers import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, AutoConfig

    architecture = bundle.model["backbone"].get("architecture", {})
    config = architecture.get("config") if isinstance(architecture, dict) else None
    encoder = getattr(backbone, "model", None)
    if bundle.model["backbone"]["use"].rpartition("/")[2] != "transformers" or not isinstance(config, dict):
        raise UsageError(
            f"the backbone {bundle.model['backbone']['use']} is not one of transformers", hint="export --to onnx"
        )
    values = {key: value for key, value in config.items() if key != "model_type"}
    family = config["model_type"]
    own = AutoConfig.for_model(family, **values)
    if family == "siglip_vision_model":
        own = AutoConfig.for_model("siglip", vision_config=own.to_dict())
    if type(own) not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise UsageError(f"transformers has no image classifier for {family}", hint="export --to onnx")
    own.id2label, own.label2id = dict(enumerate(labels)), {label: index for index, label in enumerate(labels)}
    made = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[type(own)](own).float().eval()
    _fill(made, encoder, family)
    last = _last_layer(made)
    columns = _columns(made, last, backbone, bundle, family)
    full = np.zeros((2, last.in_features))
    full[:, columns] = weight
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(full))
        last.bias.copy_(torch.from_numpy(bias))
    return made


def _fill(made: Any, encoder: Any, family: str) -> None:
    """Loads the encoder's weights into the part of the classifier that is the same network."""
    ours = encoder.state_dict()
    for _, part in made.named_modules():
        theirs = part.state_dict()
        if theirs and theirs.keys() <= ours.keys() and len(theirs) > len(ours) // 2:
            part.load_state_dict({name: ours[name] for name in theirs})
            return
    raise UsageError(f"the classifier of {family} is not built around the encoder as it is here")


def _last_layer(made: Any) -> Any:
    layers = [m for m in made.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 2]
    if not layers:
        raise UsageError(f"{type(made).__name__} does not end in one linear layer", hint="export --to onnx")
    return layers[-1]


def _columns(made: Any, last: Any, backbone: Any, bundle: Bundle, family: str) -> slice:
    """Which of the last layer's inputs are the features that the bundle's head takes, by trying."""
    given: list[Any] = []
    hook = last.register_forward_hook(lambda _, inputs, __: given.append(inputs[0]))
    height, width = backbone.preprocessing.size
    pixels = torch.linspace(0, 400, 2 * 3 * height * width).sin().reshape(2, 3, height, width)
    try:
        with torch.inference_mode():
            made(pixel_values=pixels)
            features = backbone(pixels)
    finally:
        hook.remove()
    theirs, wide = given[0], features.shape[1]
    for start in range(0, theirs.shape[1] - wide + 1, wide):
        part = theirs[:, start : start + wide]
        if part.shape == features.shape and torch.allclose(part, features, rtol=1e-4, atol=1e-5):
            return slice(start, start + wide)
    pooling = bundle.model["backbone"]["architecture"].get("pooling")
    raise UsageError(
        f'the classifier of {family} in transformers pools its tokens in another way than pooling = "{pooling}"',
        hint="train with the pooling that it has, or export --to onnx",
    )


def _write_cards(options: HuggingFace, bundle: Bundle, ctx: ExporterContext) -> None:
    name = options.model_name or bundle.name
    card = (bundle.path / "README.md").read_text().replace("library_name: roadwork", "library_name: transformers", 1)
    (ctx.folder / "README.md").write_text(with_note(card, _NOTE))
    shutil.copyfile(bundle.path / "LICENSE", ctx.folder / "LICENSE")
    document = {
        "model_name": name,
        "description": options.description or str(bundle.manifest.get("description") or name),
        "version": options.version,
        "submitted_by": options.submitted_by,
        "submission_time": options.submission_time or datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (ctx.folder / "model_card.json").write_bytes(pretty_json(document))


def _check(ctx: ExporterContext, pictures: list[Any], expected: Floats, labels: tuple[str, str]) -> dict[str, Any]:
    """Reads the folder back, as its users will, and compares scores and decisions on the golden pictures."""
    from PIL import Image
    from transformers import AutoModelForImageClassification, pipeline

    scorer = ctx.runtime.scorer
    with _quietly():
        model = AutoModelForImageClassification.from_pretrained(ctx.folder, local_files_only=True).eval()
        stock = pipeline("image-classification", model=str(ctx.folder), device="cpu")
    views = [scorer.tta.views(picture)[0] for picture in pictures]
    with torch.inference_mode():
        answer = model(pixel_values=scorer.preprocessing.normalise(torch.stack(views))).logits.softmax(dim=1)
    network = answer[:, 1].double().numpy()

    def piped(images: list[Any]) -> Floats:
        rows = stock([Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images], top_k=2)
        return np.array([next(item["score"] for item in row if item["label"] == labels[1]) for row in rows])

    # Pictures of the input's size need no cropping, which transformers rounds in another way.
    sized, whole = piped(views), piped(pictures)
    gap = max(float(np.abs(found - expected).max()) for found in (network, sized))
    if not gap <= TOLERANCE:
        raise VerificationError(f"the classifier's scores are {gap:.3g} from the bundle's")
    firm = np.abs(expected - 0.5) > TOLERANCE
    if wrong := int(((sized > 0.5) != (expected >= 0.5))[firm].sum()):
        raise VerificationError(f"the pipeline decides {wrong} of {len(pictures)} golden pictures otherwise")
    if others := int(((whole > 0.5) != (expected >= 0.5)).sum()):
        ctx.report(
            f"{others} of {len(pictures)} golden pictures are decided otherwise when the pipeline crops them: it"
            " cuts up to one pixel elsewhere"
        )
    return {
        "network": gap,
        "pipeline": float(np.abs(whole - expected).max()),
        "decided_otherwise": others,
        "golden": len(pictures),
    }


@contextlib.contextmanager
def _quietly() -> Any:
    """Without the progress bars that transformers draws whatever stderr is."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield


_NOTE = """\
> This folder is an export for [transformers](https://huggingface.co/docs/transformers):
> `pipeline("image-classification", FOLDER)` gives the score. The temperature and the cut of the bundle are folded into
> the last layer, so that the positive class is chosen where its score is above one half. It always answers: sets,
> abstentions and guarantees are the bundle's, and not part of this folder.
"""
