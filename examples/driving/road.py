"""A road as a camera behind a windscreen sees it, drawn by numpy, and the angle at which to steer.

The road bends with a curvature, the car stands beside its middle and is turned against it; the light, the colour of the
ground and noise differ from picture to picture. The angle is what pure pursuit would steer: towards the middle of the lane
LOOK metres ahead, in degrees.
"""

import numpy as np

HEIGHT, WIDTH = 24, 32
LANE, CAMERA, WHEELBASE, LOOK = 3.5, 1.3, 2.7, 12.0  # metres
ROWS = np.arange(HEIGHT) + 0.5
AHEAD = CAMERA / (
    ROWS / HEIGHT + 0.04
)  # metres on the ground that a row of the picture looks at, from the horizon down
SIDE = (np.arange(WIDTH) + 0.5) / WIDTH - 0.5  # of a row, from left to right


def drives(count=3000, seed=0):
    """x [count, HEIGHT, WIDTH] in [0, 1] and y [count], degrees, to the left above zero."""
    random = np.random.default_rng(seed)
    curvature = random.normal(0, 0.012, count)  # 1 / metres
    offset = random.normal(0, 0.5, count)  # metres to the right of the middle
    heading = random.normal(0, 0.04, count)  # radians to the right of the road
    return {
        "x": np.stack(
            [_picture(*each, random) for each in zip(curvature, offset, heading, strict=True)]
        ),
        "y": _angle(curvature, offset, heading).astype(np.float32),
        "kind": "image",
    }


def _middle(ahead, curvature, offset, heading):
    """Metres to the left of where the car points, of the middle of the lane so far ahead."""
    return curvature * ahead**2 / 2 + offset + heading * ahead


def _angle(curvature, offset, heading):
    aim = np.arctan2(_middle(LOOK, curvature, offset, heading), LOOK)
    return np.degrees(np.arctan(2 * WHEELBASE * np.sin(aim) / LOOK))


def _picture(curvature, offset, heading, random):
    across = -SIDE * AHEAD[:, None] * 1.4  # metres to the left, of each pixel
    from_middle = across - _middle(AHEAD, curvature, offset, heading)[:, None]
    picture = np.full((HEIGHT, WIDTH), random.uniform(0.3, 0.6))
    picture[np.abs(from_middle) < LANE] = random.uniform(0.1, 0.3)
    for line in (-LANE / 2, LANE / 2):
        picture[np.abs(from_middle - line) < 0.12 + 0.02 * AHEAD[:, None]] = random.uniform(0.7, 1)
    picture = picture * random.uniform(0.6, 1.1) + random.normal(0, 0.08, picture.shape)
    return picture.clip(0, 1).astype(np.float32)
