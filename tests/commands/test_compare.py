from types import SimpleNamespace

from hydra import compose, initialize_config_dir

from nemo_distill.commands import compare
from nemo_distill.commands.jobs import CONF


def test_the_report_shows_the_metric_of_the_evaluation(tmp_path, monkeypatch):
    shown = []
    for name in ("check", "prepare_corpus", "do_steps", "print_evaluation"):
        monkeypatch.setattr(compare, name, lambda *arguments: None)
    monkeypatch.setattr(compare, "_report_problems", lambda wanted: [])
    job = SimpleNamespace(folder=tmp_path, main_metric="chrF", run=dict)
    monkeypatch.setattr(compare, "evaluation_of", lambda config: job)
    monkeypatch.setattr(compare, "write_report", shown.append)
    with initialize_config_dir(str(CONF), version_base=None):
        compare.main(compose("demo", [f"output_dir={tmp_path}", "report=true"]))
    assert [config.metric for config in shown] == ["chrF"]
