"""`python -m benchmarks.plan`: what it prints, and what it refuses."""

import json

import pytest
import typer
from typer.testing import CliRunner, Result

from benchmarks import plan
from benchmarks.planner.deployment import Deployment, changes, forecast
from benchmarks.planner.efficiency import SOFTWARE, TUNED
from benchmarks.planner.hardware import gpu_named
from networks.presets import PRESETS

DEMO = ("--preset", "demo", "--area", "96x96", "--steps", "4")


def command(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(plan.main)
    return CliRunner().invoke(app, arguments)


def planned(gpus: int, preset: str = "demo") -> Deployment:
    return Deployment(
        preset=PRESETS[preset],
        gpu=gpu_named("H100"),
        gpus=gpus,
        precision="bf16",
        efficiency=TUNED,
    )


def test_a_plan_prints_its_numbers_and_ends_with_json() -> None:
    result = command(*DEMO, "--sessions-per-hour", "6000")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["sessions"] == min(found["sessions_by_memory"], found["sessions_by_time"])
    assert found["fps"] <= found["fps_denoising"]
    sizes = {row["servers"]: row["refused"] for row in found["cluster"]["sizes"]}
    assert sizes[found["cluster"]["wanted"]] <= 0.01


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--gpu", "H77"), "no GPU 'H77' is known, known are A100, L40S, H100, H800"),
        (("--gpu", "A100", "--precision", "fp8"), "A100 has no fp8 units, it has bf16, fp16"),
        (("--gpus", "6"), "6 GPUs for 4 steps, wanted 1..5"),
        (("--area", "large"), "area is 'large', wanted two numbers of pixels such as 720x400"),
        (("--software", "ours"), "software is 'ours', wanted one of release, tuned"),
        (("--price", "-1"), "price is -1.0, wanted 0 or more"),
        (("--sessions-per-hour", "-5"), "per_hour is -5.0, wanted above 0"),
    ],
)
def test_what_cannot_be_planned_is_said_in_one_line(arguments: tuple[str, str], words: str) -> None:
    result = command(*DEMO, *arguments)
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert words in result.stderr
    assert result.stderr.startswith("error: ")


def test_a_name_of_a_gpu_may_be_spelt_in_any_way() -> None:
    assert gpu_named("rtx 4090") is gpu_named("RTX-4090")


def test_an_area_is_the_size_that_the_release_takes() -> None:
    assert plan.size_within("720x400") == "704x384"


def test_the_memory_is_that_of_gpu_plan() -> None:
    """One table, not two."""
    rows = planned(5, "14b").memory()
    assert [row.sessions for row in rows][:4] == [3, 3, 3, 3]  # docs/deploy.md, bf16 on 5 GPUs
    assert all(row.busy is None for row in rows)


def test_fewer_gpus_take_longer_for_a_block() -> None:
    """The period is the busiest GPU's work."""
    periods = [12 / forecast(planned(gpus), 0.48).fps for gpus in (5, 3, 1)]
    for gpus, period in zip((5, 3, 1), periods, strict=True):
        stations = planned(gpus).stations()
        work = [sum(s.seconds for s in stations if s.device == d) for d in range(gpus)]
        assert period == pytest.approx(max(work), rel=0.02)
    assert periods == sorted(periods)


def test_changes_are_one_thing_at_a_time_and_possible() -> None:
    found = changes(planned(5), SOFTWARE)
    assert set(found) == {"--precision fp8", "--gpus 4", "--software release"}
    assert set(changes(planned(1), SOFTWARE)) >= {"--gpus 2", "--steps 3"}
    assert "--gpus 0" not in changes(planned(1), SOFTWARE)
