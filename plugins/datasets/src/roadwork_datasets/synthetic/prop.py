"""One thing that stands on the street."""

from collections.abc import Callable

from attrs import frozen

from roadwork_datasets.synthetic.canvas import Canvas

#: Paints a thing at (canvas, x, z).
Paint = Callable[[Canvas, float, float], None]


@frozen
class Prop:
    """A thing at a place, in metres; `kind` names it, `speed` is how far it moves along the road per sequence."""

    kind: str
    x: float
    z: float
    paint: Paint
    speed: float = 0.0
    #: Half of its width, to keep the view of the works free.
    half: float = 0.5

    def draw(self, canvas: Canvas, done: float) -> None:
        """Paint it where it stands when the share `done` of the sequence has passed."""
        self.paint(canvas, self.x, self.z + self.speed * done)
