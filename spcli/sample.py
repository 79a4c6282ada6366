"""A synthetic LiDAR scan of a street, for first steps and for tests where no real scan may be shipped.

Every ray of a Velodyne HDL-64E is cast against a street made of boxes, upright cylinders and leafy ellipsoids. Beam
angles are those of the manufacturer's two laser blocks; the mounting height, the file order, the 1 mm lattice and
the reflectance steps of 0.01 are those of KITTI's object scans (Geiger et al. 2013, "Vision meets Robotics").

Only uniform draws are taken from the random generator and all noise is made from them, so a seed gives the same bytes
wherever numpy's PCG64 gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spcli.errors import UsageError
from spcli.points import PointCloud

SENSOR_HEIGHT = 1.73
_GROUND = -SENSOR_HEIGHT
_KERB = 0.13
_POINTS = 115_000
# Rays of a full turn that give about _POINTS points in these streets: steps of 0.18 degrees.
_STEPS = 2010
_RANGE_NOISE = 0.02
_FARTHEST = 100.0

Floats = NDArray[np.float64]


class Box(NamedTuple):
    """An upright box: centre, heading (radians from x), length along it, width across, heights; metres."""

    x: float
    y: float
    heading: float
    length: float
    width: float
    low: float
    high: float
    reflectance: float
    windows: bool = False


class Cylinder(NamedTuple):
    """An upright cylinder; metres."""

    x: float
    y: float
    radius: float
    low: float
    high: float
    reflectance: float


class Foliage(NamedTuple):
    """An ellipsoid that a ray enters for an exponentially distributed way, `depth` metres on average."""

    x: float
    y: float
    z: float
    radius: float
    half_height: float
    depth: float
    reflectance: float


class Layout(NamedTuple):
    """The measures of a street in metres: half widths from its axis, distances between things along it.

    `heading` is how far the sensor looks left of the street's axis, in radians.
    """

    heading: float
    kerb: float
    facade: float
    building_heights: tuple[float, float]
    building_lengths: tuple[float, float]
    gap_chance: float
    crossing: float
    parked_every: float
    trees_every: float
    hedges: bool
    people: int


# A street between tall fronts near a crossing ahead, and one of houses behind hedges with a side street behind.
LAYOUTS = (
    Layout(0.07, 5.4, 12.0, (9.0, 18.0), (8.0, 15.0), 0.06, 19.0, 9.0, 10.0, False, 22),
    Layout(-0.12, 5.2, 13.2, (6.0, 9.5), (8.0, 13.0), 0.35, -19.0, 8.5, 9.5, True, 14),
)

Shape = Box | Cylinder | Foliage


def street_scan(seed: int, points: int = _POINTS) -> PointCloud:
    """A 64-beam scan of a street: float32 `[P, 4]`, columns x, y, z (metres) and intensity (0 to 1).

    Points are in KITTI's order: beam by beam from the top, each once around from straight ahead to the left. Even
    seeds give the street of tall fronts, odd seeds the one of houses, each with its own cars, trees and people.

    Args:
        seed: 0 or more; the same seed gives the same scan.
        points: about how many points; a full scan has 115,000. Fewer make wider azimuth steps.

    Raises:
        UsageError: a negative seed, or fewer than one point.
    """
    if seed < 0 or points < 1:
        raise UsageError(f"a sample of {points} points from seed {seed}: the seed is 0 or more, the points 1 or more")
    draw = np.random.Generator(np.random.PCG64(seed))
    layout = LAYOUTS[seed % len(LAYOUTS)]
    shapes = list(street(layout, draw))  # drawn before any ray is, so that the street does not depend on `points`
    rays = _Rays(draw, layout.heading, max(8, round(_STEPS * points / _POINTS)))
    rays.cast_ground(layout, draw)
    for shape in shapes:
        rays.cast(shape, draw)
    return PointCloud(rays.returns(draw), ("x", "y", "z", "intensity"), f"street {seed}")


def beam_elevations() -> Floats:
    """The 64 beams of an HDL-64E from the top, in degrees: 32 a third of a degree apart, 32 half a degree."""
    upper = 2.0 - np.arange(32) / 3.0
    lower = -8.83 - np.arange(32) / 2.0
    return np.concatenate([upper, lower])


def street(layout: Layout, draw: np.random.Generator) -> Iterator[Shape]:
    """Everything that stands on the ground of a street along x, drawn from `draw`."""
    for side in (-1.0, 1.0):
        yield from _pavement(layout, side)
        yield from _buildings(layout, side, draw)
        yield from _parked_cars(layout, side, draw)
        yield from _trees(layout, side, draw)
        yield from _street_furniture(layout, side, draw)
        if layout.hedges:
            yield from _hedges(layout, side, draw)
    yield from _traffic(draw)
    yield from _people(layout, draw)


def _uniform(draw: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(draw.random())


def _along(layout: Layout, draw: np.random.Generator, spacing: float, half: float = 75.0) -> Iterator[float]:
    """Places along the street, about `spacing` apart, none in the crossing."""
    x = -half + _uniform(draw, 0.0, spacing)
    while x < half:
        if abs(x - layout.crossing) > 7.0:
            yield x
        x += spacing * _uniform(draw, 0.7, 1.4)


def _pavement(layout: Layout, side: float) -> Iterator[Shape]:
    """Two slabs on this side, apart at the crossing; their fronts are the kerbs."""
    middle = side * (layout.kerb + 15.0)
    for start, end in ((-120.0, layout.crossing - 4.5), (layout.crossing + 4.5, 120.0)):
        yield Box((start + end) / 2, middle, 0.0, end - start, 30.0, _GROUND - 1.0, _GROUND + _KERB, 0.34)


def _buildings(layout: Layout, side: float, draw: np.random.Generator) -> Iterator[Shape]:
    x = -85.0
    while x < 85.0:
        length = _uniform(draw, *layout.building_lengths)
        set_back = _uniform(draw, 0.0, 0.9)
        height = _uniform(draw, *layout.building_heights)
        reflectance = _uniform(draw, 0.18, 0.5)
        is_gap = draw.random() < layout.gap_chance
        centre, depth = x + length / 2, 11.0
        if not is_gap and abs(centre - layout.crossing) > length / 2 + 5.5:
            y = side * (layout.facade + set_back + depth / 2)
            yield Box(centre, y, 0.0, length, depth, _GROUND, _GROUND + height, reflectance, windows=True)
            yield from _front_details(centre, side * (layout.facade + set_back), length, draw)
        x += length + 0.02
    # The fronts that close the view down the side street.
    yield Box(layout.crossing, side * 48.0, 0.0, 26.0, 10.0, _GROUND, _GROUND + 12.0, 0.3, windows=True)


def _front_details(x: float, y: float, length: float, draw: np.random.Generator) -> Iterator[Shape]:
    """A door step, a sill or sign board, a drainpipe."""
    at = x + _uniform(draw, -0.35, 0.35) * length
    yield Box(at, y, 0.0, 1.4, 0.8, _GROUND, _GROUND + 0.45, 0.3)
    yield Box(x, y, 0.0, length * 0.7, _uniform(draw, 0.2, 0.7), _GROUND + 2.7, _GROUND + 3.1, _uniform(draw, 0.2, 0.6))
    yield Cylinder(x + 0.47 * length, y, 0.12, _GROUND, _GROUND + 9.0, 0.22)


def _car(x: float, y: float, heading: float, draw: np.random.Generator) -> Iterator[Shape]:
    """A body above its ground clearance, a narrower cabin, four wheels."""
    length, width = _uniform(draw, 3.7, 4.8), _uniform(draw, 1.65, 1.9)
    paint = float(draw.random()) ** 2 * 0.9 + 0.02
    yield Box(x, y, heading, length, width, _GROUND + 0.28, _GROUND + _uniform(draw, 0.85, 1.0), paint)
    back = -0.1 * length
    cabin_x, cabin_y = x + back * float(np.cos(heading)), y + back * float(np.sin(heading))
    top = _GROUND + _uniform(draw, 1.4, 1.75)
    yield Box(cabin_x, cabin_y, heading, 0.55 * length, width - 0.25, _GROUND + 0.85, top, 0.02)
    for forward, left in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        ahead, aside = forward * 0.32 * length, left * (width / 2 - 0.12)
        wheel_x = x + ahead * float(np.cos(heading)) - aside * float(np.sin(heading))
        wheel_y = y + ahead * float(np.sin(heading)) + aside * float(np.cos(heading))
        yield Box(wheel_x, wheel_y, heading, 0.62, 0.22, _GROUND, _GROUND + 0.62, 0.05)


def _parked_cars(layout: Layout, side: float, draw: np.random.Generator) -> Iterator[Shape]:
    for x in _along(layout, draw, layout.parked_every):
        if draw.random() < 0.8 and abs(x) > 3.5:
            yield from _car(
                x, side * (layout.kerb - 1.05 + _uniform(draw, -0.1, 0.1)), _uniform(draw, -0.04, 0.04), draw
            )


def _traffic(draw: np.random.Generator) -> Iterator[Shape]:
    """A car ahead in the lane, one coming, and a van behind."""
    yield from _car(_uniform(draw, 12.0, 22.0), -0.3, 0.0, draw)
    yield from _car(_uniform(draw, 28.0, 45.0), 1.4, np.pi, draw)
    x = -_uniform(draw, 9.0, 14.0)
    yield Box(x, -0.2, 0.0, 5.2, 2.0, _GROUND + 0.3, _GROUND + 2.3, 0.55)


def _trees(layout: Layout, side: float, draw: np.random.Generator) -> Iterator[Shape]:
    for x in _along(layout, draw, layout.trees_every):
        y = side * (layout.kerb + _uniform(draw, 0.7, 1.2))
        height = _uniform(draw, 2.6, 4.6)
        yield Cylinder(x, y, _uniform(draw, 0.1, 0.22), _GROUND, _GROUND + height, 0.2)
        for _ in range(4):
            yield Foliage(
                x + _uniform(draw, -0.7, 0.7),
                y + side * _uniform(draw, -0.5, 0.9),
                _GROUND + height + _uniform(draw, -0.6, 0.9),
                _uniform(draw, 1.1, 2.0),
                _uniform(draw, 1.0, 1.8),
                0.8,
                _uniform(draw, 0.25, 0.45),
            )


def _hedges(layout: Layout, side: float, draw: np.random.Generator) -> Iterator[Shape]:
    for x in _along(layout, draw, 5.5):
        y = side * (layout.kerb + 2.9)
        if draw.random() < 0.5:
            top = _GROUND + _uniform(draw, 0.9, 1.6)
            yield Box(x, y, 0.0, 4.6, 0.6, _GROUND, top, 0.28)
            yield Foliage(x, y, top, 2.3, 0.35, 0.25, 0.32)


def _street_furniture(layout: Layout, side: float, draw: np.random.Generator) -> Iterator[Shape]:
    """Lamp posts, sign posts with their plates, bollards, bins."""
    for x in _along(layout, draw, 19.0):
        yield Cylinder(x, side * (layout.kerb + 0.45), 0.09, _GROUND, _GROUND + 6.0, 0.3)
    for x in _along(layout, draw, 23.0):
        y = side * (layout.kerb + 0.35)
        yield Cylinder(x, y, 0.035, _GROUND, _GROUND + 2.8, 0.35)
        yield Box(x, y, np.pi / 2, 0.6, 0.03, _GROUND + 2.1, _GROUND + 2.7, 0.97)
    for x in _along(layout, draw, 11.0):
        yield Cylinder(x, side * (layout.kerb + 0.25), 0.08, _GROUND, _GROUND + 0.95, 0.4)
    for x in _along(layout, draw, 26.0):
        yield Box(x, side * (layout.facade - 0.5), 0.0, 0.6, 0.7, _GROUND, _GROUND + 1.1, 0.15)


def _people(layout: Layout, draw: np.random.Generator) -> Iterator[Shape]:
    for _ in range(layout.people):
        side = -1.0 if draw.random() < 0.5 else 1.0
        x, y = _uniform(draw, -30.0, 45.0), side * _uniform(draw, layout.kerb + 0.6, layout.facade - 0.9)
        floor, height = _GROUND + _KERB, _uniform(draw, 1.5, 1.9)
        step = _uniform(draw, 0.1, 0.3)
        clothes = _uniform(draw, 0.1, 0.6)
        yield Cylinder(x - step, y, 0.08, floor, floor + 0.48 * height, clothes / 2)
        yield Cylinder(x + step, y, 0.08, floor, floor + 0.48 * height, clothes / 2)
        yield Cylinder(x, y, 0.2, floor + 0.46 * height, floor + 0.84 * height, clothes)
        yield Cylinder(x, y, 0.1, floor + 0.84 * height, floor + height, 0.35)


class _Rays:
    """All rays of one turn, `[azimuth step, beam]`, and the nearest thing each has met so far."""

    def __init__(self, draw: np.random.Generator, heading: float, steps: int) -> None:
        self.steps = steps
        self.heading = heading
        turn = 2 * np.pi * np.arange(steps) / steps
        # Each laser fires at its own instant, so the beams' azimuth grids are shifted against each other.
        self.azimuth = turn[:, None] + 2 * np.pi / steps * draw.random(64)
        elevation = np.radians(beam_elevations() + 0.1 * (draw.random(64) - 0.5))
        self.flat = np.broadcast_to(np.cos(elevation), self.azimuth.shape)
        self.dx = np.cos(self.azimuth + heading) * self.flat
        self.dy = np.sin(self.azimuth + heading) * self.flat
        self.dz = np.broadcast_to(np.sin(elevation), self.azimuth.shape)
        self.distance = np.full(self.azimuth.shape, np.inf)
        self.reflectance = np.zeros(self.azimuth.shape)

    def cast_ground(self, layout: Layout, draw: np.random.Generator) -> None:
        """The road: gently uneven, with worn patches and lane markings."""
        with np.errstate(divide="ignore"):
            flat = np.where(self.dz < -0.005, _GROUND / self.dz, np.inf)
        far = flat >= _FARTHEST
        flat = np.where(far, 0.0, flat)
        phase = 2 * np.pi * draw.random(3)
        rise = 0.02 * np.sin(flat * self.dx / 9.0 + phase[0]) + 0.012 * np.sin(flat * self.dx / 2.3 + phase[1])
        # The crown of the road lets water run to the kerbs.
        rise -= 0.012 * np.minimum(np.abs(flat * self.dy), layout.kerb)
        distance = np.where(far, np.inf, (_GROUND + rise) / self.dz)
        x, y = flat * self.dx, flat * self.dy
        worn = 0.24 + 0.05 * np.sin(x / 4.0 + phase[2]) * np.sin(y * 1.7)
        dashes = (np.abs(y - 1.6) < 0.07) & (np.mod(x, 6.0) < 3.0)
        self._keep(np.arange(self.steps), distance, np.where(dashes, 0.72, worn))

    def cast(self, shape: Shape, draw: np.random.Generator) -> None:
        """Let `shape` stop the rays that meet it first."""
        if isinstance(shape, Box):
            self._cast_box(shape, draw)
        elif isinstance(shape, Cylinder):
            self._cast_cylinder(shape)
        else:
            self._cast_foliage(shape, draw)

    def returns(self, draw: np.random.Generator) -> NDArray[np.float32]:
        """float32 `[P, 4]`: what comes back, beam by beam, with the sensor's noise and losses."""
        distance = self.distance + _RANGE_NOISE * _bell(draw, self.distance.shape)
        speckle = 1.0 + 0.12 * _bell(draw, self.distance.shape)
        # Echoes fade with the square of the distance; the sensor compensates for most of that.
        intensity = np.clip(self.reflectance * speckle, 0.0, 0.99)
        chance = 0.985 - 0.5 * (self.distance / _FARTHEST) ** 2 - 0.5 * np.exp(-intensity / 0.015)
        seen = (self.distance < _FARTHEST) & (draw.random(self.distance.shape) < chance)
        seen &= ~self._behind_own_roof()
        ahead, left = np.cos(self.azimuth) * self.flat, np.sin(self.azimuth) * self.flat
        rows = np.stack([axis.T[seen.T] for axis in (ahead, left, self.dz, intensity)], axis=1)
        rows[:, :3] *= distance.T[seen.T][:, None]
        rows[:, :3] = np.round(rows[:, :3], 3)
        rows[:, 3] = np.round(rows[:, 3], 2)
        return rows.astype(np.float32)

    def _behind_own_roof(self) -> NDArray[np.bool_]:
        """The lowest beams that the roof of the recording car hides, to the sides and behind."""
        return (self.dz < -0.34) & (np.cos(self.azimuth) < 0.35) & (np.abs(np.sin(self.azimuth)) < 0.93)

    def _towards(self, x: float, y: float, reach: float) -> NDArray[np.intp]:
        """The azimuth steps that can meet something within `reach` metres of (x, y)."""
        away = float(np.hypot(x, y))
        if away <= reach:
            return np.arange(self.steps)
        middle = (float(np.arctan2(y, x)) - self.heading) / (2 * np.pi) * self.steps
        half = float(np.arcsin(reach / away)) / (2 * np.pi) * self.steps
        first, last = int(np.floor(middle - half)) - 2, int(np.ceil(middle + half)) + 1
        return np.arange(first, min(last + 1, first + self.steps)) % self.steps

    def _keep(self, steps: NDArray[np.intp], distance: Floats, reflectance: Floats | float) -> None:
        nearer = distance < self.distance[steps]
        self.distance[steps] = np.where(nearer, distance, self.distance[steps])
        self.reflectance[steps] = np.where(nearer, reflectance, self.reflectance[steps])

    def _cast_box(self, box: Box, draw: np.random.Generator) -> None:
        """The slab method (Kay and Kajiya 1986) in the box's own axes."""
        steps = self._towards(box.x, box.y, float(np.hypot(box.length, box.width)) / 2)
        cosine, sine = float(np.cos(box.heading)), float(np.sin(box.heading))
        dx, dy, dz = self.dx[steps], self.dy[steps], self.dz[steps]
        along, across = cosine * dx + sine * dy, cosine * dy - sine * dx
        origin_along, origin_across = -cosine * box.x - sine * box.y, sine * box.x - cosine * box.y
        near_1, far_1 = _slab(origin_along, along, -box.length / 2, box.length / 2)
        near_2, far_2 = _slab(origin_across, across, -box.width / 2, box.width / 2)
        near_3, far_3 = _slab(0.0, dz, box.low, box.high)
        near = np.maximum(np.maximum(near_1, near_2), near_3)
        far = np.minimum(np.minimum(far_1, far_2), far_3)
        distance = np.where((near < far) & (near > 0), near, np.inf)
        reflectance: Floats | float = box.reflectance
        if box.windows:
            reached = np.where(near < np.inf, near, 0.0)
            distance, reflectance = self._glaze(box, distance, origin_along + reached * along, reached * dz, draw)
        self._keep(steps, distance, reflectance)

    def _glaze(
        self, box: Box, distance: Floats, along: Floats, height: Floats, draw: np.random.Generator
    ) -> tuple[Floats, Floats]:
        """Windows in a grid of 2.6 m by 3.1 m: the panes stand back and return little; some rays pass."""
        window = (np.mod(along, 2.6) < 1.2) & (np.mod(height - box.low - 1.0, 3.1) < 1.5)
        passes = window & (draw.random(window.shape) < 0.35)
        distance = np.where(passes, distance + 1.5 + 2.0 * draw.random(window.shape), distance + 0.12 * window)
        return distance, np.where(window, 0.02, box.reflectance)

    def _cast_cylinder(self, cylinder: Cylinder) -> None:
        steps = self._towards(cylinder.x, cylinder.y, cylinder.radius)
        dx, dy, dz = self.dx[steps], self.dy[steps], self.dz[steps]
        flat = self.flat[steps]
        closest = (dx * cylinder.x + dy * cylinder.y) / flat
        aside = cylinder.x**2 + cylinder.y**2 - closest**2
        with np.errstate(invalid="ignore"):
            distance = (closest - np.sqrt(cylinder.radius**2 - aside)) / flat
        height = distance * dz
        # A ray that passes the axis too far aside has a NaN distance and compares false.
        hit = (distance > 0) & (height >= cylinder.low) & (height <= cylinder.high)
        self._keep(steps, np.where(hit, distance, np.inf), cylinder.reflectance)

    def _cast_foliage(self, leaves: Foliage, draw: np.random.Generator) -> None:
        steps = self._towards(leaves.x, leaves.y, leaves.radius)
        squash = leaves.radius / leaves.half_height
        dx, dy, dz = self.dx[steps], self.dy[steps], self.dz[steps] * squash
        length = np.sqrt(dx * dx + dy * dy + dz * dz)
        closest = (dx * leaves.x + dy * leaves.y + dz * leaves.z * squash) / length
        aside = leaves.x**2 + leaves.y**2 + (leaves.z * squash) ** 2 - closest**2
        half_chord = np.sqrt(np.maximum(leaves.radius**2 - aside, 0.0))
        way = -leaves.depth * np.log1p(-draw.random(closest.shape))
        stopped = closest - half_chord + way
        hit = (stopped < closest + half_chord) & (stopped > 0)
        reflectance = leaves.reflectance * (0.6 + 0.8 * draw.random(closest.shape))
        self._keep(steps, np.where(hit, stopped / length, np.inf), reflectance)


def _slab(origin: float, direction: Floats, low: float, high: float) -> tuple[Floats, Floats]:
    """Where rays enter and leave the space between two planes."""
    with np.errstate(divide="ignore"):
        one, other = (low - origin) / direction, (high - origin) / direction
    return np.minimum(one, other), np.maximum(one, other)


def _bell(draw: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Noise of mean 0 and deviation 1: the sum of four uniform draws (Irwin-Hall), which no library version alters."""
    total: Floats = draw.random((4, *shape)).sum(axis=0)
    noise: Floats = (total - 2.0) * 3.0**0.5
    return noise
