"""Who stands where in a picture: masks of several actors to the tokens that each one's sound moves.

A mask is fitted as the picture is. Each grows by a tenth of its box, and then an actor's sound
moves all that is no other actor's: so two of them share the background. (docs/method.md section 4)
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.config.avatar import PipelineConfig
from pipeline.pictures.pixels import Rgb
from pipeline.pictures.reference import PICTURE_FITS

GROWTH = 0.1
"""Share of its box's sides by which a mask grows."""
ASPECT_TOLERANCE = 0.02
Mask = NDArray[np.bool_]


def check_masks(masks: NDArray[np.uint8]) -> None:
    """ValueError for masks [actors, h, w] of which one is empty, or two have a pixel in common."""
    for actor, mask in enumerate(masks):
        if not mask.any():
            raise ValueError(f"actor_masks: that of actor {actor} covers nothing")
    for actor, mask in enumerate(masks):
        for other in range(actor):
            if common := int(np.count_nonzero((mask != 0) & (masks[other] != 0))):
                raise ValueError(
                    f"actor_masks: those of actors {other} and {actor} overlap in {common} pixels, "
                    "wanted none"
                )


def token_masks(
    masks: NDArray[np.uint8], size: tuple[int, int], config: PipelineConfig, fit: str = "cover"
) -> NDArray[np.float32]:
    """Masks [actors, h, w], not zero where an actor is, of a picture of `size` (height, width) ->
    [actors, S], 1 where a token is moved by an actor's sound. ValueError where the shape is not the
    picture's, or nothing is left of a mask in the video."""
    height, width = masks.shape[1:]
    if abs(width * size[0] / (height * size[1]) - 1) > ASPECT_TOLERANCE:
        raise ValueError(
            f"actor_masks are {width} x {height} pixels, the picture {size[1]} x {size[0]}: wanted "
            "that shape, in any size"
        )
    fitted = [_fitted(mask, config, fit) for mask in masks]
    for actor, mask in enumerate(fitted):
        if not mask.any():
            raise ValueError(
                f"actor_masks: nothing of actor {actor} is left where the picture is cut to the "
                f"video's {config.width} x {config.height} pixels"
            )
    grown = [_grown(mask) for mask in fitted]
    found = np.empty((len(masks), config.tokens_per_frame), np.float32)
    for actor in range(len(masks)):
        others = [mask for other, mask in enumerate(grown) if other != actor]
        own = ~np.logical_or.reduce(others) if others else np.ones_like(grown[actor])
        found[actor] = _tokens(own, config)
        if not found[actor].any():
            raise ValueError(f"actor_masks: the other actors leave no room to actor {actor}")
    return found


def _fitted(mask: NDArray[np.uint8], config: PipelineConfig, fit: str) -> Mask:
    rgb: Rgb = np.repeat(np.where(mask != 0, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    image = PICTURE_FITS[fit](rgb, config.height, config.width)
    return np.asarray(image[0, 0] > 0)


def _grown(mask: Mask) -> Mask:
    """The mask, larger by GROWTH of its box: half on each side."""
    for axis in (0, 1):
        there = np.flatnonzero(mask.any(axis=1 - axis))
        reach = round(GROWTH * (there[-1] - there[0] + 1) / 2)
        mask = _spread(mask, reach, axis)
    return mask


def _spread(mask: Mask, reach: int, axis: int) -> Mask:
    """True where the mask is within `reach` pixels along an axis."""
    width = [(reach + 1, reach) if number == axis else (0, 0) for number in (0, 1)]
    sums = np.cumsum(np.pad(mask.astype(np.int32), width), axis=axis)
    length, window = mask.shape[axis], 2 * reach + 1
    ends = np.take(sums, range(window, window + length), axis=axis)
    return np.asarray(ends > np.take(sums, range(length), axis=axis))


def _tokens(mask: Mask, config: PipelineConfig) -> NDArray[np.float32]:
    """[H, W] -> [S]: 1 where at least half of a token's pixels are in the mask."""
    rows, columns = config.token_grid
    parts = mask.reshape(rows, config.height // rows, columns, config.width // columns)
    tokens: NDArray[np.float32] = (parts.mean(axis=(1, 3)) >= 0.5).astype(np.float32)
    return tokens.reshape(-1)
