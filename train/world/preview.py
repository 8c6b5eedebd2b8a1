"""Pictures of the data for one's own eyes: many faces, all moods, all mouths, and one clip.

python -m train.world.preview contact.png [--split dev] [--seed 100]
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from train.preset import SIZE
from train.world.clips import SPLITS, clip, identity_seed
from train.world.identity import identity
from train.world.motion import MOODS, Mouth, Pose, head_motion, still_expression, still_pose
from train.world.render import render

COLUMNS = 12
MOUTHS = (  # opening, width, roundness: shapes that speech passes through
    (0.00, 0.50, 0.00),  # m, silence
    (0.14, 0.80, 0.00),  # s
    (0.35, 0.95, 0.00),  # ee
    (0.60, 0.75, 0.00),  # eh
    (1.00, 0.55, 0.00),  # ah
    (0.75, 0.35, 0.45),  # aw
    (0.45, 0.15, 0.80),  # oh
    (0.22, 0.05, 1.00),  # oo
)


def _drawn(
    key: int, size: int, mood: str, mouth: tuple[float, ...] = MOUTHS[0], pose: Pose | None = None
) -> np.ndarray:
    """uint8 [S, S, 3]: a character, at rest if no `pose` is given."""
    opening, width, roundness = (np.full(1, value, np.float32) for value in mouth)
    shape = Mouth(opening=opening, width=width, roundness=roundness)
    who, expression = identity(key), still_expression()
    return render(who, pose or still_pose(), expression, shape, mood, size).frames[0]


def _sheet(pictures: list[np.ndarray], columns: int) -> np.ndarray:
    blank = [np.full_like(pictures[0], 255)] * (-len(pictures) % columns)
    rows = np.stack([*pictures, *blank]).reshape(-1, columns, *pictures[0].shape)
    return np.concatenate(np.concatenate(rows, 1), 1)


def write_contact_sheet(path: Path, split: str, seed: int, size: int) -> None:
    """Faces in their clips' moods and poses, then four of them with every mood and mouth, then
    consecutive frames of one clip."""
    keys = [identity_seed(seed + i, split) for i in range(4 * COLUMNS)]
    moods = list(MOODS)
    faces = [
        _drawn(key, size, moods[i % 5], MOUTHS[i * 3 % 8], head_motion(key, 1))
        for i, key in enumerate(keys)
    ]
    for key in keys[:4]:
        faces += [_drawn(key, size, mood) for mood in moods[1:]]
        faces += [_drawn(key, size, "neutral", mouth) for mouth in MOUTHS]
    take = clip(seed, 50 + 2 * COLUMNS, size, split).frames[50:]
    sheet = _sheet([*faces, *take], COLUMNS)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw a contact sheet of the drawn world.")
    parser.add_argument("picture", type=Path, help="the sheet, as PNG")
    parser.add_argument("--size", type=int, default=SIZE, help="side of a picture in pixels")
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--seed", type=int, default=0, help="of the first clip")
    args = parser.parse_args()
    write_contact_sheet(args.picture, args.split, args.seed, args.size)
    print(args.picture)


if __name__ == "__main__":
    main()
