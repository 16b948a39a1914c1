"""`roadwork data preview` on the command line: the sheet it writes, and the mistakes it names before it works."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from roadwork_core.cli import main

SPEC = """\
spec_version = 1
name = "small"
seed = 5

[data]
use = "image_folder"
root = "${spec_dir}/images"
near_duplicates = "ignore"

[[augment]]
use = "random_resized_crop"
[[augment]]
use = "mixup"
on = "batch"

[backbone]
use = "small_cnn"
image_size = 32
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(40):
        folder = Path("images") / ("roadwork" if number % 4 else "no_roadwork")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    Path("spec.toml").write_text(SPEC)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["data", "preview", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_it_writes_a_sheet_and_says_where(run: Run) -> None:
    code, out, _ = run("spec.toml", "--samples", "3", "--views", "2")
    assert (code, out) == (0, "small-preview.png\n")
    with Image.open("small-preview.png") as sheet:
        sheet.load()
        assert sheet.format == "PNG"
        assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 1000


def test_json_says_what_is_on_it_and_the_classes_take_turns(run: Run) -> None:
    code, out, _ = run("spec.toml", "--samples", "4", "--views", "2", "--out", "a.png", "--json")
    said = json.loads(out)
    assert code == 0
    assert (said["schema"], said["split"], said["size"]) == ("roadwork.preview/1", "train", [32, 32])
    assert said["augmentations"] == ["random_resized_crop", "mixup"]
    assert [sample["label"] for sample in said["samples"]] == ["no_roadwork", "roadwork"] * 2
    assert [view["epoch"] for view in said["samples"][0]["views"]] == [1, 2]
    for sample in said["samples"]:
        for view in sample["views"]:
            assert sum(view["target"].values()) == pytest.approx(1, abs=1e-5)


def test_the_same_spec_gives_the_same_bytes_and_another_seed_others(run: Run) -> None:
    files = []
    for name, seed in (("a.png", 5), ("b.png", 5), ("c.png", 6)):
        assert run("spec.toml", "--samples", "2", "--views", "2", "--out", name, "--set", f"seed={seed}")[0] == 0
        files.append(Path(name).read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_its_pictures_are_those_that_training_sees(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compared with the loader of training itself, picture by picture."""
    from roadwork_core.data import preview
    from roadwork_core.data.loading import BatchSchedule, ImageDataset, make_loader
    from roadwork_core.data.preprocessing import Preprocessing

    kept = []
    drawn = preview.contact_sheet

    def keep(strips: list[preview.Strip], **rest: object) -> Image.Image:
        kept.extend(strips)
        return drawn(strips, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(preview, "contact_sheet", keep)
    without_mixup = ["--set", 'augment=[{use="random_resized_crop"},{use="horizontal_flip"}]']
    assert run("spec.toml", "--samples", "3", "--views", "2", *without_mixup)[0] == 0
    from roadwork_augmentations import HorizontalFlip, RandomResizedCrop

    from roadwork_core.kinds import AugmentationContext

    context = AugmentationContext(image_size=(32, 32), num_classes=2)
    dataset = ImageDataset(
        [strip.row for strip in kept],
        Preprocessing(size=(32, 32), mean=(0.0,) * 3, std=(1.0,) * 3),
        [RandomResizedCrop().build(context), HorizontalFlip().build(context)],
        seed=5,
    )
    schedule = BatchSchedule()
    loader = make_loader(dataset, schedule, workers=0)
    for epoch in range(2):
        schedule.set(epoch, [[0, 1, 2]])
        images, _ = next(iter(loader))
        assert torch.equal(images, torch.stack([strip.views[epoch].image for strip in kept]))


def test_other_splits_are_shown_as_they_are_scored(run: Run) -> None:
    code, out, _ = run("spec.toml", "--split", "val_select", "--samples", "2", "--json")
    said = json.loads(out)
    assert (code, said["split"], said["augmentations"]) == (0, "val_select", [])
    assert [len(sample["views"]) for sample in said["samples"]] == [1, 1]


def test_a_size_spares_the_backbone(run: Run) -> None:
    code, out, _ = run(
        "spec.toml",
        "--samples",
        "2",
        "--size",
        "48",
        "--json",
        "--set",
        'backbone.use="transformers"',
        "--set",
        'backbone.model="no/such"',
        "--unset",
        "backbone.image_size",
    )
    assert (code, json.loads(out)["size"]) == (0, [48, 48])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "there.png"], "there.png: is there already (--force overwrites it, or give another --out)"),
        (["--out", "images"], "images: is a folder, not a file to write (--out images/preview.png)"),
        (["--out", "sheet.jpg"], "sheet.jpg: a contact sheet is a PNG (--out sheet.png)"),
        (["--out", "no/sheet.png"], "no: the folder to write into does not exist (make it, or change --out)"),
        (["--samples", "0"], "--samples must be from 1 to 64, got 0"),
        (["--views", "17"], "--views must be from 1 to 16, got 17"),
        (["--size", "0"], "--size must be from 1 to 8192, got 0"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(run: Run, arguments: list[str], message: str) -> None:
    Path("there.png").write_bytes(b"mine")
    before = sorted(Path().iterdir())
    code, out, err = run("spec.toml", *arguments)
    assert (code, out, err) == (2, "", f"error: {message}\n")
    assert sorted(Path().iterdir()) == before
    assert Path("there.png").read_bytes() == b"mine"


def test_force_overwrites(run: Run) -> None:
    Path("there.png").write_bytes(b"mine")
    assert run("spec.toml", "--samples", "1", "--views", "1", "--out", "there.png", "--force")[0] == 0
    with Image.open("there.png") as sheet:
        sheet.verify()


def test_a_wrong_spec_and_an_unreadable_picture_are_named(run: Run) -> None:
    code, _, err = run("spec.toml", "--set", "data.nothing=1")
    assert code == 2
    assert "data.nothing" in err
    Path("images/roadwork/1.png").write_bytes(b"no picture")
    code, _, err = run("spec.toml", "--set", 'data.on_bad_image="error"')
    assert code == 1
    assert "1.png" in err
    assert "Traceback" not in err
