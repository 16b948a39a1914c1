"""The report is one file that needs nothing else, says every figure, and lets no name break out of its place."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import attrs
import numpy as np
import pytest

from roadwork_core.decisions import Decisions
from roadwork_core.report import figures as plots
from roadwork_core.report.card import Card, model_card
from roadwork_core.report.evaluation import Judge, headline
from roadwork_core.report.html import Mistake, Report, data_notes, render, split_rows

CLASSES = ["no_roadwork", "roadwork"]
VOID = {"meta", "img", "br", "link", "input", "hr", "path", "use", "rect", "line", "circle"}
DATA = {
    "splits": {
        name: {"samples": 10, "groups": 5, "classes": {"no_roadwork": 4, "roadwork": 6}}
        for name in ("val_calib", "test", "train", "val_select")
    },
    "bad_images": {"count": 2},
    "near_duplicates": {"pairs": 3},
    "warnings": ["test has only 4 samples"],
}


def make_metrics(abstains: bool = True, seed: int = 0) -> tuple[dict[str, Any], Decisions, Any]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(120) < 0.6).astype(np.int64)
    scores = 1 / (1 + np.exp(-rng.normal(2.0 * labels - 1, 1.2)))
    said = (scores >= 0.5).astype(np.int64)
    if abstains:
        said[np.abs(scores - 0.5) < 0.15] = -1
    sets = said[:, None] == np.arange(2)
    sets[said == -1] = True
    decisions = Decisions(labels=said, scores=scores, sets=sets, reasons=["r"] * 120)
    judge = Judge(labels=labels, groups=None, classes=CLASSES, positive=1, resamples=100)
    policies = judge.policies({"careful": (decisions, decisions), "threshold": (decisions, decisions)})
    for entry in policies.values():
        entry |= {"mode": "fast", "fallbacks": {"careful gave an empty set": 2}}
    metrics = {
        "n": 120,
        "groups": 120,
        "classes": CLASSES,
        "positive": "roadwork",
        "negative": "no_roadwork",
        "level": 0.95,
        "bootstrap": 100,
        "active": "careful",
        "fallback": "threshold",
        "split": "test",
        "test": headline(policies["careful"]),
        "confusion": policies["careful"]["confusion"],
        "policies": policies,
    }
    return metrics, decisions, labels == 1


@pytest.fixture(scope="module")
def report() -> Report:
    metrics, decisions, truth = make_metrics()
    return Report(
        name="streets",
        description="A description.",
        metrics=metrics,
        policies={
            "careful": {"use": "scrc", "guarantee": {"text": "Nine of ten."}},
            "threshold": {"use": "threshold", "guarantee": None},
        },
        figures=[plots.confusion(metrics["confusion"]), plots.roc(decisions.scores, truth, (0.1, 0.9))],
        mistakes=[
            Mistake(path="a/b.jpg", truth="roadwork", decided="no_roadwork", score=0.01, reason="r", jpeg=b"\xff\xd8"),
            Mistake(path="a/gone.jpg", truth="roadwork", decided="no_roadwork", score=0.02, reason="r"),
        ],
        mistakes_total=7,
        data=DATA,
        spec='name = "streets"\n',
        versions={"roadwork": "0.1.0"},
    )


class Balanced(HTMLParser):
    """Collects text and insists that tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)


def words(page: str) -> str:
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return " ".join(" ".join(parser.text).split())


def test_the_page_needs_nothing_from_outside(report: Report) -> None:
    page = render(report)
    for attribute in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert attribute.startswith(("data:", "#")), attribute
    assert "<script" not in page
    assert "<link" not in page
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert set(re.findall(r"https?://[^\s\"'<)]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "default-src 'none'" in page


def test_the_page_says_what_was_measured(report: Report) -> None:
    text = words(render(report))
    mcc = report.metrics["test"]["mcc"]
    for part in (
        f"{mcc['value']:.3f}",
        f"{mcc['low']:.3f} to {mcc['high']:.3f}",
        "Nine of ten.",
        "No guarantee is attached",
        "2 times: careful gave an empty set",
        "The 2 of 7 wrong answers",
        "2 pictures could not be read",
        'name = "streets"',
        "active",
        "fallback",
    ):
        assert part in text, part


@pytest.mark.parametrize(("groups", "warned"), [(4, True), (10, False)])
def test_a_class_of_few_groups_is_named_as_a_reason_for_doubt(report: Report, groups: int, warned: bool) -> None:
    metrics = {**report.metrics, "groups_by_class": {"no_roadwork": 47, "roadwork": groups}}
    text = words(render(attrs.evolve(report, metrics=metrics)))
    assert (f"Only {groups} groups hold “roadwork”" in text) == warned
    assert "hold “no_roadwork”" not in text


def test_the_same_report_is_the_same_page(report: Report) -> None:
    assert render(report) == render(report)
    metrics, _, _ = make_metrics()
    assert plots.confusion(metrics["confusion"]) == plots.confusion(metrics["confusion"])


def test_a_bar_has_its_place_from_0_to_1_and_stands_where_more_is_better(report: Report) -> None:
    wrong = {"value": -0.4, "low": -0.6, "high": -0.2}
    careful = report.metrics["policies"]["careful"]
    policies = {**report.metrics["policies"], "careful": {**careful, "metrics": {**careful["metrics"], "mcc": wrong}}}
    page = render(attrs.evolve(report, metrics={**report.metrics, "policies": policies}))
    bars = {}
    for tile in page.split('<div class="tile')[2:]:
        name, rest = tile.partition('"label">')[2].split("<", 1)
        drawn = re.findall(r'(?:<i|<b) style="left:([-\d.]+)%', rest.partition("</small>")[2].splitlines()[1])
        bars[name] = [float(place) for place in drawn]
    assert bars["MCC"] == [0.0, 0.0]
    assert len(bars["accuracy"]) == len(bars["AUROC"]) == 2
    assert [bars[name] for name in ("NLL", "Brier", "ECE", "AURC")] == [[], [], [], []]


def test_names_are_text_and_never_markup(report: Report) -> None:
    evil = "<script>alert(1)</script>\"'& $x$ $"
    mistakes = [attrs.evolve(report.mistakes[0], path=evil, truth=evil)]

    def plot(axes: Any) -> None:
        axes.set_xlabel(evil)

    figure = plots.draw("x", evil, evil, plot)
    page = render(attrs.evolve(report, name=evil, description=evil, mistakes=mistakes, spec=evil, figures=[figure]))
    assert "<script" not in page
    assert evil in words(page)


def test_a_report_without_figures_for_decisions_still_renders(report: Report) -> None:
    nothing = {"value": None, "low": None, "high": None}
    active = report.metrics["policies"][report.metrics["active"]]
    silent = {**active, **{part: dict.fromkeys(active[part], nothing) for part in ("metrics", "scores")}}
    policies = {**report.metrics["policies"], report.metrics["active"]: silent}
    metrics = {**report.metrics, "policies": policies}
    assert "n/a" in words(render(attrs.evolve(report, metrics=metrics, mistakes=(), data={}, versions={})))


def test_many_classes_render(report: Report) -> None:
    metrics = {**report.metrics, "classes": ["a", "b", "c"], "positive": "b", "negative": None}
    assert "against the other classes" in words(render(attrs.evolve(report, metrics=metrics)))


def test_colours_follow_the_theme_and_ids_do_not_collide(report: Report) -> None:
    page = render(report)
    for figure in report.figures:
        for colour in plots.PALETTE.values():
            assert colour not in figure.svg
        assert "var(--accent)" in figure.svg
        assert figure.png.startswith(b"\x89PNG")
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for reference in re.findall(r'(?:href="#|url\(#)([^")]+)', page):
        assert reference in ids


def test_the_plateau_is_the_widest_run_of_best_cuts() -> None:
    probability = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    value = np.array([0.0, 0.9, 0.1, 0.9, 0.9, 0.1, 0.0])
    assert list(plots.plateau(probability, value)) == pytest.approx([0.35, 0.55])


def test_every_plot_draws_small_and_lopsided_data() -> None:
    scores, labels = np.array([0.0, 1.0, 0.5, 0.5]), np.array([False, True, True, False])
    ece = {"value": 0.1, "null_mean": 0.1, "null_95": 0.2, "equal_mass": 0.1, "debiased": 0.0}
    history = [{"epoch": 1, "train_loss": 0.7, "mcc": None}]
    for figure in (
        plots.roc(scores, labels, None),
        plots.precision_recall(scores, labels, None),
        plots.score_histogram(scores, labels, CLASSES, None),  # type: ignore[arg-type]
        plots.calibration(scores, labels, ece),
        plots.risk_against_coverage(scores, labels, {}),
        plots.threshold_curve({"probability": scores[:1], "value": scores[:1]}, 0.5, "mcc", None, "t"),
        plots.training(history, "mcc", None),
    ):
        assert "<svg" in figure.svg


def test_splits_are_in_the_order_of_their_use() -> None:
    assert [row["split"] for row in split_rows(DATA)] == ["train", "val_select", "val_calib", "test"]
    assert split_rows({}) == []
    assert data_notes({}) == []


def test_pictures_of_one_size_are_told_in_one_number() -> None:
    sides = {"width": {"min": 64, "median": 64, "max": 64}, "height": {"min": 48, "median": 60, "max": 64}}
    assert data_notes(sides) == ["Width 64 pixels.", "Height 48 to 64 pixels, median 60."]


def card(**changes: Any) -> Card:
    metrics, _, _ = make_metrics()
    options: dict[str, Any] = {
        "name": "streets",
        "description": "Streets.",
        "license": "Apache-2.0",
        "labels": CLASSES,
        "positive": "roadwork",
        "metrics": metrics,
        "policies": {
            "careful": {"guarantee": {"text": "Nine of ten."}},
            "threshold": {"guarantee": None},
        },
        "modes": {"fast": "threshold"},
        "active": "careful",
        "fallback": "threshold",
        "data": DATA,
        "dataset": "`streets`",
        "training": "the loss `focal`",
    }
    return Card(**{**options, **changes})


def test_the_card_is_written_from_the_evidence() -> None:
    made = card()
    text = model_card(made)
    mcc = made.metrics["policies"]["careful"]["metrics"]["mcc"]
    for part in (
        'license: "apache-2.0"\n',
        "# streets",
        f"{mcc['value']:.3f} [{mcc['low']:.3f}, {mcc['high']:.3f}]",
        "| train | 4 | 6 | 10 | 5 |",
        "- `careful`: Nine of ten.",
        "- `threshold`: none",
        "By default `careful` decides, `threshold` answers",
        "## Limits",
        "120 test pictures",
        "From the dataset `streets`.",
        "Trained with the loss `focal`.",
        "- `careful`, of its score: AUROC",
        "The model: Apache-2.0; see `LICENSE`. Pictures",
    ):
        assert part in text, part
    assert text == model_card(card())


def test_the_cards_shares_have_their_intervals() -> None:
    made = card()
    lines = model_card(made).split("\n## Evaluation\n")[1].split("\n## ")[0].splitlines()
    header, _, *rows = [line.split(" | ") for line in lines if line.startswith("| ")]
    assert header[:3] == ["| policy", "answers (%)", "of them wrong (%)"]
    for name, row in zip(made.policies, rows, strict=True):
        policy = made.metrics["policies"][name]
        for share, cell in zip(("coverage", "selective_risk"), row[1:3], strict=True):
            value, low, high = (100 * policy[share][key] for key in ("value", "low", "high"))
            assert cell == f"{value:.1f} [{low:.1f}, {high:.1f}]"


def test_a_share_of_nothing_is_no_number_in_the_card() -> None:
    metrics, _, _ = make_metrics()
    nothing = {"value": None, "low": None, "high": None}
    metrics["policies"]["careful"]["selective_risk"] = nothing
    metrics["policies"]["threshold"]["selective_risk"] = {"value": 0.25, "low": None, "high": None}
    text = model_card(card(metrics=metrics))
    assert re.search(r"\| careful \| [^|]+ \| n/a \|", text)
    assert re.search(r"\| threshold \| [^|]+ \| 25\.0 \|", text)


def test_a_proprietary_card_says_so() -> None:
    text = model_card(card(license="proprietary", fallback=None, data={}))
    assert 'license: "other"\nlicense_name: "proprietary"\nlicense_link: "LICENSE"\n' in text
    assert "The model: proprietary; see `LICENSE`" in text


@pytest.mark.parametrize(
    ("license", "name"), [("No", "no"), ("3.1", "3.1"), ("Null", "null"), ("Our terms", "our-terms")]
)
def test_a_licence_of_ones_own_is_text_in_yaml(license: str, name: str) -> None:
    yaml = pytest.importorskip("yaml")
    _, stated, _ = model_card(card(license=license)).split("---\n", 2)
    expected = {"license": "other", "license_name": name, "license_link": "LICENSE"}
    assert yaml.safe_load(stated) == {
        **expected,
        "pipeline_tag": "image-classification",
        "library_name": "roadwork",
    }


def test_no_name_breaks_out_of_the_cards_tables_or_header() -> None:
    names = ["no | work\n## Forged", "<b>*roadwork*</b> [x](y)"]
    splits = {"test": {"samples": 3, "groups": None, "classes": dict(zip(names, (1, 2), strict=True))}}
    audit = {
        "error_of_answers": {"low": 0.1, "high": 0.2},
        "error_of_answers_by_class": {name: {"low": 0.1, "high": 0.2} for name in names},
    }
    metrics, _, _ = make_metrics()
    metrics["policies"]["careful"]["audit"] = audit
    licence = 'mine: "all" # yes\npipeline_tag: forged'
    made = card(labels=names, positive=names[1], license=licence, metrics=metrics, data={"splits": splits})
    text = model_card(made)
    lines = text.splitlines()
    assert lines[:7] == [
        "---",
        'license: "other"',
        'license_name: "mine-all-yes-pipeline-tag-forged"',
        'license_link: "LICENSE"',
        "pipeline_tag: image-classification",
        "library_name: roadwork",
        "---",
    ]
    rows = [line for line in lines if line.startswith(("| split", "| test"))]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [6, 6], rows
    assert "## Forged" not in lines
    assert f"**{names[1]}**" not in text
    assert r"**\<b\>\*roadwork\*\</b\> \[x\](y)**" in text
