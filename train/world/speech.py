"""Sound for the clips: voices, noise, music and silence, 16 kHz mono.

The voices are those of espeak-ng (GPL-3; the program is called, not linked or shipped, and what it
speaks is free of its licence). No voice and no sentence is in two splits.
"""

import io
import subprocess
import tomllib
import wave
from functools import lru_cache
from pathlib import Path

import numpy as np

Array = np.ndarray

RATE = 16_000
SPEECH_LEVEL = 0.07  # RMS of speech where it is loud, -23 dB; clips are up to 3 dB louder or softer

TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
SENTENCES, KINDS = TABLES["sentences"], tuple(TABLES["kinds"])
KIND_WEIGHTS = tuple(TABLES["kinds"].values())


def voices(split: str) -> list[str]:
    """espeak-ng names of the voices of a split: the variant decides, accents are shared."""
    return [f"{a}+{v}" for v in TABLES["variants"][split].split() for a in TABLES["accents"]]


def resample(samples: Array, rate: int) -> Array:
    """To 16 kHz, with all that lies below 8 kHz; for short pieces that begin and end in silence."""
    wanted = round(len(samples) * RATE / rate)
    spectrum = np.fft.rfft(samples)
    kept = np.zeros(wanted // 2 + 1, spectrum.dtype)
    shared = min(len(kept), len(spectrum))
    kept[:shared] = spectrum[:shared]
    return (np.fft.irfft(kept, wanted) * (wanted / len(samples))).astype(np.float32)


@lru_cache(maxsize=256)
def spoken(voice: str, sentence: str, words_per_minute: int, pitch: int) -> Array:
    """One sentence, float32 [n], without the silence around it; RuntimeError if espeak-ng is not
    installed, or does not know the voice."""
    command = ["espeak-ng", "-v", voice, "-s", str(words_per_minute), "-p", str(pitch), "--stdout"]
    try:
        done = subprocess.run([*command, sentence], capture_output=True, check=True)
    except FileNotFoundError:
        raise RuntimeError("speech needs the program espeak-ng (apt install espeak-ng)") from None
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"espeak-ng, voice {voice}: {error.stderr.decode().strip()}") from None
    header = io.BytesIO(done.stdout)
    with wave.open(header) as stream:
        rate = stream.getframerate()
        # A piped header states no length: read what came.
        raw = done.stdout[44:] if stream.getnframes() > 1 << 28 else stream.readframes(1 << 28)
    samples = np.frombuffer(raw[: len(raw) // 2 * 2], np.int16) / np.float32(32768)
    samples = resample(samples, rate)
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    if not len(loud):
        raise RuntimeError(f"espeak-ng, voice {voice}: said nothing for {sentence!r}")
    return samples[max(0, loud[0] - 160) : loud[-1] + 320]


def _levelled(samples: Array) -> Array:
    """Its loud parts at `SPEECH_LEVEL`."""
    hops = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    level = np.percentile(np.sqrt((hops**2).mean(1)), 80)
    return samples * (SPEECH_LEVEL / (level + 1e-9))


def speech(rng: np.random.Generator, num_samples: int, split: str) -> tuple[Array, str]:
    """Sentences of one voice with pauses between them, and the voice's name."""
    names, sentences = voices(split), SENTENCES[split]
    voice = names[int(rng.integers(len(names)))]
    speed, pitch = int(rng.integers(115, 190)), int(rng.integers(25, 75))
    pieces, length = [np.zeros(int(rng.uniform(0, 0.5) * RATE), np.float32)], 0
    skip = int(rng.integers(0, 2 * RATE)) if rng.random() < 0.5 else 0  # start amid a sentence
    while length < num_samples + skip:
        sentence = sentences[int(rng.integers(len(sentences)))]
        pause = np.zeros(int(rng.uniform(0.15, 0.9) * RATE), np.float32)
        pieces += [_levelled(spoken(voice, sentence, speed, pitch)), pause]
        length = sum(map(len, pieces))
    samples = np.concatenate(pieces)[skip : skip + num_samples]
    return samples * np.float32(10 ** (rng.uniform(-3, 3) / 20)), voice


def noise(rng: np.random.Generator, num_samples: int) -> Array:
    """Hiss or rumble, swelling slowly; RMS about 0.03."""
    white = np.fft.rfft(rng.normal(size=num_samples))
    frequency = np.fft.rfftfreq(num_samples, 1 / RATE)
    tilt = rng.uniform(-0.2, 1.2)
    white *= (1 + frequency / 200) ** -tilt * (frequency > 30)
    hiss = np.fft.irfft(white, num_samples)
    t = np.arange(num_samples) / RATE
    swell = 1 + 0.6 * np.sin(2 * np.pi * (rng.uniform(0.1, 0.6) * t + rng.random()))
    hiss *= swell
    return (0.03 * hiss / (hiss.std() + 1e-9)).astype(np.float32)


def music(rng: np.random.Generator, num_samples: int) -> Array:
    """Plucked chords with a beat; RMS about 0.04."""
    t = np.arange(num_samples) / RATE
    beat = rng.uniform(0.35, 0.7)
    result = np.zeros(num_samples)
    root = 110 * 2 ** (rng.integers(12) / 12)
    for i in range(int(num_samples / RATE / beat) + 1):
        chord = root * 2 ** (rng.choice([0, 5, 7, 9]) / 12)
        start = min(int(i * beat * RATE), num_samples)
        local = t[start : start + 2 * RATE] - i * beat
        for third in (0, 4, 7, 12):
            tone = chord * 2 ** (third / 12)
            for harmonic in (1, 2, 3):
                wave_ = np.sin(2 * np.pi * tone * harmonic * local + rng.uniform(0, 6))
                pluck = np.exp(-local * (2 + harmonic)) * np.clip(local / 0.01, 0, 1)
                result[start : start + len(local)] += wave_ * pluck / harmonic**1.5
    return (0.04 * result / (result.std() + 1e-9)).astype(np.float32)


def sound(
    seed: int, num_samples: int, split: str, kind: str | None = None
) -> tuple[Array, str, str]:
    """Samples float32 [n] in [-1, 1], their kind (drawn if None) and the voice ("" for none)."""
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind of sound is {kind!r}, expected one of {KINDS}")
    rng = np.random.default_rng([seed, 0x50])
    drawn = KINDS[int(rng.choice(len(KINDS), p=KIND_WEIGHTS))]
    kind = drawn if kind is None else kind
    samples, voice = np.zeros(num_samples, np.float32), ""
    if kind.startswith("speech"):
        samples, voice = speech(rng, num_samples, split)
    if kind == "silence" and rng.random() < 0.5:  # a room is never quite silent
        samples = noise(rng, num_samples) * np.float32(10 ** rng.uniform(-2.5, -1.4))
    if kind in ("speech in noise", "noise"):
        samples = samples + noise(rng, num_samples) * (0.2 if voice else 1)
    if kind in ("speech over music", "music"):
        samples = samples + music(rng, num_samples) * (0.2 if voice else 1)
    return np.clip(samples, -1, 1).astype(np.float32), kind, voice
