import json
import logging

import pytest

from nemo_distill.config.errors import DataError
from nemo_distill.config.section import read_section
from nemo_distill.pseudo_labels import api_teacher
from nemo_distill.pseudo_labels.api_journal import read_journal
from nemo_distill.pseudo_labels.api_settings import ApiSettings
from nemo_distill.pseudo_labels.api_teacher import ApiTeacher
from nemo_distill.pseudo_labels.generate import Failure
from tests.pseudo_labels.bad_server import KEY, bad_server
from tests.pseudo_labels.fakes import contents


@pytest.fixture
def server():
    with bad_server() as running:
        yield running


@pytest.fixture
def ask(server, tmp_path):
    """Translates lines with a new teacher, and returns texts or reasons, and the teacher."""

    def translate(*lines, first_line=1, **settings):
        values = {"url": server.url, "backoff": 0.01, "timeout": 0.5, "retries": 2, "concurrency": 4} | settings
        teacher = ApiTeacher("tiny", ApiSettings(**values), ("German", "English"), tmp_path, "digest")
        found = teacher.translate(first_line, lines)
        texts = [one.reason if isinstance(one, Failure) else [h.text for h in one.hypotheses] for one in found]
        return texts, teacher

    return translate


def test_lines_are_asked_for_as_the_prompt_says(ask, server):
    texts, _ = ask("der Hund", "", "{source} {target_language}", system="Be brief.", extra={"user": "me"})
    assert texts[0] == ["DER HUND"] and len(server.bodies) == 2
    body = next(body for body in server.bodies if "der Hund" in str(body))
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert "from German to English" in body["messages"][1]["content"]
    assert body["messages"][1]["content"].endswith("\n\nder Hund") and "seed" not in body
    assert (body["model"], body["temperature"], body["max_tokens"], body["user"]) == ("tiny", 0.0, 1024, "me")
    assert texts[2] == ["{SOURCE} {TARGET_LANGUAGE}"]  # a line is no template


def test_a_server_on_this_machine_is_asked_without_a_proxy(ask, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert ask("der Hund", retries=0)[0] == [["DER HUND"]]


@pytest.mark.parametrize(
    "trouble", ["busy", "odd busy", "shaky", "torn", "slow", "drop", "page", "limited", "upstream"]
)
def test_what_passes_is_tried_again(ask, server, trouble):
    texts, teacher = ask(f"ein {trouble} Hund", "noch einer")
    assert texts == [[f"EIN {trouble.upper()} HUND"], ["NOCH EINER"]]
    assert teacher.bill.requests == 3 == len(server.bodies)


@pytest.mark.parametrize(
    ("trouble", "requests"), [("broken", 3), ("refused", 1), ("flagged", 1), ("empty", 1), ("long", 1)]
)
def test_a_line_that_cannot_be_had_has_failed_alone(ask, server, trouble, requests):
    texts, teacher = ask(f"ein {trouble} Hund", "noch einer")
    assert texts == ["failed", ["NOCH EINER"]]
    assert teacher.bill.requests == requests + 1 == len(server.bodies)


def test_chatter_around_the_translation_is_left_out(ask):
    for talk in ("chatty", "quoting", "parts"):
        assert ask(f"ein {talk} Hund")[0] == [[f"EIN {talk.upper()} HUND"]]
    assert ask("ein chatty_alone Hund")[0] == ["failed"]
    assert ask("noch ein chatty_alone Hund", answer=None)[0] == ["failed"]  # of several lines
    assert ask("ein Hund mehr", answer=None)[0] == [["<translation>EIN HUND MEHR</translation>"]]


def test_what_a_model_thinks_is_no_translation(ask):
    assert ask("ein thoughtful Hund")[0] == ["failed"]
    assert ask("noch ein thoughtful Hund", answer=None)[0] == [["NOCH EIN THOUGHTFUL HUND"]]


def test_an_answer_in_which_the_group_matches_nothing_has_failed(ask, tmp_path):
    assert ask("ein Hund", answer="<translation>(x)?")[0] == ["failed"]
    (answer,) = read_journal(tmp_path / "answers" / "digest" / "000000000001.jsonl")
    assert answer.error == "api.answer's group matches nothing in the answer"


@pytest.mark.parametrize("answer", ["(.*)", ".*", r"(?:Translation:)?\s*(.*)"])
def test_a_pattern_that_matches_anything_gives_the_whole_answer(ask, answer):
    assert ask("ein Hund", answer=answer)[0] == [["<translation>EIN HUND</translation>"]]


def test_half_a_character_is_replaced(ask):
    assert ask("ein halved Hund")[0] == [["EIN HALVED HUND?"]]


@pytest.mark.parametrize("trouble", ["long", "filtered"])
def test_a_whole_answer_that_was_cut_says_so(ask, server, tmp_path, trouble):
    _, teacher = ask(f"ein {trouble} Hund", answer=None)
    (found,) = teacher.translate(1, [f"ein {trouble} Hund"])
    assert not found.hypotheses[0].finished and len(server.bodies) == 1


def test_keys_that_a_server_refuses_are_left_out(ask, server):
    ask("ein Hund", temperature=0.8, extra={"top_p": None, "seed": None, "max_completion_tokens": 9})
    assert set(server.bodies[0]) == {"model", "messages", "temperature", "max_tokens", "max_completion_tokens"}


def test_samples_have_seeds_of_their_own_and_do_not_depend_on_other_lines(ask, server, tmp_path):
    alone, _ = ask("ein sampled Hund", samples=3, temperature=0.8)
    assert len(set(alone[0])) == 3 and len({body["seed"] for body in server.bodies}) == 3
    among, _ = ask("rot", "ein sampled Hund", first_line=100, samples=3, temperature=0.8)
    assert among[1] == alone[0]


def test_requests_run_at_the_same_time_and_not_too_many(ask, server):
    ask(*[f"slow {number}" for number in range(6)], concurrency=3, timeout=5)
    assert server.most_working == 3


def test_no_answer_is_paid_for_twice(ask, server, tmp_path):
    lines = ["eins", "zwei", "broken drei"]
    first, _ = ask(*lines)
    journal = next(tmp_path.glob("answers/digest/*.jsonl"))
    journal.write_bytes(journal.read_bytes() + b'{"line": 2, "sam')  # killed while it wrote
    before = len(server.bodies)
    again, teacher = ask(*lines)
    assert again == first == [["EINS"], ["ZWEI"], "failed"]
    assert {body["messages"][0]["content"].split("\n")[-1] for body in server.bodies[before:]} == {"broken drei"}
    assert teacher.bill.requests == len(server.bodies) and teacher.bill.prompt_tokens == 20
    assert all(answer.error is None or answer.text is None for answer in read_journal(journal))
    assert ask("eins", "anders", "broken drei")[0][1] == ["ANDERS"]  # the line has changed


def test_the_bill_is_kept(ask, tmp_path):
    ask("eins", "zwei", input_price=2.0, output_price=10.0)
    assert json.loads((tmp_path / "bill.json").read_text()) == {
        "requests": 2, "prompt_tokens": 20, "completion_tokens": 10, "cost": 0.00014,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ceiling", "used"), [({"max_requests": 3}, 3), ({"max_total_tokens": 31}, 3), ({"max_total_tokens": 30}, 2)]
)
def test_the_job_stops_at_a_ceiling_and_goes_on_when_it_is_raised(ask, server, ceiling, used):
    lines = [f"Hund {number}" for number in range(6)]
    with pytest.raises(DataError, match=f"api.{next(iter(ceiling))}=.* is reached.*There were {used} requests so far"):
        ask(*lines, concurrency=1, **ceiling)
    assert len(server.bodies) == used
    texts, _ = ask(*lines)
    assert texts == [[line.upper()] for line in lines] and len(server.bodies) == 6


def test_tokens_that_are_not_counted_cannot_have_a_ceiling(ask):
    with pytest.raises(DataError, match="api.max_total_tokens: the server does not count tokens"):
        ask("unmetered", max_total_tokens=100)


def test_a_server_that_fails_all_the_time_ends_the_job(ask, server, monkeypatch):
    monkeypatch.setattr(api_teacher, "GIVE_UP", 5)
    with pytest.raises(DataError, match="5 answers in a row failed, the last one by: .*500.*out of memory"):
        ask(*[f"broken {number}" for number in range(50)], retries=0, concurrency=1)
    assert len(server.bodies) == 5


@pytest.mark.parametrize("trouble", ["empty", "refused"])
def test_hard_lines_in_a_row_end_the_job_only_if_no_answer_was_usable(ask, monkeypatch, trouble):
    monkeypatch.setattr(api_teacher, "GIVE_UP", 3)
    hard = [f"{trouble} {number}" for number in range(5)]
    with pytest.raises(DataError, match="3 answers in a row failed"):
        ask(*hard, concurrency=1)
    assert ask("eins", *hard, first_line=10, concurrency=1)[0] == [["EINS"], *["failed"] * 5]
    assert ask(*hard, concurrency=1)[0] == ["failed"] * 5  # the journal has a usable answer


def test_a_server_that_fails_after_usable_answers_ends_the_job(ask, monkeypatch):
    monkeypatch.setattr(api_teacher, "GIVE_UP", 3)
    with pytest.raises(DataError, match="3 answers in a row failed, the last one by: .*500"):
        ask("eins", "zwei", *[f"broken {number}" for number in range(5)], retries=0, concurrency=1)


def test_a_server_that_is_not_there_ends_the_job(tmp_path, monkeypatch):
    monkeypatch.setattr(api_teacher, "GIVE_UP", 1)
    settings = ApiSettings(url="http://127.0.0.1:9/v1", retries=1, backoff=0.0)
    teacher = ApiTeacher("tiny", settings, ("German", "English"), tmp_path, "digest")
    with pytest.raises(DataError, match="no answer from 'http://127.0.0.1:9/v1/chat/completions': ConnectionError"):
        teacher.translate(1, ["Hund"])


def test_a_redirect_is_not_followed(ask, server):
    with pytest.raises(DataError, match="the server answered 302"):
        ask("moved")


def test_the_key_is_sent_and_appears_nowhere_else(ask, server, tmp_path, monkeypatch, caplog, capsys):
    server.needs_key = True
    caplog.set_level(logging.DEBUG)
    with pytest.raises(DataError, match="401.*api.url, api.key_variable or model"):
        ask("eins")
    monkeypatch.setenv("OUR_KEY", "sk-another-secret")
    with pytest.raises(DataError, match=r"wrong key Bearer \*\*\*") as error:
        ask("eins", key_variable="OUR_KEY")
    monkeypatch.setenv("OUR_KEY", KEY)
    assert ask("eins", "broken", "refused", key_variable="OUR_KEY")[0][0] == ["EINS"]
    assert server.keys[-1] == f"Bearer {KEY}"
    written = str(contents(tmp_path)) + caplog.text + str(capsys.readouterr()) + str(error.value)
    assert KEY not in written and "sk-another-secret" not in written
    assert KEY not in str(ApiSettings(url=server.url, key_variable="OUR_KEY"))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"url": "127.0.0.1:8000"}, "api.url must begin with http:// or https://"),
        ({"url": "http://me:secret@host/v1"}, "https:// and a host, and hold no user, password"),
        ({"url": "https://host/v1?key=secret"}, "hold no user, password, query or fragment"),
        ({"url": "http://[::1"}, "api.url must begin with http:// or https:// and a host"),
        ({"url": "http://two..dots/v1"}, "api.url must begin with http:// or https:// and a host"),
        ({"url": "http://host:port/v1"}, "api.url must begin with http:// or https:// and a host"),
        ({"prompt": "Translate!"}, "api.prompt must contain {source}"),
        ({"samples": 4}, "api.samples=4: all are equal at temperature=0"),
        ({"key_variable": "NOT_SET_ANYWHERE"}, "api.key_variable=NOT_SET_ANYWHERE: the environment has no such variable"),
        ({"key_variable": "KEY_WITH_LINE_END"}, "api.key_variable=KEY_WITH_LINE_END: the variable must not hold spaces, line"),
        ({"extra": {"n": 4}}, "api.extra has the key 'n'; set samples instead"),
        ({"input_price": 1.0}, "api.input_price and output_price: give both or neither"),
        ({"answer": "("}, "api.answer=(: is not a regular expression"),
        ({"concurrency": 0}, "api.concurrency=0: must be a whole number of at least 1"),
    ],
)  # fmt: skip
def test_mistakes_are_told_without_what_may_be_secret(values, sentence, monkeypatch):
    monkeypatch.setenv("KEY_WITH_LINE_END", "secret\n")
    _, problems = read_section(ApiSettings, values, "api")
    assert len(problems) == 1 and sentence in problems[0] and "secret" not in problems[0]
