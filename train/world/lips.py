"""From a waveform to a mouth: opening, width and roundness of every video frame.

Any sound drives the truth. The steps: short spectra every 5 ms; how loud the band of vowels is,
against the loudest of the clip; how voiced it is; where the first two formants lie (as centroids of
the smoothed spectrum); and muscles, that is smoothing. F1 opens the jaw; a high F2 spreads the
lips, a low one rounds them, as in textbooks; the numbers were chosen by eye and ear.

N samples at 16 kHz   H hops   T video frames = N / 640, frame k shows samples [640 k, 640 (k+1))
"""

import numpy as np

from train.world.motion import FPS, Mouth, Voice

Array = np.ndarray

RATE = 16_000
SAMPLES_PER_FRAME = 640
HOP = 80
WINDOW = 512
HOPS_PER_FRAME = SAMPLES_PER_FRAME // HOP
QUIETEST_LEVEL = 0.01  # RMS (-40 dB) below which the loudest part of a clip does not count as sound
CHUNK_HOPS = 2000  # hops analysed at a time, which bounds the memory
HEARING_DECIBELS = (-56, -46)  # below the first lips stay closed at any level; above the second not
SMOOTHING_HOPS = 24  # half length, 120 ms: lips make four to five gestures a second
RELEASE = 0.88  # share of the opening that is left one hop later when the sound stops at once


def _band(frequency: Array, low: float, high: float, slope: float) -> Array:
    """Weights of a band with soft edges, Hz."""
    rise = np.clip((frequency - low) / slope + 0.5, 0, 1)
    return rise * np.clip((high - frequency) / slope + 0.5, 0, 1)


def _windows(samples: Array, length: int) -> Array:
    """[H, length] around the middle of every hop, silence beyond the ends; a view."""
    padded = np.pad(np.asarray(samples, np.float32), (length // 2 - HOP // 2, length))
    return np.lib.stride_tricks.sliding_window_view(padded, length)[::HOP][: len(samples) // HOP]


def _spectra(windows: Array) -> tuple[Array, Array]:
    """Power [H, bins], and the bins' frequencies."""
    shape = np.hanning(WINDOW).astype(np.float32)
    power = np.abs(np.fft.rfft(windows * shape)) ** 2 / ((shape**2).sum() * WINDOW / 2)
    return power.astype(np.float32), np.fft.rfftfreq(WINDOW, 1 / RATE)


def _voicing(windows: Array) -> Array:
    """[H] in [0, 1]: the highest autocorrelation at a lag of 2.5 to 13 ms."""
    length = windows.shape[1]
    shape = np.hanning(length).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(windows * shape, 2 * length)) ** 2
    spectrum *= _band(np.fft.rfftfreq(2 * length, 1 / RATE), 80, 1500, 60)
    likeness = np.fft.irfft(spectrum)
    bias = np.fft.irfft(np.abs(np.fft.rfft(shape, 2 * length)) ** 2)
    lags = slice(40, 210)
    peak = (likeness[:, lags] / (bias[lags] / bias[0])).max(1)
    return np.clip(peak / (likeness[:, 0] + 1e-9), 0, 1)


def _centroid(power: Array, frequency: Array, low: float, high: float, exponent: float) -> Array:
    """Mean frequency [H] of a band; the higher the exponent, the more its peak decides."""
    weight = power**exponent * _band(frequency, low, high, 100)
    return (weight * frequency).sum(1) / (weight.sum(1) + 1e-9)


def _smooth(curve: Array, half: int) -> Array:
    """A zero-lag average over 2 * half + 1 hops."""
    kernel = np.hanning(2 * half + 3)[1:-1]
    padded = np.pad(curve, half, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), "valid")


def _ramp(value: Array, low: float | Array, high: float | Array) -> Array:
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _decibels(amplitude: Array) -> Array:
    return 20 * np.log10(amplitude + 1e-5)


def _released(curve: Array) -> Array:
    """Falls no faster than a muscle lets go."""
    result = curve.copy()
    for i in range(1, len(result)):
        result[i] = max(result[i], RELEASE * result[i - 1])
    return result


def _measured(samples: Array) -> Array:
    """[6, H]: loudness of vowels, of hiss, share of sh in it, voicing, centroids near F1 and F2."""
    short, long = _windows(samples, WINDOW), _windows(samples, 2 * WINDOW)
    pieces = []
    for start in range(0, len(short), CHUNK_HOPS):
        hops = slice(start, start + CHUNK_HOPS)
        power, frequency = _spectra(short[hops])
        loud = [
            np.sqrt((power * _band(frequency, low, high, 150)).sum(1))
            for low, high in ((430, 3600), (3800, 7800), (1800, 3600), (4500, 7800))
        ]
        first = _centroid(power, frequency, 250, 1050, 1.0)
        second = _centroid(power, frequency, 900, 2700, 0.5)
        hush = loud[2] / (loud[3] + 1e-9)
        pieces.append(np.stack([loud[0], loud[1], hush, _voicing(long[hops]), first, second]))
    return np.concatenate(pieces, 1)


def _targets(samples: Array) -> tuple[Array, Array, Array]:
    """Opening, width and roundness [H] before the muscles."""
    vowel, hiss, hush, periodic, first, second = _measured(samples)
    level = max(np.percentile(vowel, 95), QUIETEST_LEVEL)
    audible = _ramp(_decibels(np.hypot(vowel, hiss)), *HEARING_DECIBELS)
    gate = _ramp(_decibels(vowel / level), -27, -5) * (0.10 + 0.90 * _ramp(periodic, 0.5, 0.8))
    sibilant = _ramp(_decibels(hiss / level), -26, -8) * _ramp(hiss / (vowel + 1e-9), 0.4, 1.2)
    hushed = _ramp(hush, 0.6, 1.6)
    jaw = _ramp(first, 380, 710)
    middle = 1930 - 520 * jaw  # between front and back vowels, lower for open ones
    back = 1 - _ramp(second, middle - 330, middle + 60)
    front = _ramp(second, middle - 90, middle + 320)
    hissing = sibilant * (1 - gate)
    opening = audible * (gate * (0.36 + 0.64 * jaw) + 0.16 * hissing)
    roundness = gate * back * (1 - 0.7 * jaw) + 0.6 * hushed * hissing
    spread = gate * front * (1 - 0.4 * jaw) + 0.6 * (1 - hushed) * hissing
    return opening, 0.5 + 0.5 * spread - 0.5 * roundness, roundness


def mouth_curve(samples: Array, num_frames: int | None = None) -> Mouth:
    """The mouth of each of T `num_frames`, N / 640 rounded up if None; `samples` are float [N] in
    [-1, 1], what is missing of the last frame is silence."""
    if num_frames is None:
        num_frames = -(-len(samples) // SAMPLES_PER_FRAME)
    wanted = num_frames * SAMPLES_PER_FRAME
    samples = np.pad(np.asarray(samples, np.float32)[:wanted], (0, max(0, wanted - len(samples))))
    opening, width, roundness = _targets(samples)
    opening = _smooth(_released(opening), SMOOTHING_HOPS)
    width, roundness = _smooth(width, SMOOTHING_HOPS + 2), _smooth(roundness, SMOOTHING_HOPS + 2)
    middle = [
        c.reshape(num_frames, HOPS_PER_FRAME)[:, 3:5].mean(1) for c in (opening, width, roundness)
    ]
    opening, width, roundness = (np.clip(c, 0, 1).astype(np.float32) for c in middle)
    opening = np.where(opening < 0.015, 0, opening)
    return Mouth(opening=opening, width=width, roundness=roundness)


def _trailing(curve: Array, seconds: float) -> Array:
    """An average [T] of the past that forgets within `seconds`; before the first frame it is 0."""
    kernel = np.exp(-np.arange(round(6 * seconds * FPS)) / (seconds * FPS))
    return np.convolve(curve, kernel / kernel.sum())[: len(curve)]


def _swell(curve: Array) -> Array:
    """[T]: how far the last half second was above the last two."""
    recent = _trailing(_trailing(curve, 0.4), 0.4)
    return recent - _trailing(recent, 1.0)


def voice_curves(mouth: Mouth) -> Voice:
    """How the sound of a mouth moves the rest of the face: nothing but the sound decides."""
    kernel = np.hanning(15)
    padded = np.pad(mouth.opening, 7)
    stress = np.convolve(padded, kernel / kernel.sum(), "valid")
    lean, sway = (
        scale * _swell(curve) for curve, scale in ((mouth.opening, 15.0), (mouth.width - 0.5, 27.0))
    )
    curves = (stress, 2 * np.tanh(lean / 2), 2 * np.tanh(sway / 2))
    stress, lean, sway = (c.astype(np.float32) for c in curves)
    return Voice(stress=stress, lean=lean, sway=sway)
