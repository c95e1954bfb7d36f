"""Whatever values a distillation's keys have: it is accepted, or refused with sentences, and nothing else happens."""

from copy import deepcopy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nemo_distill.commands.training_check import check_distillation_job
from nemo_distill.config.errors import ConfigurationError
from tests.json_values import VALUES
from tests.models.conftest import TINY

REMOVED = object()


def places(node, prefix=()):
    """The paths of all keys, of sections before what is in them."""
    for key, value in node.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from places(value, (*prefix, key))


def changed(config, changes):
    """A copy of a config with other values in some places, as far as there still are such places."""
    config = deepcopy(config)
    for (*sections, key), value in changes:
        node = config
        for section in sections:
            node = node.get(section) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(key, None)
            if value is not REMOVED:
                node[key] = value
    return config


@pytest.fixture
def config(job):
    """A valid job with every section that a distillation may have."""
    more = ["+model.distillation.mix.corpora.real={share: 1}", "model.distillation.cosine_loss_weight=1"]
    return OmegaConf.to_container(job(*TINY, *more), resolve=True)


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_values_of_any_keys_are_accepted_or_told_in_sentences(config, data):
    keys = st.sampled_from(
        [place for place in places(config) if place[0] in ("model", "trainer", "exp_manager", "seed")]
    )
    changes = data.draw(st.lists(st.tuples(keys, VALUES | st.just(REMOVED)), min_size=1, max_size=3))
    try:
        cfg = OmegaConf.create(changed(config, changes))
    except OmegaConfBaseException:  # no YAML could hold it
        return
    try:
        assert all(isinstance(warning, str) for warning in check_distillation_job(cfg))
    except ConfigurationError as error:
        assert error.problems and all(isinstance(problem, str) for problem in error.problems)
