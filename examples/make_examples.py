"""Draw the portraits and speak speech.flac, the inputs of the first run.

    python -m examples.make_examples portraits    # needs torch
    python -m examples.make_examples pair         # of two portraits, with their masks
    python -m examples.make_examples speech       # needs espeak-ng on the PATH

All results are committed; this script is for whoever wants other faces or another sentence. The
faces are of the test split: the demo avatar has never seen them, nor heard the voice.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

FOLDER = Path(__file__).parent
FACES = {"portrait": 13, "portrait_2": 10, "portrait_3": 25}
"""Files, and the seeds of their characters."""
SIDE = 512
"""Of the file, in pixels."""

PAIR = {"left": "portrait", "right": "portrait_3"}
"""Who stands where in two/picture.png."""

TEXT = (
    "Hello! I am a drawing that has learned to talk. "
    "Every sound you hear moves my lips, block after block, "
    "for as long as you keep me company."
)
VOICE, WORDS_PER_MINUTE, RATE = "en-us+f3", 150, 16_000


def portrait(seed: int) -> Image.Image:
    """A character of the drawn world, silent, as large as a photograph."""
    from train.preset import SIZE
    from train.world.clips import clip

    seen = clip(seed, 1, SIZE, "test", kind="silence").reference
    return Image.fromarray(seen).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def pair() -> dict[str, Image.Image]:
    """Two portraits side by side, and a mask of each: light where he or she is."""
    together = Image.new("RGB", (SIDE, SIDE))
    drawn, half = {"two/picture": together}, SIDE // 2
    for place, (side, name) in enumerate(PAIR.items()):
        with Image.open(FOLDER / f"{name}.png") as portrait:
            cut = portrait.convert("RGB").crop((half // 2, 0, half // 2 + half, SIDE))
        together.paste(cut, (half * place, 0))
        mask = drawn[f"two/{side}"] = Image.new("L", (SIDE, SIDE))
        box = half * place + half // 8, SIDE // 8, half * (place + 1) - half // 8, SIDE
        ImageDraw.Draw(mask).rounded_rectangle(box, radius=half // 3, fill=255)
    return drawn


def speak() -> np.ndarray:
    """int16 [samples], mono 16 kHz, without the silence that the synthesiser puts around."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as wav:
        command = ["espeak-ng", "-v", VOICE, "-s", str(WORDS_PER_MINUTE), "-w", wav.name, TEXT]
        subprocess.run(command, check=True)
        with av.open(wav.name) as container:
            resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
            frames = [f for packet in container.decode(audio=0) for f in resampler.resample(packet)]
            frames += resampler.resample(None)
    samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    loud = np.flatnonzero(np.abs(samples) > 300)
    pause = RATE // 5
    return samples[max(0, loud[0] - pause) : loud[-1] + 2 * pause]


def write_flac(samples: np.ndarray, path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def main() -> None:
    wanted = sys.argv[1:]
    if not wanted or not {"portraits", "pair", "speech"}.issuperset(wanted):
        sys.exit(__doc__)
    if "portraits" in wanted:
        for name, seed in FACES.items():
            portrait(seed).save(FOLDER / f"{name}.png", optimize=True)
    if "pair" in wanted:
        for name, picture in pair().items():
            picture.save(FOLDER / f"{name}.png", optimize=True)
    if "speech" in wanted:
        write_flac(speak(), FOLDER / "speech.flac")


if __name__ == "__main__":
    main()
