"""What calibrators and policies promise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..decisions import ABSTAIN
from ..kinds import CalibratorContext, Kind, PolicyContext, PolicyRestoreContext
from ..metrics import nll
from .contract import SEED, ComponentContract, refuse, seeded
from .results import difference
from .static import resolve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class CalibratorContract(ComponentContract):
    """A calibrator keeps the shape of logits, treats each row alone, and survives JSON."""

    kind = Kind.CALIBRATOR
    num_classes = 2
    samples = 300

    def build(self, component: Any) -> Any:
        """The calibrator, fitted on overconfident logits."""
        from . import stand_ins

        logits, labels, _ = stand_ins.scores(self.samples, self.num_classes)
        return component.build(CalibratorContext(logits=logits, labels=labels))

    def exercise(self, component: Any) -> Any:
        fitted = self.build(component)
        restored = component.restore(fitted.state())
        return {"logits": restored.transform(self._logits()), "state": dict(fitted.state())}

    def test_keeps_shape_and_rows(self) -> None:
        import numpy as np

        for component in self.cases():
            fitted, logits = seeded(self.build)(component), self._logits()
            before = logits.copy()
            made = fitted.transform(logits)
            if not np.array_equal(before, logits):
                refuse("transform writes into its argument")
            if made.shape != logits.shape or made.dtype != np.float64:
                refuse(f"logits float64 {logits.shape} become {made.dtype} {made.shape}")
            if not np.isfinite(made).all():
                refuse("calibrated logits are not finite")
            alone = np.concatenate([fitted.transform(row[None]) for row in logits])
            if not np.array_equal(made, alone):
                refuse("a row's calibrated logits depend on the rest of its batch")
            if fitted.transform(logits[:0]).shape != (0, self.num_classes):
                refuse("no logits at all become something else than none")

    def test_survives_json(self) -> None:
        for component in self.cases():
            fitted = seeded(self.build)(component)
            restored = component.restore(_through_json(fitted.state(), "state"))
            found = difference(fitted.transform(self._logits()), restored.transform(self._logits()), "logits")
            if found:
                refuse(f"restored from its state it calibrates otherwise: {found}")

    def test_is_no_worse_on_what_it_was_fitted_on(self) -> None:
        from . import stand_ins

        for component in self.cases():
            logits, labels, _ = stand_ins.scores(self.samples, self.num_classes)
            raw, made = nll(logits, labels), nll(seeded(self.build)(component).transform(logits), labels)
            if not made <= raw + 1e-6:
                refuse(f"calibration takes the negative log likelihood from {raw:.4f} up to {made:.4f}")

    def _logits(self) -> NDArray[np.float64]:
        from . import stand_ins

        return extended(stand_ins.scores(40, self.num_classes, seed=9)[0])


class PolicyContract(ComponentContract):
    """A policy decides alone as in a batch, and after JSON as before, to the last bit.

    `members` are the policies that it requires, as a spec would write them, by name.
    """

    kind = Kind.POLICY
    num_classes = 2
    samples = 600
    members: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def build(self, component: Any) -> Any:
        """The policy, fitted on `samples` logits."""
        return component.build(self._context({name: self._member(name) for name in self.members}))

    def exercise(self, component: Any) -> Any:
        members = {name: self._member(name) for name in self.members}
        required = list(component.requires())
        policy = component.build(self._context(members))
        restored = component.restore(policy.state(), self._restore_context(members))
        return {"decisions": restored.decide(self._logits()), "state": dict(policy.state()), "requires": required}

    def test_decides_in_form(self) -> None:
        import numpy as np

        for component in self.cases():
            policy, logits = seeded(self.build)(component), self._logits()
            before = logits.copy()
            made = policy.decide(logits)
            n, classes = logits.shape
            if not np.array_equal(before, logits):
                refuse("decide writes into its argument")
            shapes = (made.labels.shape, made.scores.shape, made.sets.shape, len(made.reasons))
            if shapes != ((n,), (n,), (n, classes), n):
                refuse(f"{n} logits make labels, scores, sets and reasons of the shapes {shapes}")
            if made.labels.dtype != np.int64 or made.scores.dtype != np.float64 or made.sets.dtype != np.bool_:
                refuse("labels must be int64, scores float64 and sets bool")
            if not ((made.labels >= ABSTAIN) & (made.labels < classes)).all():
                refuse("a label is neither a class nor ABSTAIN")
            if not ((made.scores >= 0) & (made.scores <= 1)).all():
                refuse("a score is no probability")
            answered = np.flatnonzero(made.labels != ABSTAIN)
            if not made.sets[answered, made.labels[answered]].all():
                refuse("an answer is not in its own prediction set")
            if not all(isinstance(reason, str) and reason.strip() for reason in made.reasons):
                refuse("a decision has no reason")
            if len(policy.decide(logits[:0])) != 0:
                refuse("no logits at all make decisions")

    def test_decides_alone_as_in_a_batch(self) -> None:
        for component in self.cases():
            policy, logits = seeded(self.build)(component), self._logits()
            whole = list(policy.decide(logits).rows())
            alone = [next(iter(policy.decide(row[None]).rows())) for row in logits]
            back = list(policy.decide(logits[::-1].copy()).rows())[::-1]
            for other in (alone, back):
                numbered = [{**row, "row": index} for index, row in enumerate(other)]
                if found := difference(whole, numbered, "decisions"):
                    refuse(f"a decision depends on the rest of its batch: {found}")

    def test_survives_json(self) -> None:
        for component in self.cases():
            members = {name: self._member(name) for name in self.members}
            policy = seeded(component.build)(self._context(members))
            state = _through_json(policy.state(), "state")
            restored = component.restore(state, self._restore_context(members))
            found = difference(policy.decide(self._logits()), restored.decide(self._logits()), "decisions")
            if found or (found := difference(state, _through_json(restored.state(), "state"), "state")):
                refuse(f"restored from its state it is another: {found}")

    def test_explains_itself(self) -> None:
        for component in self.cases():
            policy = seeded(self.build)(component)
            if not _through_json(policy.summary(), "summary"):
                refuse("its summary is empty")
            guarantee = policy.guarantee()
            if guarantee is not None and not str(_through_json(guarantee, "guarantee").get("text", "")).strip():
                refuse("its guarantee has no words (`text`)")

    def test_names_what_it_requires(self) -> None:
        for component in self.cases():
            required = list(component.requires())
            if missing := set(required) - set(self.members):
                refuse(f"it requires {', '.join(sorted(missing))}: give them in `members`")

    def _context(self, members: Mapping[str, Any]) -> PolicyContext:
        from . import stand_ins

        logits, labels, groups = stand_ins.scores(self.samples, self.num_classes)
        return PolicyContext(
            logits=logits,
            labels=labels,
            groups=groups,
            classes=self._classes(),
            positive=self.num_classes - 1,
            seed=SEED,
            members=members,
        )

    def _restore_context(self, members: Mapping[str, Any]) -> PolicyRestoreContext:
        return PolicyRestoreContext(classes=self._classes(), positive=self.num_classes - 1, members=members)

    def _member(self, name: str) -> Any:
        options = dict(self.members[name])
        cls = self.plugins.get(Kind.POLICY, options.pop("use"))
        return resolve(cls, options, self.plugins).build(self._context({}))

    def _classes(self) -> list[str]:
        return [f"class_{index}" for index in range(self.num_classes)]

    def _logits(self) -> NDArray[np.float64]:
        from . import stand_ins

        return extended(stand_ins.scores(60, self.num_classes, seed=9)[0])


def extended(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logits with rows at the ends of what can come: undecided, very sure, very large."""
    import numpy as np

    classes = logits.shape[1]
    rows = [np.zeros((1, classes)), 60 * np.eye(classes), -60 * np.eye(classes), 1e4 * np.eye(classes)]
    return np.concatenate([logits, *rows])


def _through_json(value: Any, what: str) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        refuse(f"its {what} is no JSON value: {error}")
