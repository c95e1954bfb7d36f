from nemo_distill.console import console
from nemo_distill.progress import Meter, print_counts, shown_progress


def test_rate_and_time_left_leave_out_what_was_done_before(clock):
    meter = Meter(1000)
    assert str(meter) == ""
    meter.advance(400, 0)
    clock.now += 10
    meter.advance(500, 50)
    assert str(meter) == "5 lines/s, 0:00:50 left"
    clock.now += 10
    meter.advance(1000, 250)
    assert str(meter) == "15 lines/s, 0:00:00 left"


def test_where_there_is_no_terminal_a_line_is_logged_once_a_minute(clock, monkeypatch):
    said = []
    monkeypatch.setattr(console, "info", said.append)
    with shown_progress("translating", 100) as on_progress:
        for position in range(10, 100, 10):
            clock.now += 25
            on_progress(position, 1000)
    assert len(said) == 3 and said[0] == "translating: 30.0%, 40 lines/s, 0:02:55 left"


def test_only_one_process_shows_its_progress(clock, monkeypatch):
    said = []
    monkeypatch.setattr(console, "info", said.append)
    with shown_progress("translating", 100, shown=False) as on_progress:
        clock.now += 1000
        on_progress(50, 1)
    assert said == []


def test_a_bar_shows_rate_and_time_left(clock, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with shown_progress("translating", 100) as on_progress:
        clock.now += 10
        on_progress(50, 20)


def test_the_counts_are_shown_with_their_shares(capsys):
    print_counts("seed=[labels]/pseudo.src", {"kept": 3, "dropped: empty": 1}, 4)
    shown = capsys.readouterr().out
    assert "seed=[labels]/pseudo.src:" in shown and "75.00%" in shown and "dropped: empty" in shown
    print_counts("Labels", {}, 0)
