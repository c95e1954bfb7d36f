"""A key's default stands in its class; a configuration file shows it, and says nothing else."""

from dataclasses import asdict
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nemo_distill.commands.cache_teacher import CacheSection
from nemo_distill.commands.card import CardConfig
from nemo_distill.commands.demo_server import ServerConfig
from nemo_distill.commands.evaluate import EvaluationConfig
from nemo_distill.commands.explain import ExplainConfig, TrainingSection
from nemo_distill.commands.export import ExportConfig
from nemo_distill.commands.labelling_config import LabellingConfig
from nemo_distill.commands.mix_corpora import MixingConfig
from nemo_distill.commands.prepare import PreparationConfig, TokenizerConfig
from nemo_distill.commands.report import ReportConfig
from nemo_distill.commands.size_student import SizingConfig
from nemo_distill.commands.split import SplittingConfig
from nemo_distill.commands.translate import TranslationConfig
from nemo_distill.config.checks import MISSING
from nemo_distill.models.distillation_section import TranslationDistillation
from nemo_distill.text.mix_section import CorpusSection
from tests.conftest import SCRIPTS, composed

CONF = SCRIPTS / "conf"
# A configuration file, the key in it and the class. All others are recipes, which are there to set something else:
# those in folders, the trainings' own aayn_base, and the comparisons demo, pipeline and study.
SHOWN = [
    ("aayn_base_distill", "model.distillation", TranslationDistillation),
    ("cache_teacher", "cache", CacheSection),
    ("demo_server", "", ServerConfig),
    ("evaluate", "", EvaluationConfig),
    ("explain", "", ExplainConfig),
    ("explain", "train", TrainingSection),
    ("export", "", ExportConfig),
    ("generate_pseudo_labels", "", LabellingConfig),
    ("mix_corpora", "", MixingConfig),
    ("mix_corpora", "corpora.real", CorpusSection),
    ("mix_corpora", "corpora.pseudo", CorpusSection),
    ("model_card", "", CardConfig),
    ("prepare", "", PreparationConfig),
    ("prepare", "tokenizer", TokenizerConfig),
    ("report", "", ReportConfig),
    ("size_student", "", SizingConfig),
    ("split", "", SplittingConfig),
    ("translate", "", TranslationConfig),
]
# Keys whose values in a file are more than defaults: the losses and corpora of a method, what a training writes down.
OTHERWISE = {"aayn_base_distill": {"loss", "mix.made"}, "explain": {"train"}, "mix_corpora": {"corpora", "made"}}
RECIPES = {
    "aayn_base",
    "console",
    "demo",
    "pipeline",
    "pipeline_small",
    "study",
    "study_back",
    "study_full",
    "study_models",
    "study_more",
    "study_pieces",
    "study_real",
    "study_short",
    "study_short_models",
}


def flat(values, prefix=""):
    """The values by their whole keys."""
    found = {}
    for key, value in values.items():
        nested = flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
        found |= nested
    return found


def shown_values(name, key):
    """What the file and those that it names hold at a key, unresolved; of a training without its method."""
    own = ["~distillation"] if name == "aayn_base_distill" else []
    cfg = OmegaConf.to_container(composed(name, *own))
    for part in filter(None, key.split(".")):
        cfg = cfg[part]
    return flat(cfg)


def plain(value):
    """A default as a configuration file has it."""
    if hasattr(value, "__pydantic_fields__"):
        return {name: plain(part) for name, part in asdict(value).items()}
    return str(value) if isinstance(value, Path) else value


def defaults(section):
    """The defaults by their whole keys; `???` where there is none."""
    return flat(
        {
            key: MISSING if field.is_required() else plain(field.get_default(call_default_factory=True))
            for key, field in section.__pydantic_fields__.items()
        }
    )


def is_otherwise(name, key):
    return any(key == other or key.startswith(f"{other}.") for other in OTHERWISE.get(name, ()))


@pytest.mark.parametrize(("name", "key", "section"), SHOWN, ids=[f"{name}-{key}" for name, key, _ in SHOWN])
def test_a_configuration_file_shows_every_key_with_its_default(name, key, section):
    shown = {one: value for one, value in shown_values(name, key).items() if not is_otherwise(name, one)}
    known = {one: value for one, value in defaults(section).items() if not is_otherwise(name, one)}
    assert set(shown) == set(known)
    different = {one: (shown[one], known[one]) for one in shown if shown[one] not in (known[one], MISSING)}
    assert not different


def test_every_configuration_file_is_shown_or_a_recipe():
    names = {path.stem for path in CONF.glob("*.yaml")}
    assert names == {name for name, _, _ in SHOWN} | RECIPES
