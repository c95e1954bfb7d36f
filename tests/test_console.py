import io
import re
import sys

from nemo_distill.console import print_list, print_table, set_up_console


def test_a_cell_is_shown_as_it_is(capfd):
    print_table(["training", "[best]"], [["model_path=[a.nemo,b.nemo]", "1"]], "runs/[seed]")
    printed = capfd.readouterr().out
    assert all(text in printed for text in ("model_path=[a.nemo,b.nemo]", "[best]", "runs/[seed]"))


def test_a_cell_holds_no_emoji_that_it_only_seems_to_name(capfd):
    print_table(["training", ":x:"], [["data=a:on:b\\", "[b]"]], "runs/:soon:")
    printed = capfd.readouterr().out
    assert all(text in printed for text in ("data=a:on:b\\ ", ":x:", "[b]", "runs/:soon:")), printed


def shown(capfd, monkeypatch, columns):
    """The lines that a terminal of so many columns shows, without their style."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich take the output for a terminal
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table(["system", "BLEU", "parameters", "sentences/s"], [["teacher_int8", "40.13", "1,056,232", "1,194.3"]])
    print_list(
        "Findings",
        ["A sentence that is\n  longer than a line of the terminal.", "No line ends inside of the number 100 %."],
    )
    return re.sub(r"\x1b\[[0-9;]*m", "", capfd.readouterr().out).splitlines()


def test_a_terminal_that_is_too_narrow_shows_several_tables_of_whole_cells(capfd, monkeypatch):
    lines = shown(capfd, monkeypatch, 40)
    assert max(map(len, lines)) <= 40
    cells = [cell for line in lines for cell in re.split(r"[│┃]", line)]
    assert [cell.strip() for cell in cells].count("teacher_int8") == 2
    for cell in ("system", "40.13", "parameters", "1,056,232", "sentences/s", "1,194.3"):
        assert cell in [one.strip() for one in cells]
    assert lines[-6:] == [
        "Findings",
        "- A sentence that is longer than a line",
        "  of the terminal.",
        "- No line ends inside of the number",
        "  100 %.",
        "",
    ]


def test_a_wide_terminal_shows_one_table(capfd, monkeypatch):
    lines = shown(capfd, monkeypatch, 120)
    assert sum("teacher_int8" in line for line in lines) == 1
    assert "- A sentence that is longer than a line of the terminal." in lines


def test_what_a_locale_has_no_character_for_is_still_told(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    set_up_console()
    print_list("Größe", ["a – b"])
    sys.stdout.flush()
    assert sys.stdout.buffer.getvalue().decode("latin-1") == "Größe\n- a \\u2013 b\n\n"


def test_no_line_ends_in_a_command_that_is_to_be_copied(capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    command = "'+models.student={model: student.nemo, role: distilled}'"
    print_list("Findings", [f"The teacher's and the students' gap is not known; say it by {command}."])
    assert f"\n  {command}.\n" in capfd.readouterr().out
