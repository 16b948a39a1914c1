"""A loaded bundle answers for paths, bytes, pictures and arrays, from many threads, and never silently."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from roadwork_core.bundle import Predictor, Source, find_images, load
from roadwork_core.data.decode import BadImageError
from roadwork_core.errors import UsageError, VerificationError
from roadwork_core.inference import Scorer

from . import toy


@pytest.fixture(scope="module")
def predictor(pristine: Path) -> Predictor:
    return load(pristine, plugins=toy.plugins(), device="cpu")


def save(path: Path, margin: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(toy.picture(margin)).save(path)
    return path


def test_a_path_bytes_a_picture_and_an_array_are_the_same_picture(predictor: Predictor, tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", 4.0)
    pixels = toy.picture(4.0)
    kinds = [path, str(path), path.read_bytes(), Image.fromarray(pixels), pixels]
    predictions = predictor.predict(kinds)
    assert len({(p.label, p.score, p.reason) for p in predictions}) == 1
    assert [p.path for p in predictions] == [str(path), str(path), None, None, None]


def test_the_json_of_a_prediction(predictor: Predictor) -> None:
    sure, unsure = (prediction.to_json() for prediction in predictor.predict([toy.picture(5.0), toy.picture(0.3)]))
    assert list(sure) == ["path", "label", "abstain", "score", "set", "policy", "reason"]
    assert (sure["label"], sure["abstain"], sure["set"], sure["policy"]) == ("roadwork", False, ["roadwork"], "careful")
    assert 0.99 < sure["score"] < 1.0
    assert (unsure["label"], unsure["abstain"], unsure["set"]) == (None, True, ["no_roadwork", "roadwork"])
    json.dumps([sure, unsure], allow_nan=False)


def test_the_mode_or_the_policy_is_chosen_per_request(predictor: Predictor) -> None:
    unsure = [toy.picture(0.3)]
    assert predictor.predict(unsure)[0].policy == "careful"
    assert predictor.predict(unsure, mode="accurate")[0].policy == "careful"
    assert predictor.predict(unsure, mode="fast")[0].policy == "threshold"
    assert predictor.predict(unsure, policy="threshold")[0].label == "roadwork"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"mode": "hybrid"}, "cannot serve the mode 'hybrid'.*accurate .careful., fast .threshold."),
        ({"policy": "gone"}, "no policy 'gone'.*careful, threshold"),
        ({"policy": "threshold", "mode": "fast"}, "cannot both be chosen"),
    ],
)
def test_what_the_bundle_cannot_serve_is_refused_by_name(
    predictor: Predictor, choice: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        predictor.predict([toy.picture(0.3)], **choice)  # type: ignore[arg-type]
    assert raised.value.exit_code == 2


def test_must_answer_never_abstains(predictor: Predictor) -> None:
    pictures = [toy.picture(margin) for margin in np.linspace(-2, 2, 21)]
    assert any(p.abstain for p in predictor.predict(pictures))
    answered = predictor.predict(pictures, must_answer=True)
    assert not any(p.abstain for p in answered)
    assert [p.label for p in answered] == [p.label for p in predictor.predict(pictures, mode="fast")]


def test_a_bad_picture_is_raised_or_reported_and_others_go_through(predictor: Predictor, tmp_path: Path) -> None:
    good, bad = save(tmp_path / "good.png", 4.0), tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:40])
    with pytest.raises(BadImageError):
        predictor.predict([good, bad])
    first, second, third = predictor.predict([good, bad, good], on_bad_image="report")
    assert first == third
    assert second.error
    assert set(second.to_json()) == {"path", "error"}


def test_fallbacks_are_counted_and_say_why(tmp_path: Path) -> None:
    policies = toy.standard_policies()
    policies["careful"] = toy.policy_document("careful", "band", fault="raise_on_large")
    bundle = toy.make(tmp_path, policies=policies)
    predictor = load(bundle, plugins=toy.plugins(), device="cpu")
    first, second = predictor.predict([toy.picture(9.0), toy.picture(3.0)])
    assert (first.policy, second.policy) == ("threshold", "careful")
    assert first.reason.startswith("fallback: careful failed: ValueError: a large margin")
    assert sum(predictor.fallbacks.values()) == 1
    predictor.predict([toy.picture(9.0)])
    assert sum(predictor.fallbacks.values()) == 2


def test_a_policy_that_cannot_be_restored_is_answered_for_only_below_the_level_load(bundle: Path) -> None:
    toy.edit(bundle / "policies/careful.json", lambda d: d["state"].pop("cut"))
    toy.reseal(bundle)
    with pytest.raises(VerificationError):
        load(bundle, plugins=toy.plugins(), device="cpu")
    prediction = load(bundle, "schema", plugins=toy.plugins(), device="cpu").predict([toy.picture(0.3)])[0]
    assert prediction.policy == "threshold"
    assert "careful could not be restored" in prediction.reason


def test_a_damaged_bundle_does_not_load(bundle: Path) -> None:
    (bundle / "README.md").write_text("other")
    for level in ("files", "schema", "load"):
        with pytest.raises(VerificationError):
            load(bundle, level, plugins=toy.plugins(), device="cpu")


def test_many_threads_get_what_one_gets(predictor: Predictor) -> None:
    pictures = [toy.picture(margin) for margin in np.linspace(-6, 6, 40)]
    alone = [predictor.predict([picture])[0] for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda picture: predictor.predict([picture])[0], pictures))
    assert [p.to_json() for p in together] == [p.to_json() for p in alone]


def test_in_batches_the_model_runs_for_one_call_at_a_time(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = load(pristine, plugins=toy.plugins(), device="cpu", batch_size=32)
    scored, inside, most = Scorer.scored, 0, 0

    def watched(self: Scorer, images: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.01)
        inside -= 1
        return scored(self, images)

    monkeypatch.setattr(Scorer, "scored", watched)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: predictor.predict([toy.picture(3.0)]), range(16)))
    assert most == 1


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_stream_keeps_the_order_whatever_the_batch(predictor: Predictor, tmp_path: Path, batch_size: int) -> None:
    margins = [-5.0, 4.0, 0.2, 6.0, -0.1, 3.0, -2.0]
    sources = [Source(str(save(tmp_path / f"{index}.png", margin))) for index, margin in enumerate(margins)]
    sources.insert(3, Source("gone.png", "no such file or folder"))
    found = list(predictor.stream(sources, batch_size=batch_size))
    assert [p.path for p in found] == [source.path for source in sources]
    assert found[3].error == "no such file or folder"
    expected = predictor.predict([Path(source.path) for source in sources if source.error is None])
    assert [p for p in found if p.error is None] == expected


def test_a_stream_holds_two_batches_and_no_more(predictor: Predictor, tmp_path: Path) -> None:
    path = str(save(tmp_path / "a.png", 4.0))
    taken = 0

    def sources() -> object:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield Source(path)

    stream = predictor.stream(sources(), batch_size=5)  # type: ignore[arg-type]
    for seen in range(1, 30):
        next(stream)
        assert taken <= (-(-seen // 5) + 1) * 5
    stream.close()  # type: ignore[attr-defined]


def test_however_many_pictures_there_are_two_batches_are_alive(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = Predictor._decode
    alive, most, lock = 0, 0, threading.Lock()

    def forgotten() -> None:
        nonlocal alive
        with lock:
            alive -= 1

    def counted(self: Predictor, image: Any, on_bad_image: str) -> Any:
        nonlocal alive, most
        found = decode(self, toy.picture(3.0), on_bad_image)
        with lock:
            alive += 1
            most = max(most, alive)
        weakref.finalize(found, forgotten)
        return found

    monkeypatch.setattr(Predictor, "_decode", counted)
    answers = predictor.stream((Source(f"{index}.png") for index in range(2000)), batch_size=64)
    assert sum(answer.label == "roadwork" for answer in answers) == 2000
    # A thread may still have the picture in hand that it has just handed over.
    assert 64 < most <= 2 * 64 + 16
    assert alive <= 16


def test_many_threads_load_one_bundle_and_each_reads_its_weights_once(
    pristine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roadwork_core import model

    read, lock = 0, threading.Lock()
    load_weights = model.load_weights

    def counted(*given: Any) -> None:
        nonlocal read
        with lock:
            read += 1
        load_weights(*given)

    monkeypatch.setattr(model, "load_weights", counted)
    pictures = [toy.picture(margin) for margin in (-5.0, 0.2, 4.0)]
    together = threading.Barrier(6)

    def answer(_: int) -> list[dict[str, Any]]:
        together.wait()
        loaded = load(pristine, "replay", plugins=toy.plugins(), device="cpu")
        return [found.to_json() for found in loaded.predict(pictures)]

    before = [found.to_json() for found in load(pristine, plugins=toy.plugins(), device="cpu").predict(pictures)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(answer, range(6))) == [before] * 6
    assert read == 7


_WARM = """
import sys
from pathlib import Path
from roadwork_core.bundle import load
from tests.bundle import toy

predictor = load(Path(sys.argv[1]), plugins=toy.plugins(), device="cpu")
before = set(sys.modules)
assert predictor.predict([Path(sys.argv[2])])[0].label == "roadwork"
print(sorted(set(sys.modules) - before))
"""


@pytest.mark.slow
def test_what_is_loaded_is_warm(pristine: Path, tmp_path: Path) -> None:
    """The first picture imports nothing more: no torchvision, no decoder, no compiler."""
    words = [sys.executable, "-c", _WARM, str(pristine), str(save(tmp_path / "a.png", 4.0))]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, done.stderr
    late = ast.literal_eval(done.stdout)
    assert not [name for name in late if name.partition(".")[0] not in ("PIL",)], late


def test_a_memory_picture_of_another_format_is_decoded(predictor: Predictor) -> None:
    content = io.BytesIO()
    Image.fromarray(toy.picture(8.0)).save(content, "JPEG", quality=95)
    assert predictor.predict([content.getvalue()])[0].label == "roadwork"


def test_no_pictures(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def test_files_folders_patterns_and_standard_input(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "b/10.JPG", "a/c/1.png", "a/.hidden.png", "a/notes.txt", "z.webp"):
        save(tmp_path / name, 1.0) if name.endswith(".png") else (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()

    def found(*arguments: str, stdin: tuple[str, ...] = ()) -> list[str]:
        sources = find_images([str(tmp_path / a) if a != "-" else a for a in arguments], stdin)
        return [f"{Path(s.path).relative_to(tmp_path)}{': ' + s.error if s.error else ''}" for s in sources]

    assert found(".")[:4] == ["z.webp", "a/c/1.png", "b/10.JPG", "b/2.jpg"]
    assert found("b", "z.webp") == ["b/10.JPG", "b/2.jpg", "z.webp"]
    assert found("*/*.[jJ]*") == ["b/10.JPG", "b/2.jpg"]
    assert found("**/*.png") == ["a/.hidden.png", "a/c/1.png"] or found("**/*.png") == ["a/c/1.png"]
    assert found("empty") == ["empty: no pictures in this folder"]
    assert found("gone.jpg") == ["gone.jpg: no such file or folder"]
    assert found("*.bmp") == ["*.bmp: no file matches this pattern"]
    assert found("a/notes.txt") == ["a/notes.txt"]
    lines = (f"{tmp_path}/z.webp\n", "\n", f"{tmp_path}/*.png\r\n")
    assert found("-", stdin=lines) == ["z.webp", "*.png: no such file or folder"]
