"""The stage adapt: it sees only pictures of train, does not collapse unnoticed, and resumes to the same bytes."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from roadwork_core import component
from roadwork_core.data.loading import ImageDataset
from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.data.table import read_rows, write_rows
from roadwork_core.errors import ExitCode, NumericalError, RoadworkError, UsageError
from roadwork_core.files import sha256_file
from roadwork_core.kinds import BackboneContext, ObjectiveContext
from roadwork_core.model import load_weights
from roadwork_core.plugins import Plugins
from roadwork_core.runs import StageContext
from roadwork_core.runs.context import LeakageError
from roadwork_core.spec import load_spec
from roadwork_core.stages import adapt, train
from roadwork_core.training.adaptation import Adaptation
from roadwork_core.training.collapse import effective_rank, feature_std, knn_balanced_accuracy
from roadwork_core.training.views import ViewDataset
from tests.prepared_run import Labelled, stage_context, write_prepared

SPEC = """
spec_version = 1
name = "toy"
seed = 5
[data]
use = "image_folder"
root = "."
workers = 0
[backbone]
use = "small_cnn"
width = 8
stages = 2
image_size = 16
[adapt]
objective = { use = "vicreg", width = 64, layers = 2 }
adapter = { use = "full" }
optimizer = { use = "adamw", lr = 1e-3 }
epochs = 2
batch_size = 16
[train]
epochs = 1
precision = "fp32"
"""
SAMPLES = 36
Adapted = tuple[Path, Mapping[str, Any]]


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins.load()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished stage prepare: smooth noise of two classes."""
    rng = np.random.default_rng(0)

    def pictures(size: int) -> Iterator[Labelled]:
        for number in range(size):
            coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
            yield coarse.resize((48, 40), Image.Resampling.BICUBIC), number % 2

    return write_prepared(tmp_path_factory.mktemp("run"), {"train": pictures(SAMPLES), "val_select": pictures(8)})


def context(
    prepared: Path, plugins: Plugins, folder: Path, spec: str = SPEC, *, stage: str = "adapt", console: Any = None
) -> StageContext:
    return stage_context(stage, prepared, plugins, folder, spec, console=console)


@pytest.fixture(scope="module")
def adapted(
    prepared: Path, plugins: Plugins, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Mapping[str, Any]]:
    folder = tmp_path_factory.mktemp("adapted")
    return folder, adapt.run(context(prepared, plugins, folder))


def digest(folder: Path) -> str:
    return sha256_file(folder / "adapt" / "weights.safetensors")


def test_it_writes_a_backbone_that_is_not_the_one_it_began_with(
    adapted: Adapted, prepared: Path, plugins: Plugins
) -> None:
    folder, metrics = adapted
    spec = load_spec(SPEC, plugins).spec
    torch.manual_seed(spec.seed)
    backbone = spec.backbone.build(BackboneContext())
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    load_weights(backbone, folder / "adapt" / "weights.safetensors")
    changed = [name for name, tensor in backbone.state_dict().items() if not torch.equal(tensor, before[name])]
    assert len(changed) == len(before)
    assert metrics["epochs"] == 2
    assert metrics["steps"] == 2 * (SAMPLES // 16)


def test_the_stage_train_begins_with_it(adapted: Adapted, prepared: Path, plugins: Plugins, tmp_path: Path) -> None:
    (tmp_path / "adapt").mkdir()
    weights = (adapted[0] / "adapt" / "weights.safetensors").read_bytes()
    (tmp_path / "adapt" / "weights.safetensors").write_bytes(weights)
    frozen = SPEC.replace("[train]", '[adapter]\nuse = "frozen"\n[train]')
    train.run(context(prepared, plugins, tmp_path, frozen, stage="train"))
    from safetensors.torch import load

    trained = load((tmp_path / "train" / "weights.safetensors").read_bytes())
    assert all(torch.equal(trained[f"backbone.{name}"], tensor) for name, tensor in load(weights).items())


def test_the_history_has_a_line_an_epoch_and_one_from_before(adapted: Adapted) -> None:
    lines = [json.loads(line) for line in (adapted[0] / "adapt" / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert lines[0]["loss"] is None
    assert all(math.isfinite(line["loss"]) and line["effective_rank"] > 1 for line in lines[1:])
    assert lines[-1]["effective_rank"] == adapted[1]["effective_rank"]
    for key in ("feature_std", "knn_balanced_accuracy"):
        assert all(0 < line[key] < 1 for line in lines)
        assert lines[-1][key] == adapted[1][key]


def test_the_same_seed_gives_the_same_bytes_and_workers_do_not_matter(
    adapted: Adapted, prepared: Path, plugins: Plugins, tmp_path: Path
) -> None:
    adapt.run(context(prepared, plugins, tmp_path / "two", SPEC.replace("workers = 0", "workers = 2")))
    assert digest(tmp_path / "two") == digest(adapted[0])
    adapt.run(context(prepared, plugins, tmp_path / "other", SPEC.replace("seed = 5", "seed = 6")))
    assert digest(tmp_path / "other") != digest(adapted[0])


@pytest.mark.parametrize(
    ("objective", "adapter", "stop_after"),
    [
        ('{ use = "vicreg", width = 64, layers = 2 }', '{ use = "full" }', 2),
        ('{ use = "dino", prototypes = 32, hidden = 16, bottleneck = 8 }', '{ use = "last_blocks" }', 3),
    ],
)
def test_an_interrupted_stage_ends_with_the_same_bytes(
    prepared: Path,
    plugins: Plugins,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    objective: str,
    adapter: str,
    stop_after: int,
) -> None:
    lines = SPEC.replace('{ use = "vicreg", width = 64, layers = 2 }', objective)
    spec = lines.replace('{ use = "full" }', adapter)
    normalise = Preprocessing.normalise

    def noisy(self: Preprocessing, images: Tensor) -> Tensor:
        return normalise(self, images) + 0.1 * torch.randn(images.shape)

    # What is random in a step (dropout, say) must not depend on the steps that this process has taken.
    monkeypatch.setattr(Preprocessing, "normalise", noisy)
    adapt.run(context(prepared, plugins, tmp_path / "whole", spec))

    step = Adaptation._step

    def stopping(self: Any, views: Tensor) -> None:
        step(self, views)
        if self.position.step == stop_after:
            self._stop.received = 2

    with monkeypatch.context() as patch:
        patch.setattr(Adaptation, "_step", stopping)
        with pytest.raises(KeyboardInterrupt, match="the same command goes on from here"):
            adapt.run(context(prepared, plugins, tmp_path / "stopped", spec))
    done: list[int] = []

    def counting(self: Any, views: Tensor) -> None:
        done.append(self.position.step)
        step(self, views)

    monkeypatch.setattr(Adaptation, "_step", counting)
    adapt.run(context(prepared, plugins, tmp_path / "stopped", spec))
    assert done[0] == stop_after
    assert digest(tmp_path / "stopped") == digest(tmp_path / "whole")


def test_a_collapse_stops_the_stage_and_says_so(
    prepared: Path, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Adaptation._step

    def collapsing(self: Any, views: Tensor) -> None:
        step(self, views)
        with torch.no_grad():
            for parameter in self.adapted.module.blocks()[-1].parameters():
                parameter.fill_(0.1 if parameter.ndim == 1 else 0.0)

    monkeypatch.setattr(Adaptation, "_step", collapsing)
    with pytest.raises(RoadworkError, match="the features collapsed in epoch 1") as raised:
        adapt.run(context(prepared, plugins, tmp_path))
    assert raised.value.exit_code is ExitCode.FAILED
    assert "vicreg" in str(raised.value)
    assert not (tmp_path / "adapt" / "weights.safetensors").exists()


def test_generated_factors_and_masked_patches_go_on_from_a_checkpoint(
    prepared: Path, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight that two layers share is one weight in the checkpoint, in the optimizer and when merged."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=4,
    )
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "vit")
    lines = SPEC.replace('{ use = "vicreg", width = 64, layers = 2 }', '{ use = "mae", width = 16, head_width = 8 }')
    lines = lines.replace('use = "small_cnn"\nwidth = 8\nstages = 2', f'use = "transformers"\nmodel = "{tmp_path}/vit"')
    spec = lines.replace('{ use = "full" }', '{ use = "doran", rank = 2, unfreeze_blocks = 1 }')
    spec += "[optimizer.lr_scale]\nlayer_decay = 0.7\n"
    metrics = adapt.run(context(prepared, plugins, tmp_path / "whole", spec))
    assert [name.rpartition(".")[2] for name in metrics["adapted"]] == ["q_proj", "k_proj", "v_proj", "o_proj", "1"]
    assert math.isfinite(metrics["loss"])

    step = Adaptation._step

    def stopping(self: Any, views: Tensor) -> None:
        step(self, views)
        if self.position.step == 3:
            self._stop.received = 2

    with monkeypatch.context() as patch:
        patch.setattr(Adaptation, "_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            adapt.run(context(prepared, plugins, tmp_path / "stopped", spec))
    adapt.run(context(prepared, plugins, tmp_path / "stopped", spec))
    assert digest(tmp_path / "stopped") == digest(tmp_path / "whole")


def test_a_checkpoint_of_a_masked_autoencoder_is_adapted_by_its_own_loss_and_then_classifies(
    prepared: Path, plugins: Plugins, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    decoder = {f"decoder_{name}": value for name, value in small.items()}
    config = transformers.ViTMAEConfig(**small, **decoder, image_size=16, patch_size=4)
    transformers.ViTMAEForPreTraining(config).save_pretrained(tmp_path / "mae")
    lines = SPEC.replace('{ use = "vicreg", width = 64, layers = 2 }', '{ use = "mae", width = 16, head_width = 8 }')
    spec = lines.replace('use = "small_cnn"\nwidth = 8\nstages = 2', f'use = "transformers"\nmodel = "{tmp_path}/mae"')
    metrics = adapt.run(context(prepared, plugins, tmp_path / "run", spec))
    assert math.isfinite(metrics["loss"])
    trained = train.run(context(prepared, plugins, tmp_path / "run", spec, stage="train"))
    assert trained["steps"] == 2


@component("objective", "draws_together")
class DrawsTogether:
    """Draws every feature of every picture to one number."""

    def build(self, ctx: ObjectiveContext) -> Any:
        class Objective(torch.nn.Module):
            views = 1

            def forward(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
                features = ctx.backbone(views[0])
                return 100 * (features - 1.0).square().mean(), features.detach().float()

            def after_step(self, step: int) -> None:
                """Nothing moves between the steps."""

        return Objective()


def test_an_objective_that_collapses_is_stopped_on_its_way(prepared: Path, plugins: Plugins, tmp_path: Path) -> None:
    """Features that contract keep their rank: the deviation shows it."""
    more = plugins.extended({"toy": SimpleNamespace(roadwork_components=lambda: [DrawsTogether])})
    spec = SPEC.replace('{ use = "vicreg", width = 64, layers = 2 }', '{ use = "draws_together" }')
    spec = spec.replace("lr = 1e-3", "lr = 2e-2").replace("epochs = 2\n", "epochs = 12\nmin_std_ratio = 0.6\n")
    with pytest.raises(RoadworkError, match="their standard deviation fell") as raised:
        adapt.run(context(prepared, more, tmp_path, spec))
    [epoch] = re.findall(r"collapsed in epoch (\d+)", str(raised.value))
    assert 1 < int(epoch) < 12
    assert not (tmp_path / "adapt" / "weights.safetensors").exists()
    # Unwatched, the same run goes on, and its rank would not have told.
    blind = spec.replace("epochs = 12", f"epochs = {epoch}").replace("min_std_ratio = 0.6", "min_std_ratio = 0.0")
    metrics = adapt.run(context(prepared, more, tmp_path / "blind", blind))
    assert metrics["epochs"] == int(epoch)
    assert metrics["effective_rank"] > metrics["effective_rank_at_start"]


@pytest.mark.parametrize(("key", "name"), [("effective_rank", "effective rank"), ("feature_std", "standard deviation")])
def test_a_fall_of_either_measure_is_a_collapse(
    prepared: Path, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, name: str
) -> None:
    look = Adaptation._look

    def looking(self: Any) -> Any:
        seen = look(self)
        return {**seen, key: float(seen[key] or 0.0) * (0.005 if self.position.step > 3 else 1.0)}

    monkeypatch.setattr(Adaptation, "_look", looking)
    with pytest.raises(RoadworkError, match=f"collapsed in epoch 2 of the stage adapt: their {name} fell"):
        adapt.run(context(prepared, plugins, tmp_path))
    limit = "min_rank_ratio" if key == "effective_rank" else "min_std_ratio"
    adapt.run(
        context(prepared, plugins, tmp_path / "let", SPEC.replace("epochs = 2\n", f"epochs = 2\n{limit} = 0.001\n"))
    )


def test_a_loss_that_is_not_finite_names_the_step(prepared: Path, plugins: Plugins, tmp_path: Path) -> None:
    spec = SPEC.replace("lr = 1e-3", "lr = 1e30")
    with pytest.raises(NumericalError, match=r"optimizer step [12]"):
        adapt.run(context(prepared, plugins, tmp_path, spec))


def test_an_adapter_that_leaves_nothing_to_train_is_refused(prepared: Path, plugins: Plugins, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing of the backbone to train"):
        adapt.run(
            context(
                prepared, plugins, tmp_path, SPEC.replace('adapter = { use = "full" }', 'adapter = { use = "frozen" }')
            )
        )


@pytest.mark.parametrize("with_train", [True, False])
def test_pictures_without_labels_are_adapted_to_and_only_those_of_train_are_watched(
    prepared: Path, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_train: bool
) -> None:
    shutil.copytree(prepared, tmp_path / "more")
    rows = read_rows(prepared / "prepare" / "samples" / "val_select.jsonl")  # any pictures will do here
    unlabelled = [attrs.evolve(row, index=100 + place, target=-1) for place, row in enumerate(rows * 3)]
    write_rows(tmp_path / "more" / "prepare" / "samples" / "unlabelled.jsonl", unlabelled)
    seen: dict[type, set[str]] = {ViewDataset: set(), ImageDataset: set()}
    for dataset in (ViewDataset, ImageDataset):
        get = dataset.__getitem__

        def noting(self: Any, key: Any, get: Any = get, dataset: type = dataset) -> Any:
            seen[dataset].add(self.rows[key[1]].path)
            return get(self, key)

        monkeypatch.setattr(dataset, "__getitem__", noting)
    lines = f'data = {{ use = "unlabelled_folder", root = "x" }}\nwith_train = {str(with_train).lower()}\nepochs = 2\n'
    spec = SPEC.replace("epochs = 2\n", lines)
    metrics = adapt.run(context(tmp_path / "more", plugins, tmp_path / "run", spec))
    train = {row.path for row in read_rows(prepared / "prepare" / "samples" / "train.jsonl")}
    wanted = {row.path for row in unlabelled} | (train if with_train else set())
    assert metrics["samples"] == 24 + (SAMPLES if with_train else 0)
    assert metrics["steps"] == 2 * (metrics["samples"] // 16)
    assert seen[ViewDataset] <= wanted
    assert seen[ViewDataset] & {row.path for row in unlabelled}
    assert seen[ImageDataset] == train


def test_it_may_not_see_another_split(prepared: Path, plugins: Plugins, tmp_path: Path) -> None:
    ctx = context(prepared, plugins, tmp_path)
    for split in ("val_select", "val_calib", "test"):
        with pytest.raises(LeakageError):
            ctx.input("prepare", f"samples/{split}.jsonl")


def test_views_differ_and_follow_from_seed_epoch_and_sample(prepared: Path) -> None:
    rows = read_rows(prepared / "prepare" / "samples" / "train.jsonl")
    preprocessing = Preprocessing(size=(16, 16), mean=(0, 0, 0), std=(1, 1, 1))

    def views(position: int, *, epoch: int = 0, seed: int = 1, order: Callable[[Any], Any] = list) -> Tensor:
        data = ViewDataset(order(rows), preprocessing, views=2, seed=seed, max_pixels=10**8)
        torch.manual_seed(position * 17 + 3)  # other states of the global generator must not matter
        return data[(epoch, position)][0]

    assert views(4).shape == (2, 3, 16, 16)
    assert views(4).dtype is torch.uint8
    assert not torch.equal(*views(4))
    assert not torch.equal(views(4), views(4, epoch=1))
    assert not torch.equal(views(4), views(4, seed=2))
    assert torch.equal(views(4), views(len(rows) - 5, order=lambda found: list(reversed(found))))
    seen = {tuple(view.flatten().tolist()) for position in range(6) for view in views(position)}
    assert len(seen) == 12


def test_no_label_leaves_the_views(prepared: Path) -> None:
    rows = read_rows(prepared / "prepare" / "samples" / "train.jsonl")
    preprocessing = Preprocessing(size=(16, 16), mean=(0, 0, 0), std=(1, 1, 1))
    data = ViewDataset(rows, preprocessing, views=2, seed=0, max_pixels=10**8)
    assert {data[position][1] for position in range(4)} == {0}
    assert {row.target for row in rows[:4]} == {0, 1}


def test_effective_rank_of_known_spectra() -> None:
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.normal(size=(200, 6)) - rng.normal(size=(200, 6)).mean(axis=0))[0]
    left = np.linalg.qr(left - left.mean(axis=0))[0]
    right = np.linalg.qr(rng.normal(size=(10, 6)))[0]
    for spectrum in ([1.0] * 6, [5.0, 1.0, 1.0, 0.5, 0.1, 0.01], [1.0, 0, 0, 0, 0, 0]):
        shares = np.array(spectrum) / sum(spectrum)
        entropy = -sum(share * math.log(share) for share in shares if share > 0)
        features = left @ np.diag(spectrum) @ right.T + 3.0  # a shift is no spread
        assert effective_rank(torch.from_numpy(features)) == pytest.approx(math.exp(entropy), rel=1e-6)
    assert effective_rank(torch.full((20, 4), 7.3)) == 0.0


def test_feature_std_of_even_and_of_collapsed_features() -> None:
    rng = np.random.default_rng(0)
    even = torch.from_numpy(rng.normal(size=(20_000, 64)))
    assert feature_std(even) == pytest.approx(1 / math.sqrt(64), rel=0.01)
    assert feature_std(torch.ones(50, 64)) == pytest.approx(0.0, abs=1e-7)


def test_the_neighbour_probe_is_scikit_learns_leave_one_out() -> None:
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import LeaveOneOut, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3 + 4
    features = rng.normal(size=(60, 5)) + labels[:, None] * np.array([0.2, 0, 0.3, 0, 0])
    # One, three: no ties among three classes with three votes that scikit-learn breaks otherwise.
    for neighbours in (1, 5):
        model = KNeighborsClassifier(neighbours, metric="cosine")
        guesses = cross_val_predict(model, features, labels, cv=LeaveOneOut())
        found = knn_balanced_accuracy(torch.from_numpy(features), torch.from_numpy(labels), neighbours)
        assert found == pytest.approx(balanced_accuracy_score(labels, guesses), abs=0.1 if neighbours > 1 else 1e-12)


def test_the_neighbour_probe_needs_two_classes_and_weighs_them_alike() -> None:
    features = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    assert knn_balanced_accuracy(features, torch.zeros(30, dtype=torch.int64)) is None
    assert knn_balanced_accuracy(features, torch.arange(30) // 29) is None
    labels = (torch.arange(30) < 3).long()
    assert knn_balanced_accuracy(features, labels, 29) == 0.5
    apart = torch.eye(2)[labels] + 0.01 * features[:, :2]
    assert knn_balanced_accuracy(apart, labels, 2) == 1.0
