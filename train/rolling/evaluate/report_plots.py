"""The plots of an evaluation of text to video, each as a PNG in a data URI."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from train.evaluate.report_plots import Curves, band, finished, plt
from train.rolling.evaluate.score import AFTER_S

PANELS = {  # curve of a stream: what it is, and where it is perfect
    "words": ("share of asked words that are read", 1.0),
    "held": ("hair, cut and glasses as in the first 5 s", 1.0),
    "drift": ("worst region's drift, /255", 0.0),
    "sharpness": ("sharpness, grey levels", None),
    "change": ("change over 160 ms, grey levels", None),
    "flicker": ("flicker of the stillest pixels, /255", 0.0),
}


def over_time(streams: Curves) -> str:
    """The median of all streams of a model, and their middle half."""
    figure, axes = plt.subplots(2, 3, figsize=(14, 7), sharex=True)
    for axis, (name, (title, perfect)) in zip(np.ravel(axes), PANELS.items(), strict=True):
        for model, runs in streams.items():
            values = np.stack([run[f"piece_{name}"] for run in runs])
            band(axis, runs[0]["piece_second"], values, model)
        if perfect is not None:
            axis.axhline(perfect, color="#00000033", lw=1)
        axis.set_title(title, fontsize=9)
        axis.grid(alpha=0.3)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axis in axes[1]:
        axis.set_xlabel("seconds")
    axes[0, 0].legend(fontsize=8)
    return finished(figure)


def switches(changed: Curves) -> str:
    """How many streams show their changed words, second by second."""
    figure, axis = plt.subplots(figsize=(9, 3.4))
    for model, runs in changed.items():
        axis.plot(runs[0]["switch_second"], np.mean([run["switch_words"] for run in runs], 0),
                  label=model)  # fmt: skip
    axis.set(xlabel="seconds since the prompt changed", ylabel="share of changed words read",
             ylim=(-0.05, 1.05), xlim=(0, AFTER_S))  # fmt: skip
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return finished(figure)
