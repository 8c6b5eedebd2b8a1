"""Make the pictures of the README.

    make demo && .venv/bin/python -m examples.make_pictures demo         # docs/demo.webp
    make gateway                                                         # and in another terminal
    .venv/bin/python -m examples.make_pictures gateway                   # docs/gateway.webp

The second one needs chromium on the PATH and what `make setup-browser` installs.
"""

import shutil
import sys
from pathlib import Path

import av
import typer
from PIL import Image

from export.commands import failing_in_words

FOLDER, DOCS = Path(__file__).parent, Path("docs")
SCALE, EVERY, MOST = 2, 2, 100  # enlarged by, of the video's frames, frames
VIEW, WIDTH, SPOKEN_S = (1200, 890), 1000, 9.0

app = typer.Typer(help=__doc__, add_completion=False)


@app.command()
@failing_in_words(OSError, av.FFmpegError)
def demo(video: Path = Path("out/demo.mp4"), out: Path = DOCS / "demo.webp") -> None:
    """The beginning of a video as a moving picture, without its sound."""
    with av.open(str(video)) as file:
        rate = file.streams.video[0].average_rate
        frames = [f.to_image() for f in file.decode(video=0)][: EVERY * MOST : EVERY]
    if not frames or not rate:
        raise OSError(f"{video} has no frames, make demo writes one")
    size = SCALE * frames[0].width, SCALE * frames[0].height
    first, *others = [f.resize(size, Image.Resampling.BICUBIC) for f in frames]
    lasts_ms = round(1000 * EVERY / float(rate))
    first.save(out, save_all=True, append_images=others, duration=lasts_ms, loop=0, quality=75)
    print(f"wrote {out}: {len(frames)} frames, {out.stat().st_size // 1000} kB")


@app.command()
@failing_in_words(OSError)
def gateway(url: str = "http://127.0.0.1:8080/", out: Path = DOCS / "gateway.webp") -> None:
    """The page of a running gateway while the face speaks."""
    from playwright.sync_api import Error, sync_playwright

    if (chromium := shutil.which("chromium")) is None:
        raise OSError("there is no browser: apt-get install chromium")
    shot = out.with_suffix(".png")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": VIEW[0], "height": VIEW[1]})
            page.goto(url)
            page.click("#start")
            page.wait_for_selector("body.shown", timeout=30_000)
            page.set_input_files("#sound-file", FOLDER / "speech.flac")
            page.wait_for_timeout(1000 * SPOKEN_S)
            page.screenshot(path=shot)
            browser.close()
    except Error as error:
        raise OSError(f"{url}: {error.message.splitlines()[0]}; is `make gateway` up?") from None
    with Image.open(shot) as picture:
        height = picture.height * WIDTH // picture.width
        picture.resize((WIDTH, height), Image.Resampling.LANCZOS).save(out, quality=85)
    shot.unlink()
    print(f"wrote {out}")


if __name__ == "__main__":
    sys.exit(app())
