"""Three ways to train one model on the same pictures: ours, a bare PyTorch loop, and the transformers Trainer."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from attrs import define, frozen
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from roadwork_core.console import Console
from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.data.sample import Row
from roadwork_core.model import Classifier
from roadwork_core.training.feed import PictureFeed
from roadwork_core.training.loop import Loop
from roadwork_core.training.precision import make_accelerator
from roadwork_core.training.progress import Progress
from roadwork_core.training.recipe import Feed, Recipe
from roadwork_core.training.snapshot import Snapshot

WORKERS = 2
LR = 1e-3
Tick = Callable[[], None]


@frozen(kw_only=True)
class Work:
    """What each contender trains, for one epoch. `rows` are JPEG files, or None for `pictures` in memory."""

    make_model: Callable[[], Classifier]
    preprocessing: Preprocessing
    batch_size: int
    size: int
    pictures: Tensor | None = None
    rows: Sequence[Row] | None = None

    @property
    def steps(self) -> int:
        return math.ceil(self.size / self.batch_size)


def optimizer_and_scheduler(model: nn.Module, steps: int, tick: Tick) -> tuple[Any, Any]:
    """The same for all; `tick` is called after each optimizer step."""
    optimizer = torch.optim.AdamW(model.parameters(), LR, fused=True)
    optimizer.register_step_post_hook(lambda *_: tick())
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)


@define
class MemoryFeed:
    """Pictures in memory, for when the network is what takes the time."""

    pictures: Tensor
    size: int

    def order(self, epoch: int) -> Sequence[int]:
        return range(self.size)

    def training(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches:
            yield self.pictures[: len(batch)], torch.arange(len(batch)) % 2

    def validation(self, rank: int, world: int) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.pictures[:2], torch.arange(2)


def ours(work: Work, tick: Tick) -> None:
    model = work.make_model()
    optimizer, scheduler = optimizer_and_scheduler(model, work.steps, tick)
    accelerator, _ = make_accelerator("fp32")
    feed: Feed
    if work.rows is None:
        assert work.pictures is not None
        feed = MemoryFeed(work.pictures, work.size)
    else:
        feed = PictureFeed(
            work.rows,
            work.rows[:2],
            work.preprocessing,
            (),
            seed=0,
            batch_size=work.batch_size,
            workers=WORKERS,
            max_pixels=10**8,
            pin_memory=False,
        )
    console = Console(stderr=io.StringIO())
    with tempfile.TemporaryDirectory() as folder:
        Loop(
            recipe=Recipe(
                epochs=1,
                batch_size=work.batch_size,
                accumulate=1,
                clip_norm=None,
                select_by="nll",
                patience=None,
                seed=0,
                num_classes=2,
                positive=1,
            ),
            feed=feed,
            preprocessing=work.preprocessing,
            accelerator=accelerator,
            snapshot=Snapshot(
                model=model, optimizer=optimizer, scheduler=scheduler, ema=None, scaler=None, folder=Path(folder)
            ),
            forward=model,
            set_training_mode=model.train,
            loss=nn.functional.cross_entropy,
            progress=lambda done: Progress(console, epochs=1, steps=work.steps, done=done),
            on_epoch=lambda line: None,
        ).run()


class V1Pictures(Dataset[tuple[Tensor, int]]):
    """The usual way: PIL, torchvision's v1 transforms, a normalised float tensor per picture."""

    def __init__(self, work: Work) -> None:
        from torchvision import transforms

        assert work.rows is not None
        self.rows = work.rows
        height, width = work.preprocessing.size
        self.transform = transforms.Compose(
            [
                transforms.Resize(min(height, width)),
                transforms.CenterCrop((height, width)),
                transforms.ToTensor(),
                transforms.Normalize(work.preprocessing.mean, work.preprocessing.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        with Image.open(self.rows[index].path) as image:
            return self.transform(image.convert("RGB")), self.rows[index].target


def bare(work: Work, tick: Tick) -> None:
    model = work.make_model().train()
    optimizer, scheduler = optimizer_and_scheduler(model, work.steps, tick)
    batches: Any
    if work.rows is None:
        assert work.pictures is not None
        batches = MemoryFeed(work.pictures, work.size).training(0, _batches(work))
    else:
        batches = DataLoader(V1Pictures(work), work.batch_size, num_workers=WORKERS)
    for images, targets in batches:
        inputs = images if work.rows is not None else work.preprocessing.normalise(images)
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)


def _batches(work: Work) -> list[range]:
    return [range(start, min(start + work.batch_size, work.size)) for start in range(0, work.size, work.batch_size)]


class ForTrainer(nn.Module):
    """The same classifier with the arguments and the answer that the Trainer expects."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.classifier = work.make_model()
        self.preprocessing = work.preprocessing if work.rows is None else None

    def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        inputs = self.preprocessing.normalise(pixel_values) if self.preprocessing else pixel_values
        logits = self.classifier(inputs)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class ForTrainerPictures(Dataset[dict[str, Any]]):
    """Memory, or JPEG files through the image processor, picture by picture as in the library's examples."""

    def __init__(self, work: Work) -> None:
        self.work = work
        if work.rows is not None:
            from transformers import ViTImageProcessor

            height, width = work.preprocessing.size
            self.processor = ViTImageProcessor(
                size={"height": height, "width": width},
                image_mean=list(work.preprocessing.mean),
                image_std=list(work.preprocessing.std),
            )

    def __len__(self) -> int:
        return self.work.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.work.rows is None:
            assert self.work.pictures is not None
            return {"pixel_values": self.work.pictures[index % self.work.batch_size], "labels": index % 2}
        from PIL import Image

        row = self.work.rows[index]
        with Image.open(row.path) as image:
            values = self.processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
        return {"pixel_values": values, "labels": row.target}


def trainer(work: Work, tick: Tick) -> None:
    from transformers import Trainer, TrainingArguments

    model = ForTrainer(work)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=work.batch_size,
            dataloader_num_workers=0 if work.rows is None else WORKERS,
            max_grad_norm=0.0,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        Trainer(
            model=model,
            args=arguments,
            train_dataset=ForTrainerPictures(work),
            optimizers=optimizer_and_scheduler(model, work.steps, tick),
        ).train()


CONTENDERS: dict[str, Callable[[Work, Tick], None]] = {"ours": ours, "bare loop": bare, "Trainer": trainer}
