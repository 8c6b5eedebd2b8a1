"""What a report says of an earlier one: what moved, what is noise, what nobody can say."""

import pytest

from benchmarks.audit.comparing import compare, has_moved
from benchmarks.audit.figures import Figure, better, figures
from tests.benchmarks.audit.reports import report


def figure(low: float | None, high: float | None, runs: int = 3) -> Figure:
    value = 1.0 if low is None or high is None else (low + high) / 2
    return Figure(value=value, low=low, high=high, runs=runs)


def test_a_figure_is_the_median_of_its_runs_with_the_widest_spread() -> None:
    """A benchmark's own spread says more than three medians, when it is wider."""
    runs = [
        {"ratio": 1.0, "ratio_spread": [0.9, 1.1], "fps": 5},
        {"ratio": 1.2, "ratio_spread": [1.1, 1.3], "fps": 7},
        {"ratio": 1.1, "ratio_spread": [1.0, 1.2], "fps": 6},
    ]
    assert figures(runs) == {
        "ratio": Figure(value=1.1, low=0.9, high=1.3, runs=3),
        "fps": Figure(value=6.0, low=5.0, high=7.0, runs=3),
    }


@pytest.mark.parametrize("own", [{}, {"fps_spread": [5.0, 5.0]}])
def test_what_was_measured_once_has_no_spread(own: dict[str, list[float]]) -> None:
    """A range of one value would look like certainty, and everything beside it moved."""
    assert figures([{"fps": 5.0, **own}])["fps"].low is None


def test_rows_of_a_list_are_told_apart_and_settings_are_no_figures() -> None:
    """The load average moves all the time."""
    row = {"schedule": "lockstep", "ms_per_block": 3.0, "ms_per_block_low": 2.0}
    rows = [row | {"workers": count, "ms_per_block_high": 4.0} for count in (1, 2)]
    found = figures([{"load": 3.0, "cores": 2, "raw_ms": {"a": [1.0]}, "workers": {"sleep": rows}}])
    assert list(found) == [f"workers/sleep/lockstep/{n}/ms_per_block" for n in (1, 2)]
    assert found["workers/sleep/lockstep/2/ms_per_block"].text() == "3 (2 – 4)"


@pytest.mark.parametrize(
    ("old", "new", "moved"),
    [
        (figure(1.0, 1.1), figure(1.05, 1.2), False),
        (figure(1.0, 1.1), figure(1.15, 1.2), False),  # apart, by less than they are wide
        (figure(1.0, 1.1), figure(1.25, 1.3), True),
        (figure(1.25, 1.3), figure(1.0, 1.1), True),
        (figure(1.0, 1.1, 5), figure(1.15, 1.2, 5), True),  # many runs: apart is enough
        (figure(1.0, 1.1, 5), figure(1.15, 1.2, 4), False),
        (figure(None, None), figure(9.0, 9.1), None),
    ],
)
def test_ranges_that_lie_apart_have_moved(old: Figure, new: Figure, moved: bool | None) -> None:
    """Three runs lie apart by chance in one pair of ten."""
    assert has_moved(old, new) is moved


@pytest.mark.parametrize(
    ("path", "change", "word"),
    [
        ("fps", 1.0, "better"),
        ("client/2/frames_per_s", -1.0, "worse"),
        ("hops_ms/4 kB/p50", -1.0, "better"),
        ("ratio", 1.0, "worse"),
        ("live/av_offset_ms", 1.0, "moved"),
    ],
)
def test_a_move_is_called_better_or_worse_by_what_it_is_of(
    path: str, change: float, word: str
) -> None:
    """More frames are good news, more milliseconds are not."""
    assert better(path, change) == word


def test_a_report_equals_itself() -> None:
    """Anything that moves here is noise of the comparison."""
    found = compare(report(), report())
    assert (found.moves, found.remarks) == ([], [])
    assert found.within > 20


def test_a_slower_build_is_found_and_nothing_else() -> None:
    """The question that the whole report is for."""
    found = compare(report(), report((1.5, 1.51, 1.49)))
    moved = {(move.part.split("_")[0], move.path, move.word) for move in found.moves}
    assert moved == {
        ("demo", "fps", "worse"),
        ("demo", "ttff_ms", "worse"),
        ("orchestration", "ratio", "worse"),
    }


def test_what_cannot_be_compared_is_said_with_its_reason() -> None:
    """A figure that is silently left out looks like one that did not move."""
    old, new = report(), report(failed={"load": "no perf_analyzer"})
    new["machine"]["cpu"] = "B"
    new["parts"]["live"]["options"] = "--seconds 8"
    del old["parts"]["schedules"]
    assert compare(old, new).remarks == [
        "other machine: cpu A → B",
        "live is not compared: it ran with '', now with '--seconds 8'",
        "load is not compared: not measured in this report: no perf_analyzer",
        "schedules is not compared: the earlier report has no such part",
    ]


def test_figures_measured_once_are_counted_as_not_judged() -> None:
    """They may have moved."""
    found = compare(report((1.0,)), report((2.0,)))
    assert {move.path for move in found.moves} == {"ratio"}  # a run of it has a spread of its own
    assert found.unjudged > 10
