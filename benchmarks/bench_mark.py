"""The invisible mark: what it costs, how often it is found after H.264, how often without cause.

    python -m benchmarks.bench_mark

Films are the example portraits, moved and with grain, 2 s at 256 x 256. The last line is JSON.
"""

import io
import json
import time
from pathlib import Path

import av
import numpy as np
from PIL import Image

from benchmarks.report import machine
from deploy.checkout import REPO
from live_avatar_client.protocol import Array
from live_avatar_client.provenance.mark import FOUND, Mark, coefficients

BITRATES = (1_000_000, 200_000)
"""Bits per second."""
SIDE, FRAMES, SECRETS = 256, 50, 6
CHANCES = 2000
"""Secrets that are looked for in films that bear none."""


def film(picture: Path, seed: int) -> Array:
    """A picture that drifts, breathes and has a camera's grain: uint8 RGB [T, H, W, 3]."""
    rng = np.random.default_rng(seed)
    large = Image.open(picture).convert("RGB").resize((SIDE + 16, SIDE + 16))
    still = np.asarray(large).astype(np.float32)
    frames = []
    for t in range(FRAMES):
        top, left = (int(8 + 7 * np.sin(t / speed)) for speed in (9, 13))
        view = still[top : top + SIDE, left : left + SIDE] * (1 + 0.03 * np.sin(t / 7))
        frames.append(view + rng.normal(0, 2, view.shape))
    return np.clip(frames, 0, 255).astype(np.uint8)


def through_h264(frames: Array, bitrate: int) -> tuple[Array, float]:
    """What a viewer sees of them, and the bits per second that it took."""
    written = io.BytesIO()
    with av.open(written, "w", format="mp4") as file:
        video = file.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        video.width, video.height, video.pix_fmt = SIDE, SIDE, "yuv420p"
        video.bit_rate = bitrate
        for picture in frames:
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(video.encode(None))
    rate = 8 * len(written.getvalue()) / (len(frames) / 25)
    written.seek(0)
    with av.open(written, "r") as made:
        seen = [frame.to_ndarray(format="rgb24") for frame in made.decode(video=0)]
    return np.stack(seen), rate


def secret(number: int) -> bytes:
    return f"secret number {number:08d}".encode()


def measure(num_secrets: int = SECRETS, chances: int = CHANCES) -> dict[str, object]:
    """The report."""
    pictures = sorted((REPO / "examples").glob("*.png"))
    films = [film(path, number) for number, path in enumerate(pictures)]
    report: dict[str, object] = {"benchmark": "mark", **machine(), "films": len(films)}
    mark = Mark(secret(0))
    mark.put(films[0][:1])
    began = time.perf_counter()
    marked = mark.put(films[0])
    report["ms_per_frame"] = round(1e3 * (time.perf_counter() - began) / FRAMES, 3)
    error = (marked.astype(float) - films[0]) ** 2
    report["psnr_db"] = round(float(10 * np.log10(255**2 / error.mean())), 1)
    for bitrate in BITRATES:
        scores, rates = [], []
        for number in range(num_secrets):
            one = Mark(secret(number))
            seen, rate = through_h264(one.put(films[number % len(films)]), bitrate)
            scores.append(one.score(seen))
            rates.append(rate)
        found = float(np.mean(np.array(scores) > FOUND))
        report[f"at_{bitrate // 1000}_kbit"] = {
            "found": found,
            "lowest_score": round(min(scores), 1),
            "median_score": round(float(np.median(scores)), 1),
            "kbit_per_s": round(float(np.mean(rates)) / 1000),
        }
    plain = [coefficients(through_h264(frames, BITRATES[0])[0]) for frames in films]
    chance = [Mark(secret(10_000 + n)).agreement(plain[n % len(plain)]) for n in range(chances)]
    report["without_a_mark"] = {
        "found": float(np.mean(np.array(chance) > FOUND)),
        "highest_score": round(max(chance), 1),
        "tries": chances,
    }
    return report


def main() -> None:
    report = measure()
    for name, value in report.items():
        print(f"{name:16} {value}")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
