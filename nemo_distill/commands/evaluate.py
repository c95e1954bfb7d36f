"""Evaluates systems on test sets: scores, comparisons, sizes and speeds."""

from dataclasses import replace

from omegaconf import DictConfig
from pydantic import Field

from nemo_distill.commands.user_errors import checked, plain_errors
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_config, rule, section
from nemo_distill.decoding.engines import found_dtype
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.evaluation_job import EvaluationJob, EvaluationSettings
from nemo_distill.evaluation.evaluation_sets import SetSection, set_name_problems, with_languages
from nemo_distill.evaluation.evaluation_tables import print_evaluation
from nemo_distill.evaluation.system_sections import Models, as_section, build_systems, system_problems
from nemo_distill.storage.files import UserPath


@section
class EvaluationConfig(EvaluationSettings):
    """The configuration of `evaluate`."""

    output_dir: UserPath = Field(kw_only=True)
    """Where the results and all texts are written."""
    models: Models = Field(default_factory=dict)
    """A name and a path, or a section, for each model. Sizes and speeds are relative to the first, the teacher."""
    test_sets: dict[str, SetSection] = Field(default_factory=dict)
    """A name and a section for each test set; the first one is timed."""
    search: SearchSettings = Field(default_factory=lambda: SearchSettings(length_penalty=0.0))
    """How all models search."""

    def problems(self) -> list[str]:
        """Returns a sentence for each rule that several keys break."""
        systems = build_systems(self.models, tuple(self.test_sets))
        problems = super().problems() + system_problems(systems, self.search)
        if self.search.n_best > 1:
            problems.append("search.n_best: an evaluation wants one translation a sentence; leave it at 1.")
        problems += [
            f"significance.baselines names '{name}'; models has {', '.join(self.models) or 'none'}."
            for name in self.significance.baselines or ()
            if name not in self.models
        ]
        return problems + set_name_problems(self.test_sets)

    @rule
    def translation_problems(self) -> list[str]:
        """Returns a sentence for each file of translations that does not fit its test set."""
        readable = {name: None if one.problems() else one.test_set(name) for name, one in self.test_sets.items()}
        return [
            problem for name, one in self.models.items() for problem in as_section(one).set_problems(name, readable)
        ]


def evaluation_job(cfg: DictConfig) -> EvaluationJob:
    """Returns the job, after checking as much as possible before a model is loaded. Downloads sacrebleu's test sets.

    Raises:
        ConfigurationError: with every problem found.
    """
    config = read_config(EvaluationConfig, cfg)
    systems = [
        replace(system, dtype=found_dtype(system.dtype, [system.model], config.device))
        for system in build_systems(config.models, tuple(config.test_sets))
    ]
    written = {system.name: system.written_language() for system in systems}
    sets, problems = with_languages([one.test_set(name) for name, one in config.test_sets.items()], written)
    if problems:
        raise ConfigurationError(problems)
    job = EvaluationJob(systems, sets, config.output_dir, config.search, config)
    _ = job.exported  # so that the names of exports are checked
    return job


def main(cfg: DictConfig) -> None:
    job = checked(cfg, evaluation_job)
    with plain_errors(goes_on=True):
        evaluation = job.run()
    print_evaluation(evaluation, job.folder)
