"""Models that live and do not answer."""

from deploy.server.heartbeats import BEAT_S, CALL_S, Heartbeats


def page(count: int, age_s: float) -> str:
    return (
        "# HELP avatar_heartbeats_total Updates of these figures.\n"
        f'avatar_heartbeats_total{{model="live_avatar"}} {count}\n'
        f'avatar_call_seconds{{called="dit_stage_0",model="live_avatar"}} {age_s}\n'
        'avatar_call_seconds{called="vae_decoder",model="live_avatar"} 0\n'
    )


def test_a_call_that_never_returns_names_the_model_that_was_called() -> None:
    """Its sessions would wait for ever, and every endpoint say that all is well."""
    beats = Heartbeats()
    assert beats.silent(page(1, CALL_S), 0.0) == {}
    assert beats.silent(page(2, CALL_S + 5), 5.0) == {"dit_stage_0": "has not answered for 65 s"}


def test_a_public_model_that_counts_no_more_is_silent() -> None:
    """Nobody calls it, so nobody would find out."""
    beats = Heartbeats()
    for second in range(100):
        assert beats.silent(page(second, 0), float(second)) == {}
    assert beats.silent(page(99, 0), 99 + BEAT_S) == {}
    assert list(beats.silent(page(99, 0), 100 + BEAT_S)) == ["live_avatar"]
    assert beats.silent(page(99, 0), 101 + BEAT_S) == {}  # said once


def test_a_model_that_was_loaded_anew_has_its_time() -> None:
    """Its figures stand still for as long as it loads."""
    beats = Heartbeats()
    beats.silent(page(7, 0), 0.0)
    beats.forget("live_avatar")
    assert beats.silent(page(7, 0), 1000.0) == {}
    assert list(beats.silent(page(7, 0), 1001 + BEAT_S)) == ["live_avatar"]


def test_a_page_without_our_figures_says_nothing() -> None:
    """While a server starts, and of another program."""
    assert Heartbeats().silent("", 0.0) == {}
    assert Heartbeats().silent('nv_gpu{gpu="0"} 1\n', 0.0) == {}
