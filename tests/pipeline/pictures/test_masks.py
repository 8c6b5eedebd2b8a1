"""Masks of several actors to the tokens that each one's sound moves."""

import dataclasses

import numpy as np
import pytest

from pipeline.pictures.masks import check_masks, token_masks
from tests.support.fake_executor import CONFIG

CONFIG = dataclasses.replace(CONFIG, height=128, width=128)
SIDE = CONFIG.token_grid[0]


def half(left: bool, height: int = 100, width: int = 100) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    columns = slice(0, width * 3 // 10) if left else slice(width * 7 // 10, width)
    mask[:, columns] = 1
    return mask


def grids(masks: np.ndarray, size: tuple[int, int] = (100, 100), fit: str = "cover") -> np.ndarray:
    return token_masks(masks, size, CONFIG, fit).reshape(-1, SIDE, SIDE)


def test_a_mask_is_all_that_is_no_other_actors() -> None:
    """The rule of the release: both move the background between them, neither moves the other."""
    first, second = grids(np.stack([half(True), half(False)]))
    assert first[:, 0].all()
    assert not first[:, -1].any()
    assert second[:, -1].all()
    assert not second[:, 0].any()
    middle = slice(SIDE // 2 - 1, SIDE // 2 + 1)
    assert first[:, middle].all()
    assert second[:, middle].all()
    assert np.array_equal(first, second[:, ::-1])


def test_any_size_of_the_pictures_shape_gives_the_same_tokens() -> None:
    """Masks come from segmentation at its own resolution."""
    small = grids(np.stack([half(True), half(False)]))
    large = grids(np.stack([half(True, 400, 400), half(False, 400, 400)]))
    np.testing.assert_array_equal(small, large)


def test_a_mask_grows_by_a_tenth_of_its_box() -> None:
    """A mouth at the mask's edge belongs to its owner."""
    masks = np.zeros((2, 128, 128), np.uint8)
    masks[0, :, :16] = 1
    masks[1, 16:112, 57:] = 1  # 71 wide: four pixels more to the left
    first, second = grids(masks, (128, 128))
    pixels = 128 // SIDE
    assert pixels == 16
    assert not first[3, 57 // pixels]  # 11 of 16 are the second one's, of 7 that were
    assert first[3, 57 // pixels - 1]
    assert first[0, -1]  # 96 high: five pixels more are no half of a token
    assert not second[:, 0].any()


def test_masks_are_cut_and_barred_as_their_picture() -> None:
    """A mask beside its actor moves the wall."""
    wide = np.zeros((2, 100, 300), np.uint8)
    wide[0, :, 100:140], wide[1, :, 160:200] = 1, 1  # the square in the middle is what is seen
    first, second = grids(wide, (100, 300))
    assert first[:, 0].all()
    assert not second[:, 0].any()
    assert second[:, -1].all()
    assert not first[:, -1].any()
    outside = wide.copy()
    outside[1] = 0
    outside[1, :, :50] = 1
    with pytest.raises(ValueError, match="nothing of actor 1 is left where the picture is cut"):
        grids(outside, (100, 300))


def test_masks_that_say_nothing_or_contradict_each_other_are_refused() -> None:
    """The server would guess."""
    masks = np.stack([half(True), half(False)])
    with pytest.raises(ValueError, match="100 x 100 pixels, the picture 200 x 100"):
        grids(masks, (100, 200))
    with pytest.raises(ValueError, match="that of actor 1 covers nothing"):
        check_masks(np.stack([half(True), np.zeros((100, 100), np.uint8)]))
    with pytest.raises(ValueError, match="actors 0 and 1 overlap in 3000 pixels"):
        check_masks(np.stack([half(True), half(True)]))
    check_masks(masks)


def test_an_actor_who_is_surrounded_has_no_room() -> None:
    """He would never move, whatever he says."""
    masks = np.zeros((2, 128, 128), np.uint8)
    masks[1] = 1
    masks[:, 60:62, 60:62] = [[[1]], [[0]]]
    with pytest.raises(ValueError, match="leave no room to actor 0"):
        grids(masks, (128, 128))
