import json
from importlib.metadata import version

import pytest
from omegaconf import OmegaConf

from nemo_distill.console import Interrupted
from nemo_distill.experiments.training_record import new_record
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.storage.run_record import read_run_of, recorded_run


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "finished"), (ValueError, "failed"), (SystemExit, "failed"), (Interrupted, "interrupted"), (KeyboardInterrupt, "interrupted")],
)  # fmt: skip
def test_a_record_says_how_its_run_ended(tmp_path, error, status):
    record = new_record(OmegaConf.create({"seed": 3}), "running")
    raised = None
    try:
        with recorded_run(tmp_path, record, lambda: {"steps": 7}, seconds=100.0):
            begun = json.loads((tmp_path / "run.json").read_text())
            assert begun["status"] == "running" and begun["seconds"] == 100.0  # if it is killed now
            if error:
                raise error
    except BaseException as found:
        raised = type(found)
    assert raised is error
    ended = json.loads((tmp_path / "run.json").read_text())
    assert (ended["status"], ended["steps"], ended["seed"]) == (status, 7, 3)
    assert ended["seconds"] >= 100.0
    assert ended["made_with"]["versions"]["torch"] == version("torch")


@pytest.mark.parametrize("place", ["a.nemo", "checkpoints/a.nemo"])
def test_the_record_of_a_model_is_that_of_the_training_that_wrote_it(tmp_path, place):
    model = tmp_path / place
    model.parent.mkdir(exist_ok=True)
    assert read_run_of(model) is None
    model.write_bytes(b"weights")
    (tmp_path / "run.json").write_text(json.dumps({"steps": 7, "models": [fingerprint(model)]}))
    assert read_run_of(model)["steps"] == 7
    model.write_bytes(b"other weights")
    assert read_run_of(model) is None
    (tmp_path / "run.json").write_text("[]")
    assert read_run_of(model) is None
