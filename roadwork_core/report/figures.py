"""The plots of a report: drawn once, as SVG that follows the reader's light or dark theme, and as PNG files."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from ..metrics import auroc, average_precision, pr_curve, reliability, risk_coverage, roc_curve, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

#: Colours by role. The SVGs take them from CSS variables of the same names, the PNGs as they are here.
PALETTE = {
    "ink": "#1c2024",
    "muted": "#697177",
    "grid": "#e1e4e8",
    "paper": "#ffffff",
    "accent": "#1d63d1",
    "warm": "#d9500f",
    "wash": "#dbe7fb",
}
SIZE = (4.7, 3.3)
_RC = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": PALETTE["muted"],
    "axes.labelcolor": PALETTE["ink"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALETTE["grid"],
    "grid.linewidth": 0.8,
    "text.color": PALETTE["ink"],
    "xtick.color": PALETTE["muted"],
    "ytick.color": PALETTE["muted"],
    "xtick.labelcolor": PALETTE["ink"],
    "ytick.labelcolor": PALETTE["ink"],
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    # Names are shown as they are, dollar signs included.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "roadwork",
}

Draw = Callable[["Axes"], None]


@frozen(kw_only=True)
class Figure:
    """A plot. `name` is its file name without suffix, `caption` what it shows and how to read it."""

    name: str
    title: str
    caption: str
    svg: str
    png: bytes


@contextmanager
def _axes(size: tuple[float, float]) -> Iterator[tuple[Any, Axes]]:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context(_RC):
        canvas = Canvas(figsize=size, layout="constrained")
        FigureCanvasAgg(canvas)
        yield canvas, canvas.add_subplot()


def draw(name: str, title: str, caption: str, plot: Draw, size: tuple[float, float] = SIZE) -> Figure:
    """Makes a figure with `plot(axes)`. The same data give the same bytes."""
    with _axes(size) as (canvas, axes):
        plot(axes)
        svg, png = io.StringIO(), io.BytesIO()
        canvas.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        canvas.savefig(png, format="png", dpi=200, facecolor=PALETTE["paper"], metadata={"Software": None})
    return Figure(name=name, title=title, caption=caption, svg=_themed(svg.getvalue(), title), png=png.getvalue())


def _themed(svg: str, title: str) -> str:
    """The bare <svg> element with CSS variables for colours, at the width of its container."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Ids are made unique per figure: two inline SVGs of one page share a name space.
    prefix = re.sub(r"[^a-z0-9]+", "-", title.lower())
    svg = re.sub(r'id="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    for role, colour in PALETTE.items():
        svg = svg.replace(colour, f"var(--{role})")
    svg = svg.replace("'DejaVu Sans'", "var(--font)").replace("DejaVu Sans", "var(--font)")
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


def roc(scores: Floats, labels: NDArray[np.bool_], point: tuple[float, float] | None, of: str = "") -> Figure:
    """ROC of P(positive) (n,); `point` is (false positive rate, recall) of the policy that decides, `of` on what."""
    fpr, tpr, _ = roc_curve(scores, labels)

    def plot(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=PALETTE["muted"], linewidth=1, linestyle=(0, (2, 3)))
        axes.fill_between(fpr, tpr, step=None, color=PALETTE["wash"], alpha=0.6, linewidth=0)
        axes.plot(fpr, tpr, color=PALETTE["accent"])
        if point is not None:
            _dot(axes, *point, "the policy")
            axes.legend(loc="lower right")
        _unit(axes, "false positive rate", "recall (true positive rate)")

    caption = f"Area {auroc(scores, labels):.4f}. The dot is where the active policy works, {of or 'of all pictures'}."
    return draw("roc", "ROC", caption, plot)


def precision_recall(scores: Floats, labels: NDArray[np.bool_], point: tuple[float, float] | None) -> Figure:
    """Precision against recall of P(positive) (n,); `point` is (recall, precision) of the policy that decides."""
    precision, recall, _ = pr_curve(scores, labels)
    share = float(labels.mean())

    def plot(axes: Axes) -> None:
        axes.axhline(share, color=PALETTE["muted"], linewidth=1, linestyle=(0, (2, 3)))
        axes.plot(recall, precision, color=PALETTE["accent"], drawstyle="steps-post")
        if point is not None:
            _dot(axes, *point, "the policy")
            axes.legend(loc="lower left")
        _unit(axes, "recall", "precision")

    caption = f"Average precision {average_precision(scores, labels):.4f}; guessing gives {share:.2f} (dotted)."
    return draw("precision_recall", "Precision and recall", caption, plot)


def score_histogram(scores: Floats, labels: NDArray[np.bool_], names: tuple[str, str], cut: float | None) -> Figure:
    """How P(positive) (n,) is distributed in both classes; `names` are (negative, positive)."""
    edges = np.linspace(0, 1, 31)

    def plot(axes: Axes) -> None:
        for mask, name, colour in ((~labels, names[0], "accent"), (labels, names[1], "warm")):
            axes.hist(
                scores[mask], bins=edges.tolist(), color=PALETTE[colour], alpha=0.65, label=f"{name} ({mask.sum()})"
            )
        if cut is not None:
            axes.axvline(cut, color=PALETTE["ink"], linewidth=1.2)
        axes.set_xlim(0, 1)
        axes.set_yscale("symlog", linthresh=10)
        axes.set_yticks([0, 5, 10, *(10**power for power in range(2, 7) if 10**power <= len(scores))])
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
        axes.grid(axis="x", visible=False)
        axes.set_xlabel("P(positive)")
        axes.set_ylabel("samples (log above 10)")
        axes.legend(loc="upper center")

    line = " The line is the cut." if cut is not None else ""
    return draw("scores", "Scores", f"How the two classes are told apart.{line}", plot)


def calibration(scores: Floats, labels: NDArray[np.bool_], figure: Mapping[str, Any]) -> Figure:
    """Reliability of P(positive) (n,); `figure` is its `ece` entry with the null."""
    table = reliability(scores, labels, bins=10).rows()

    def plot(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=PALETTE["muted"], linewidth=1, linestyle=(0, (2, 3)))
        for row in table:
            bounds = wilson(round(row["outcome"] * row["count"]), int(row["count"]))
            axes.plot([row["confidence"]] * 2, [bounds.low, bounds.high], color=PALETTE["accent"], linewidth=1.2)
        sizes = [18 + 160 * row["count"] / len(scores) for row in table]
        axes.scatter(
            [row["confidence"] for row in table],
            [row["outcome"] for row in table],
            s=sizes,
            color=PALETTE["accent"],
            zorder=3,
            linewidth=0,
        )
        _unit(axes, "mean P(positive) of the bin", "share that is positive")

    caption = (
        f"ECE {figure['value']:.3f}; a perfectly calibrated model of the same scores would show"
        f" {figure['null_mean']:.3f} on average and up to {figure['null_95']:.3f}. Bars are 95 % intervals,"
        " the area of a dot grows with its samples."
        f" In bins of equal count the ECE is {figure['equal_mass']:.3f}, and the root mean square error without the"
        f" bias of bins {figure['debiased']:.3f}."
    )
    return draw("reliability", "Reliability", caption, plot)


def risk_against_coverage(
    scores: Floats, labels: NDArray[np.bool_], points: Mapping[str, tuple[float, float]]
) -> Figure:
    """Error of the most confident samples; `points` are (coverage, error of the answers) of policies by name."""
    confidence = np.maximum(scores, 1.0 - scores)
    wrong = ((scores >= 0.5) != labels).astype(np.float64)
    curve = risk_coverage(confidence, wrong)

    def plot(axes: Axes) -> None:
        axes.plot(
            curve.coverage, curve.risk, color=PALETTE["accent"], drawstyle="steps-post", label="by P(positive) at 0.5"
        )
        markers = ("o", "s", "D", "^", "v", "P")
        for index, (name, (coverage, risk)) in enumerate(points.items()):
            axes.plot(
                [coverage],
                [risk],
                markers[index % len(markers)],
                color=PALETTE["warm"],
                markersize=6,
                label=name,
                zorder=3,
                clip_on=False,
            )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, None)
        axes.set_xlabel("coverage (share of samples answered)")
        axes.set_ylabel("error of the answers")
        axes.figure.legend(loc="outside lower center", ncols=2)

    return draw("risk_coverage", "Risk and coverage", "What abstaining buys: fewer answers, fewer of them wrong.", plot)


def threshold_curve(
    columns: Mapping[str, Floats], cut: float, metric: str, interval: tuple[float, float] | None, policy: str
) -> Figure:
    """The metric along the cuts on val_calib: `columns` of the sweep, `cut` as P(positive), `interval` of the cut."""
    order = np.argsort(columns["probability"])
    probability, value = columns["probability"][order], columns["value"][order]
    low, high = plateau(probability, value)

    def plot(axes: Axes) -> None:
        axes.axvspan(low, high, color=PALETTE["wash"], linewidth=0, label="best in the sample")
        axes.plot(probability, value, color=PALETTE["accent"], linewidth=1.5)
        if interval is not None:
            bottom = axes.get_ylim()[0]
            axes.plot(
                interval, [bottom, bottom], color=PALETTE["warm"], linewidth=4, solid_capstyle="butt", clip_on=False
            )
        axes.axvline(cut, color=PALETTE["warm"], linewidth=1.4, label=f"cut {cut:.3f}")
        axes.set_xlim(0, 1)
        axes.set_xlabel("cut on P(positive)")
        axes.set_ylabel(metric.replace("_", " "))
        axes.legend(loc="best")

    bar = " The bar at the foot is the 95 % interval of the cut." if interval is not None else ""
    caption = f"On val_calib, where the cut is chosen: optimistic, not a result.{bar}"
    return draw(f"threshold_{policy}", f"Threshold curve of {policy}", caption, plot)


def plateau(probability: Floats, value: Floats) -> tuple[float, float]:
    """The widest range of neighbouring cuts at which the value is largest; both (n,), probabilities ascending."""
    best = np.flatnonzero(value >= np.nanmax(value) - 1e-12)
    runs = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)

    def edges(run: NDArray[np.int64]) -> tuple[float, float]:
        before, after = max(int(run[0]) - 1, 0), min(int(run[-1]) + 1, len(probability) - 1)
        return (
            float(probability[before] + probability[run[0]]) / 2,
            float(probability[after] + probability[run[-1]]) / 2,
        )

    return max((edges(run) for run in runs), key=lambda edge: edge[1] - edge[0])


def training(history: Sequence[Mapping[str, Any]], select_by: str, chosen: int | None) -> Figure:
    """Loss and the metric that chooses the epoch, by epoch; `chosen` is the epoch that was kept."""
    from matplotlib.ticker import MaxNLocator

    epochs = [line["epoch"] for line in history]

    def plot(axes: Axes) -> None:
        marker = "o" if len(epochs) < 15 else ""
        axes.plot(
            epochs, [line["train_loss"] for line in history], marker=marker, markersize=4, color=PALETTE["accent"]
        )
        axes.set_xlabel("epoch")
        axes.set_ylabel("training loss", color=PALETTE["accent"])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        other = axes.twinx()
        other.spines["right"].set_visible(True)
        other.grid(visible=False)
        values = [float("nan") if line.get(select_by) is None else line[select_by] for line in history]
        other.plot(epochs, values, marker=marker, markersize=4, color=PALETTE["warm"])
        other.set_ylabel(f"{select_by.replace('_', ' ')} on val_select", color=PALETTE["warm"])
        if chosen is not None:
            axes.axvline(chosen, color=PALETTE["ink"], linewidth=1, linestyle=(0, (2, 3)))

    kept = f" Epoch {chosen} was kept (dotted)." if chosen is not None else ""
    return draw("training", "Training", f"Loss on train, {select_by} on val_select.{kept}", plot)


def confusion(figure: Mapping[str, Any], of: str = "test") -> Figure:
    """The confusion matrix of the set `of`: rows true, columns decided, last the abstentions where there are any."""
    names = list(figure["classes"])
    matrix = np.array(figure["matrix"], dtype=np.float64)
    columns = list(names)
    if any(figure["abstained"]):
        matrix = np.column_stack([matrix, figure["abstained"]])
        columns.append("abstained")
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)

    def plot(axes: Axes) -> None:
        axes.grid(visible=False)
        for row in range(matrix.shape[0]):
            for column in range(matrix.shape[1]):
                right = row == column
                colour = PALETTE["accent"] if right else PALETTE["warm"] if column < len(names) else PALETTE["muted"]
                box = (column, row), 1, 1
                axes.add_patch(_rectangle(*box, colour, 0.08 + 0.5 * float(shares[row, column])))
                share = f"{matrix[row, column]:.0f}\n{shares[row, column]:.1%}"
                axes.text(column + 0.5, row + 0.5, share, ha="center", va="center")
        axes.set_xlim(0, matrix.shape[1])
        axes.set_ylim(matrix.shape[0], 0)
        axes.set_xticks([index + 0.5 for index in range(len(columns))], columns)
        axes.set_yticks([index + 0.5 for index in range(len(names))], names, rotation=90, va="center")
        axes.tick_params(length=0)
        axes.set_xlabel("decided")
        axes.set_ylabel("true")
        for spine in axes.spines.values():
            spine.set_visible(False)

    caption = f"Counts on {of}, and their share of the true class."
    return draw("confusion", "Confusion", caption, plot)


def _rectangle(corner: tuple[float, float], width: float, height: float, colour: str, alpha: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, facecolor=colour, alpha=alpha, edgecolor="none")


def _dot(axes: Axes, x: float, y: float, label: str) -> None:
    axes.plot([x], [y], "o", color=PALETTE["warm"], markersize=7, label=label, zorder=3, clip_on=False)


def _unit(axes: Axes, x: str, y: str) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
