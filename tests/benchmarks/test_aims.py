"""What benchmarks say of their aims."""

from benchmarks.aims import print_aims


def test_each_aim_says_what_was_found_and_whether_it_was_met(capsys):
    print_aims({"time_over_floor": 1.5, "speed": 3.0}, {"time_over_floor": ("at most", 1.4), "speed": ("at least", 3)})
    assert capsys.readouterr().out.split("\n")[1:3] == [
        "- time over floor: 1.5 (aim: at most 1.4): **not met**",
        "- speed: 3 (aim: at least 3): met",
    ]
