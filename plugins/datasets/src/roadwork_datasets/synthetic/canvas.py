"""A pinhole camera over a street, and a canvas that paints in metres."""

from collections.abc import Sequence
from itertools import pairwise

from attrs import define, field, frozen
from PIL import Image, ImageDraw

from roadwork_datasets.synthetic.light import Colour, Light, Tone

Point = tuple[float, float]
Point3 = tuple[float, float, float]

#: Nothing nearer than this is drawn, metres.
NEAR = 1.2
#: Depths at which long ribbons of ground are split, metres.
STOPS = (NEAR, 1.9, 2.7, 3.8, 5.3, 7.4, 10.4, 14.6, 20.4, 28.6, 40.0, 56.0, 80.0, 115.0, 170.0)


@frozen(kw_only=True)
class Camera:
    """Where the picture is taken from: x right, y up, z along the road, all in metres; `focal` in pixels.

    The road bends under the camera by `curve * depth ** 2` metres, so that objects are placed as if it were straight.
    """

    width: int
    height: int
    focal: float
    horizon: float
    x: float
    y: float
    z: float
    curve: float

    def pixel(self, x: float, y: float, z: float) -> Point:
        """Image position, in pixels, of a point in metres; the depth is clipped to `NEAR`."""
        depth = z - self.z
        if depth < NEAR:
            depth = NEAR
        scale = self.focal / depth
        return (
            self.width * 0.5 + scale * (x - self.x + self.curve * depth * depth),
            self.horizon + scale * (self.y - y),
        )


@define
class Canvas:
    """An image under a camera and a light, painted from far to near."""

    camera: Camera
    light: Light
    image: Image.Image
    draw: ImageDraw.ImageDraw = field(init=False)
    #: Lamps to bloom afterwards: (u, v, radius in pixels, colour).
    glows: list[tuple[float, float, float, Colour]] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        self.draw = ImageDraw.Draw(self.image)

    def retarget(self, image: Image.Image) -> None:
        """Go on painting on another image of the same size."""
        self.image = image
        self.draw = ImageDraw.Draw(image)

    def face(self, points: Sequence[Point3], colour: Colour, lit: float = 1.0) -> None:
        """Fill a polygon given in metres, shaded by the depth of its middle."""
        pixel = self.camera.pixel
        depth = sum(point[2] for point in points) / len(points) - self.camera.z
        if depth < NEAR:
            depth = NEAR
        self.draw.polygon([pixel(*point) for point in points], self.light.tone(depth).of(colour, lit))

    def wall(self, x: float, z0: float, z1: float, y0: float, y1: float, colour: Colour, lit: float = 1.0) -> None:
        """Fill an upright rectangle along the road."""
        if z1 > self.camera.z + NEAR:
            self.face(((x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)), colour, lit)

    def front(self, x0: float, x1: float, y0: float, y1: float, z: float, colour: Colour, lit: float = 1.0) -> None:
        """Fill an upright rectangle across the road."""
        if z > self.camera.z + NEAR:
            u0, v0 = self.camera.pixel(x0, y0, z)
            u1, v1 = self.camera.pixel(x1, y1, z)
            self.draw.rectangle((min(u0, u1), min(v0, v1), max(u0, u1), max(v0, v1)), self._at(z).of(colour, lit))

    def slab(
        self, x0: float, x1: float, z0: float, z1: float, colour: Colour, y: float = 0.0, lit: float = 1.0
    ) -> None:
        """Fill a rectangle that lies on the ground, or on a roof at height `y`."""
        near = self.camera.z + NEAR
        if z1 > near:
            z0 = max(z0, near)
            self.face(((x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)), colour, lit)

    def ribbon(self, x0: float, x1: float, colour: Colour, y: float = 0.0) -> None:
        """Fill a strip of ground that follows the road from the camera to the horizon."""
        z = self.camera.z
        for near, far in pairwise(STOPS):
            self.slab(x0, x1, z + near, z + far, colour, y)

    def box(self, x0: float, x1: float, y0: float, y1: float, z0: float, z1: float, colour: Colour) -> None:
        """Fill the faces of a block that the camera sees: flank, top, and the face that looks at the camera."""
        middle = self.camera.x
        bend = self.camera.curve * (max(z0 - self.camera.z, 0.0)) ** 2
        side = self.light.flank
        if x0 + bend > middle:
            self.wall(x0, z0, z1, y0, y1, colour, side[0])
        elif x1 + bend < middle:
            self.wall(x1, z0, z1, y0, y1, colour, side[1])
        if y1 < self.camera.y:
            self.slab(x0, x1, z0, z1, colour, y1, 1.12)
        self.front(x0, x1, y0, y1, z0, colour)

    def shadow(self, x: float, z: float, width: float, depth: float) -> None:
        """Darken the ground under an object."""
        if z - self.camera.z > NEAR + depth:
            u0, v0 = self.camera.pixel(x - width / 2, 0.0, z + depth / 2)
            u1, v1 = self.camera.pixel(x + width / 2, 0.0, z - depth / 2)
            if v1 - v0 >= 1.0:
                self.draw.ellipse((u0, v0, max(u1, u0), v1), self._at(z).of(self.light.shade))

    def underside(self, x: float, z: float, long: float, half: float) -> None:
        """Darken the ground under a vehicle, and a little on the side away from the sun."""
        lean = 0.9 * (self.light.flank[1] - self.light.flank[0])
        left, right = x - half - 0.1 + min(lean, 0.0), x + half + 0.1 + max(lean, 0.0)
        self.slab(left, right, z - 0.12, z + long + 0.2, self.light.shade)

    def stand(self, x: float, z: float, retro: float = 0.0) -> "Stand | None":
        """An upright plane that faces the camera at a ground point; None when it is behind or outside the view."""
        depth = z - self.camera.z
        if depth < 2.0:
            return None
        u, v = self.camera.pixel(x, 0.0, z)
        scale = self.camera.focal / depth
        if u < -6.0 * scale or u > self.camera.width + 6.0 * scale:
            return None
        return Stand(self, u, v, scale, self.light.tone(depth, retro))

    def _at(self, z: float) -> Tone:
        return self.light.tone(max(z - self.camera.z, NEAR))


@frozen
class Stand:
    """A plane facing the camera: metres to the right of, and above, a point on the ground."""

    canvas: Canvas
    u: float
    v: float
    #: Pixels per metre.
    scale: float
    tone: Tone

    def poly(self, points: Sequence[Point], colour: Colour, lit: float = 1.0) -> None:
        """Fill a polygon."""
        u, v, s = self.u, self.v, self.scale
        self.canvas.draw.polygon([(u + s * x, v - s * y) for x, y in points], self.tone.of(colour, lit))

    def rect(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, lit: float = 1.0) -> None:
        """Fill a rectangle, lower left to upper right."""
        u, v, s = self.u, self.v, self.scale
        self.canvas.draw.rectangle((u + s * x0, v - s * y1, u + s * x1, v - s * y0), self.tone.of(colour, lit))

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour, lit: float = 1.0) -> None:
        """Fill an ellipse around a centre."""
        u, v = self.u + self.scale * x, self.v - self.scale * y
        a, b = self.scale * rx, self.scale * ry
        self.canvas.draw.ellipse((u - a, v - b, u + a, v + b), self.tone.of(colour, lit))

    def line(self, points: Sequence[Point], width: float, colour: Colour, lit: float = 1.0) -> None:
        """Stroke a polyline with a width in metres."""
        u, v, s = self.u, self.v, self.scale
        pixels = max(1, round(width * s))
        self.canvas.draw.line([(u + s * x, v - s * y) for x, y in points], self.tone.of(colour, lit), pixels)

    def lamp(self, x: float, y: float, radius: float, colour: Colour, bloom: float = 0.0) -> None:
        """A light source: not darkened by night; `bloom` is the radius of its glow in metres."""
        u, v, r = self.u + self.scale * x, self.v - self.scale * y, max(self.scale * radius, 0.6)
        self.canvas.draw.ellipse((u - r, v - r, u + r, v + r), self.tone.emit(colour))
        if bloom:
            self.canvas.glows.append((u, v, self.scale * bloom, colour))

    def stripes(
        self, box: tuple[float, float, float, float], first: Colour, second: Colour, count: int, lean: float
    ) -> None:
        """A board of slanted stripes inside `box` (x0, y0, x1, y1); `lean` shifts the top by that many stripes."""
        x0, y0, x1, y1 = box
        self.rect(x0, y0, x1, y1, first)
        step = (x1 - x0) / count
        if step * self.scale < 0.8:
            return
        shift = lean * step
        for index in range(-3, count + 3, 2):
            low0, low1 = x0 + index * step, x0 + (index + 1) * step
            corners = ((low0, y0), (low1, y0), (low1 + shift, y1), (low0 + shift, y1))
            clipped = [(min(max(x, x0), x1), y) for x, y in corners]
            if max(x for x, _ in clipped) > min(x for x, _ in clipped):
                self.poly(clipped, second)
