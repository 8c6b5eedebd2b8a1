"""Pictures of scenes for one's own eyes, each with its caption.

python -m train.scenes.preview contact.png [--split dev] [--seed 100]
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from train.scenes.clips import SIZE, draw
from train.scenes.motion import FPS
from train.scenes.scene import scene
from train.scenes.words import caption
from train.world.clips import SPLITS

SHOWN = 12  # frames of a scene, half a second apart
TITLE = 14


def row(frames: list[np.ndarray], title: str, scale: int = 1) -> np.ndarray:
    """Frames uint8 [S, S, 3] side by side under a title."""
    strip = np.concatenate(frames, 1).repeat(scale, 0).repeat(scale, 1)
    head = Image.new("RGB", (strip.shape[1], TITLE), "white")
    ImageDraw.Draw(head).text((2, 1), title, "black")
    return np.concatenate([np.asarray(head), strip])


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw a contact sheet of scenes.")
    parser.add_argument("picture", type=Path, help="the sheet, as PNG")
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--seed", type=int, default=0, help="of the first scene")
    parser.add_argument("--scenes", type=int, default=12)
    args = parser.parse_args()
    rows = []
    for seed in range(args.seed, args.seed + args.scenes):
        made = scene(seed, args.split)
        frames = draw(made, SHOWN * FPS // 2, SIZE).frames[:: FPS // 2]
        rows.append(row(list(frames), caption(made.words)))
    args.picture.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(args.picture, optimize=True)
    print(args.picture)


if __name__ == "__main__":
    main()
