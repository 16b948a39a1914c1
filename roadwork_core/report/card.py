"""The model card that lies in a bundle as README.md: written from the evidence, nothing promised beyond it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import Factory, frozen

from .html import data_notes, interval, number, split_rows
from .hub_license import hub_license

#: Of P(positive), whatever a policy makes of it.
_SCORES = {"auroc": "AUROC", "nll": "NLL", "brier": "Brier score", "ece": "ECE"}
_SHOWN = ("mcc", "accuracy", "f1", "balanced_accuracy", "precision", "recall")
#: What Markdown would take as its own in a name, a table's bar among it.
_MARKUP = re.compile(r"[\\`*|<>\[\]]")


@frozen(kw_only=True)
class Card:
    """What the card is written from. `metrics` is metrics.json, `data` prepare's report, `policies` the documents."""

    name: str
    description: str
    license: str
    labels: Sequence[str]
    positive: str
    metrics: Mapping[str, Any]
    policies: Mapping[str, Mapping[str, Any]]
    modes: Mapping[str, str]
    active: str
    fallback: str | None
    data: Mapping[str, Any] = Factory(dict)
    backbone: str = ""
    tta: str = "none"
    #: Where the pictures came from, and how the network was trained, each in a few words.
    dataset: str = ""
    training: str = ""
    version: str = ""


def model_card(card: Card) -> str:
    """The card as Markdown. The same card gives the same text."""
    parts = [
        _front_matter(card),
        f"# {card.name}",
        card.description.strip(),
        _overview(card),
        "## Intended use",
        _use(card),
        "## Data",
        _data(card),
        "## Evaluation",
        _evaluation(card),
        "## Guarantees, in words",
        _guarantees(card),
        "## Limits",
        _limits(card),
        "## Licence",
        f"The model: {_text(card.license)}; see `LICENSE`. Pictures, and weights that training began with, have"
        " licences of their own, which this one does not change.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(card: Card) -> str:
    # A JSON string is a YAML one, whatever it holds: without quotes "no" would be false, and "3.1" a number.
    stated = [f"{key}: {json.dumps(value)}" for key, value in hub_license(card.license).items()]
    return "\n".join(["---", *stated, "pipeline_tag: image-classification", "library_name: roadwork", "---"])


def _overview(card: Card) -> str:
    labels = ", ".join(f"**{_text(label)}**" if label == card.positive else _text(label) for label in card.labels)
    return (
        f"An image classifier that decides between {labels} (positive in bold), or abstains, with a probability, a"
        f" prediction set and a reason. Backbone: {card.backbone}; test-time augmentation: {card.tta}; made with"
        f" roadwork {card.version}. The score is P({_text(card.positive)}) as the deciding policy sees it."
    )


def _use(card: Card) -> str:
    modes = "; ".join(f"`--mode {mode}`: {name}" for mode, name in card.modes.items())
    fallback = f", `{card.fallback}` answers where it cannot or may not abstain" if card.fallback else ""
    return (
        f"Pictures like those of the data below. By default `{card.active}` decides{fallback}. Per request:"
        f" {modes}.\n\n"
        "```console\n$ roadwork bundle verify BUNDLE\n$ roadwork predict BUNDLE PICTURE_OR_FOLDER --json\n```\n\n"
        "Decisions with consequences for people need a person who looks at abstentions and at a sample of answers."
    )


def _data(card: Card) -> str:
    rows = split_rows(card.data)
    if not rows:
        return "Not recorded."
    header = ["split", *map(_text, card.labels), "pictures", "groups"]
    body = [
        [
            _text(row["split"]),
            *(str(row["classes"].get(label, 0)) for label in card.labels),
            str(row["n"]),
            "" if row["groups"] is None else str(row["groups"]),
        ]
        for row in rows
    ]
    note = (
        "Groups (sequences, near-duplicates) never cross splits. `train` trained the model, `val_select` chose the"
        " epoch, `val_calib` fitted the policies, `test` was used once, for the figures below."
    )
    source = f"From the dataset {card.dataset}." if card.dataset else ""
    if "samples" in card.data:
        source = f"{source} {card.data['samples']} pictures in {card.data['groups']} groups.".strip()
    digest = f" Digest of pictures, labels and splits: `{card.data['digest'][:16]}`." if "digest" in card.data else ""
    found = " ".join([source, *(_text(sentence) for sentence in data_notes(card.data))]).strip() + digest
    trained = f"Trained with {card.training}." if card.training else ""
    return "\n\n".join(part for part in (found, _table(header, body), note, trained) if part)


def _evaluation(card: Card) -> str:
    metrics = card.metrics
    level = round(100 * metrics["level"])
    body = []
    for name in card.policies:
        policy = metrics["policies"][name]
        shares = [_figure(policy[share], _percent) for share in ("coverage", "selective_risk")]
        body.append([name, *shares, *(_figure(policy["metrics"][metric]) for metric in _SHOWN)])
    header = ["policy", "answers (%)", "of them wrong (%)", *(metric.replace("_", " ") for metric in _SHOWN)]
    note = (
        f"On {metrics['n']} test pictures in {metrics['groups']} groups; {level} % intervals from"
        f" {metrics['bootstrap']} resamples of whole groups. Metrics are over the answered pictures."
    )
    lines = []
    for name in card.policies:
        policy = metrics["policies"][name]
        scores = [
            f"{title} {_figure(policy['scores'][key])}" for key, title in _SCORES.items() if key in policy["scores"]
        ]
        if scores:
            lines.append(f"- `{name}`, of its score: {'; '.join(scores)}.")
        if "audit" in policy:
            audit = policy["audit"]
            by_class = "; ".join(
                f"{_text(label)} {interval(figure, True)}"
                for label, figure in audit["error_of_answers_by_class"].items()
            )
            lines.append(
                f"- `{name}`, exact (Clopper-Pearson, if pictures were independent): error of the answers"
                f" {interval(audit['error_of_answers'], True)}; by class: {by_class}."
            )
    return "\n\n".join(part for part in (note, _table(header, body), "\n".join(lines)) if part)


def _guarantees(card: Card) -> str:
    lines = []
    for name, policy in card.policies.items():
        guarantee = policy.get("guarantee")
        text = guarantee.get("text") if guarantee else None
        lines.append(f"- `{name}`: {text or 'none; what is known of it is the table above.'}")
    return "\n".join(lines)


def _limits(card: Card) -> str:
    return (
        "- Every figure holds for data like the test split. Other cameras, places, seasons or distortions can change"
        " it. Nothing in this bundle notices; `roadwork drift` compares what is served with it.\n"
        "- Guarantees assume that new pictures are exchangeable with the calibration pictures.\n"
        f"- The share of {_text(card.positive)} in deployment may differ from that of the data; precision changes with"
        " it.\n"
        "- An interval says how far chance moves a figure, not how far a change of data does."
    )


def _figure(figure: Mapping[str, Any], shown: Callable[[float], str] = number) -> str:
    if figure["value"] is None:
        return "n/a"
    if figure["low"] is None or figure["high"] is None:
        return shown(figure["value"])
    return f"{shown(figure['value'])} [{shown(figure['low'])}, {shown(figure['high'])}]"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _text(name: str) -> str:
    """A name of the user's own on one line, in which Markdown finds nothing of its own."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(name.split()))


def _table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
