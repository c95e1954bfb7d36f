"""Tables that the documentation takes over from commands."""

import subprocess
import sys

from tests.conftest import REPOSITORY

PAGE = """# Results
<!-- measured: echo '| a |'; echo noise; echo '{"json": 1}' -->
old
<!-- end -->
Prose.
<!-- measured: {second} -->
kept
<!-- end -->
"""


def record(page, *words):
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "record.py"), str(page), *words]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_block_takes_over_the_tables_of_its_command_and_says_how_it_was_made(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("{second}", "echo '- b'"))
    assert record(page, "'| a |'").returncode == 0
    text = page.read_text()
    assert not {"old", "noise", '{"json": 1}'} & set(text.splitlines())
    assert "| a |\n<!-- end -->\nProse." in text and "cpu: " in text and "\nkept\n" in text
    assert record(page).returncode == 0
    assert "kept" not in page.read_text() and "- b\n<!-- end -->" in page.read_text()


def test_tables_and_lists_stay_apart(tmp_path):
    page = tmp_path / "page.md"
    (tmp_path / "printed").write_text("| a |\n| --- |\n| 1 |\n\n| b |\n| --- |\n| 2 |\ntext\n- c\n- d\n")
    page.write_text(PAGE.replace("{second}", f"cat {tmp_path / 'printed'}"))
    assert record(page, "printed").returncode == 0
    assert "| a |\n| --- |\n| 1 |\n\n| b |\n| --- |\n| 2 |\n\n- c\n- d\n<!-- end -->" in page.read_text()


def test_what_was_measured_on_other_machines_stays(tmp_path):
    page = tmp_path / "page.md"
    other = "2026-01-02, cpu: Abacus, revision 0a1b+.\n\n| beads |"
    page.write_text(PAGE.replace("old", other).replace("{second}", "true"))
    for _ in range(2):
        assert record(page, "'| a |'").returncode == 0
        text = page.read_text()
        assert text.count(other) == 1 and text.count("\n| a |\n") == 1 and text.count("```\necho") == 1


def test_a_command_that_fails_or_says_nothing_leaves_its_block_as_it_was(tmp_path):
    page = tmp_path / "page.md"
    for command, said in {"echo '| a |'; exit 3": "ended with code 3", "true": "printed neither a table nor"}.items():
        page.write_text(PAGE.replace("{second}", command))
        before = page.read_text()
        done = record(page, command)
        assert done.returncode == 1 and said in done.stderr and page.read_text() == before


def test_a_word_that_no_command_holds_is_told(tmp_path):
    (tmp_path / "page.md").write_text(PAGE)
    assert "no block's command holds nowhere" in record(tmp_path / "page.md", "nowhere").stderr
