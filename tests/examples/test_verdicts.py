"""The tables and verdicts of a study."""

import json

import experiments as study_experiments
import pytest
import verdicts
from experiments import Experiment
from omegaconf import OmegaConf
from study import check_study, read_study
from verdicts import IN_OUR_RUN

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_value
from nemo_distill.experiments.comparison_plan import plan_runs
from tests.commands.test_compare import assert_composed_alike
from tests.conftest import SCRIPTS, composed
from tests.evaluation.fakes import SET, SYSTEM

DOCS = SCRIPTS.parents[2] / "docs"
STUDIES = ("study", "study_back", "study_full", "study_more", "study_pieces", "study_real", "study_short")
EXPERIMENTS = {
    "heat": {
        "title": "Temperature",
        "text": "Half and half.",
        "methods": {"cool": [], "hot": []},
        "found": "Cold it is.",
        "grid": {"x": "degrees", "columns": ["T = 1", "T = 9"], "rows": {"slim": ["cool", "hot"]}},
        "claims": {"Heat harms.": [{"plus": "cool", "minus": ["hot"], "above": 1}]},
    },
    "sizes": {"title": "Sizes", "methods": {}, "rows": ["slim", "cool"]},
}


RECORD = {
    "device": "cpu: a machine", "threads": 1, "date": "2026-01-02T03:04:05", "git_revision": "a" * 40,
    "versions": {"torch": "2.0"},
}  # fmt: skip


def read(experiments):
    """Returns experiments as a study reads them, and what is wrong with them."""
    return read_value(dict[str, Experiment], experiments, "experiments")


def study_markdown(experiments, *others):
    return verdicts.study_markdown(read(experiments)[0], *others)


def study_plots(experiments, evaluation):
    return verdicts.study_plots(read(experiments)[0], evaluation)


def study_models(experiments):
    return study_experiments.study_models(read(experiments)[0])


def unclaimed_models(experiments, names):
    return study_experiments.unclaimed_models(read(experiments)[0], names)


def study_problems(experiments, baselines):
    found, wrong = read(experiments)
    return study_experiments.study_problems(found, baselines) + wrong


def page(**scores):
    return study_markdown(EXPERIMENTS, results(**scores), "What was done.", "A study")


def results(teacher_size=1000, **scores):
    """The evaluation of a teacher, whose one score has no seed, and of groups with scores of seeds 0, 1, ..."""
    systems, found = {}, {}
    for group, values in scores.items():
        role = {"teacher": None, "cool": "distilled", "hot": "distilled"}.get(group, "baseline")
        size = teacher_size if group == "teacher" else 100
        for seed, score in enumerate(values):
            name = group if group == "teacher" else f"{group}_seed{seed}"
            seed = None if group == "teacher" else seed
            known = SYSTEM | {"group": group, "seed": seed, "role": role, "parameters": size}
            systems[name], found[name] = known, {"BLEU": {"value": score, "signature": "v:1"}}
    return {"made_with": RECORD, "systems": systems, "test_sets": {"test": SET | {"scores": found}}}


def test_the_models_are_those_of_all_experiments_and_some_are_in_no_claim():
    experiments = EXPERIMENTS | {"more": {"title": "More", "methods": {"cold": ["lr=0"]}}}
    assert study_models(experiments) == {"cool": [], "hot": [], "cold": ["lr=0"]}
    assert unclaimed_models(experiments, ["slim", "cool", "cold", "hot"]) == ["slim", "cold"]


def test_each_experiment_has_its_table_and_each_claim_its_verdict():
    text = page(teacher=[40], slim=[20, 21], cool=[30, 31], hot=[10, 10])
    assert "| slim | 30.50 ± 0.71 (+10.00) | 10.00 ± 0.00 (−10.50) |" in text
    assert "| BLEU (over slim) | T = 1 | T = 9 |" in text
    assert "| cool | 30.50 ± 0.71 | 2 | +10.00 over slim | +48.8 % | 100 | 10.0x |" in text
    assert "| slim | 20.50 ± 0.71 | 2 |  |  | 100 | 10.0x |" in text
    # The 95 % quantile of t with 1 degree of freedom is 6.3138; the seeds' differences are 20 and 21.
    assert "| Heat harms. | **holds** | cool − hot = +20.50 ± 3.16, claimed above 1: holds |" in text
    assert "Teacher: 40.00 BLEU, 1,000 parameters." in text and "`v:1`" in text
    assert text.index("What was done.") < text.index("## Verdicts") < text.index("Cold it is.")
    assert "7 models, 0.0 hours of training. Evaluated on cpu: a machine, threads each: 1. Written 2026-01-02" in text
    assert f"{IN_OUR_RUN} Cold it is." in text


def test_a_page_tells_where_and_by_which_revisions_its_models_were_trained():
    evaluation = results(teacher=[40], slim=[20], cool=[30], hot=[10])
    for name, device, revision in (("slim_seed0", "1 x GPU", "c" * 40 + "+"), ("cool_seed0", "1 x CPU", "b" * 40)):
        evaluation["systems"][name]["training"] = {"seconds": 3600.0, "device": device, "git_revision": revision}
    text = study_markdown(EXPERIMENTS, evaluation, "", "")
    assert "2.0 hours of training on 1 x CPU, 1 x GPU by revisions bbbbbbbb, cccccccc+. Evaluated on cpu" in text


def test_a_page_tells_how_many_test_sentences_are_in_the_training_text():
    evaluation = results(teacher=[40], slim=[20], cool=[30], hot=[10])
    assert "also in the training text" not in study_markdown(EXPERIMENTS, evaluation, "", "")
    evaluation["test_sets"]["test"] |= {"lines": 1500, "seen": {"sources": 13, "references": 9}}
    assert "test sources 13 of 1,500, test references 9 of 1,500." in study_markdown(EXPERIMENTS, evaluation, "", "")


def test_of_several_test_sets_the_mean_counts():
    evaluation = results(teacher=[40], slim=[20, 21], cool=[30, 31], hot=[10, 10])
    news = results(teacher=[20], slim=[10, 11], cool=[20, 21], hot=[0, 0])["test_sets"]["test"]
    news["scores"]["teacher"]["BLEU"]["signature"] = "v:2"
    text = study_markdown(
        EXPERIMENTS, evaluation | {"test_sets": evaluation["test_sets"] | {"news": news}}, "Done.", "A study"
    )
    assert "| slim | 25.50 ± 0.71 (+10.00) | 5.00 ± 0.00 (−10.50) |" in text
    assert "Teacher: 30.00 BLEU" in text and "`v:1`, `v:2`" in text
    assert "| difference (BLEU) | test | news |" in text
    assert "| cool − hot | +20.50 ± 3.16 | +20.50 ± 3.16 |" in text


def test_one_test_set_has_no_table_by_test_set():
    assert "difference (BLEU)" not in page(teacher=[40], slim=[20], cool=[30], hot=[10])


def test_differences_by_test_set_are_of_models_that_have_been_trained():
    evaluation = results(teacher=[40], slim=[20], cool=[30])
    both = {"test_sets": evaluation["test_sets"] | {"news": evaluation["test_sets"]["test"]}}
    assert "difference (BLEU)" not in study_markdown(EXPERIMENTS, evaluation | both, "", "")


def test_other_metrics_have_a_column_and_a_mark_where_they_selected_labels():
    evaluation = results(teacher=[40], slim=[20], cool=[30, 31], hot=[10])
    for name, found in evaluation["test_sets"]["test"]["scores"].items():
        found["chrF"] = {"value": 2 * found["BLEU"]["value"], "signature": "v:2"}
        found["COMET"] = {"value": found["BLEU"]["value"] / 100, "signature": "v:3"}
        evaluation["systems"][name] |= {"selected_by": ["chrf"]} if name.startswith("cool") else {}
    text = study_markdown(EXPERIMENTS, evaluation, "Done.", "A study")
    assert "| model | BLEU | chrF | COMET | seeds |" in text and "| slim | 20.00 | 40.00 | 0.2000 | 1 |" in text
    assert (
        "| cool | 30.50 ± 0.71 | 61.00 ± 1.41† | 0.3050 ± 0.0071 | 2 | +10.00 over slim |" in text
        and "`v:1`, `v:2`" in text
    )


def test_gains_are_over_the_baseline_of_the_same_seeds():
    text = page(teacher=[40], slim=[20, 26], cool=[30], hot=[10, 11])
    assert "| slim | 30.00 (+10.00) | 10.50 ± 0.71 (−12.50) |" in text
    assert "| cool | 30.00 | 1 | +10.00 over slim | +50.0 % | 100 | 10.0x |" in text


def test_gains_are_over_the_best_baseline_or_over_what_an_experiment_names():
    scores = {"teacher": [40], "strong": [28, 24], "slim": [20, 26], "cool": [30, 31], "hot": [10, 11]}
    assert "| cool | 30.50 ± 0.71 | 2 | +4.50 over strong | +17.3 % |" in page(**scores)
    sizes = EXPERIMENTS["sizes"] | {"over": {"cool": "hot"}, "rows": ["cool", "hot"]}
    text = study_markdown(EXPERIMENTS | {"sizes": sizes}, results(**scores), "", "")
    assert "| cool | 30.50 ± 0.71 | 2 | +20.00 over hot | +190.5 % |" in text
    assert "| hot | 10.50 ± 0.71 | 2 | −15.50 over strong |" in text
    text = study_markdown(EXPERIMENTS | {"sizes": sizes | {"over": {"hot": None}}}, results(**scores), "", "")
    assert "| hot | 10.50 ± 0.71 | 2 |  |  | 100 |" in text


def test_a_teacher_of_the_students_size_is_no_baseline():
    same = results(teacher_size=100, teacher=[40.0], cool=[30.0])
    assert "| cool | 30.00 | 1 |  |  | 100 | 1.0x |" in study_markdown(EXPERIMENTS, same, "", "")


def test_a_baseline_that_scores_nothing_has_gains_without_a_percentage():
    assert "| cool | 30.00 | 1 | +30.00 over slim |  | 100 |" in page(teacher=[40], slim=[0.0], cool=[30])


def test_a_teacher_in_a_claim_counts_with_every_seed():
    claims = {"The student passes its teacher.": [{"plus": "cool", "minus": "teacher", "above": 0}]}
    experiments = {"heat": EXPERIMENTS["heat"] | {"claims": claims}}
    text = study_markdown(experiments, results(teacher=[40], cool=[41, 41.2, 41.1]), "", "")
    assert "| **holds** | cool − teacher = +1.10 ± 0.17, claimed above 0: holds |" in text


@pytest.mark.parametrize("name", ["study", "study_more"])
def test_the_published_page_is_what_its_scores_give(name):
    study = read_study(composed(name, "corpus.folder=multi30k"))
    evaluation = json.loads((DOCS / f"{name}.json").read_text()) | {"made_with": RECORD}
    evaluation["systems"] = {system: SYSTEM | known for system, known in evaluation["systems"].items()}
    text = verdicts.study_markdown(study.experiments, evaluation, study.introduction, study.title)
    pages = [page.split("\n\n") for page in (text, (DOCS / f"{name}.md").read_text())]
    made, published = ([part for part in page if " hours of training" not in part] for page in pages)
    assert made == published


def test_one_seed_each_leaves_all_open():
    text = page(teacher=[40], slim=[20], cool=[30], hot=[10])
    assert "| Heat harms. | **open** | cool − hot = +20.00, claimed above 1: open |" in text


def test_what_is_not_trained_yet_is_said():
    text = page(teacher=[40], slim=[20, 21], cool=[30])
    assert "| slim | 30.00 (+10.00) | – |" in text and "cool − hot: not trained yet" in text
    assert "| slim | – |" in page(teacher=[40], cool=[30])


def test_experiments_of_which_no_model_is_trained_have_no_table_and_no_verdict():
    text = page(teacher=[40], slim=[20, 21])
    assert "Not trained yet: Temperature." in text
    assert "### Temperature" not in text and "Heat harms." not in text and "### Sizes" in text
    assert "Not trained yet" not in page(teacher=[40], slim=[20], cool=[30])


def test_models_that_there_are_not_are_told_before_anything_is_trained():
    wrong = {
        "heat": {**EXPERIMENTS["heat"], "claims": {"So.": [{"plus": ["warm"], "minus": "slim", "above": 0}]}},
        "grid": {"title": "", "methods": {}, "grid": {"columns": ["a"], "rows": {"r": ["slim", "cool"]}}},
    }
    assert study_problems(EXPERIMENTS, ["slim"]) == []
    over = {"heat": EXPERIMENTS["heat"] | {"claims": {}, "over": {"cool": "warm", "hot": None}}}
    assert study_problems(over, ["slim"]) == ["experiments.heat names the model 'warm', which there is not."]
    assert study_problems(wrong, ["slim"]) == [
        "experiments.heat names the model 'warm', which there is not.",
        "experiments.grid.grid.rows.r has 2 models for 1 columns.",
    ]


def test_a_model_of_two_experiments_is_told():
    again = {"again": {"title": "Again", "methods": {"cool": ["lr=1"]}}}
    (told,) = study_problems(EXPERIMENTS | again, ["slim"])
    assert told.startswith("experiments.again.methods.cool: experiments.heat has a model of this name")


def test_unknown_sizes_have_a_dash():
    evaluation = results(teacher=[40], slim=[20], cool=[30], hot=[10])
    evaluation["systems"]["teacher"]["parameters"] = evaluation["systems"]["hot_seed0"]["parameters"] = None
    rows = {"sizes": {"title": "Sizes", "rows": ["slim", "hot"]}}
    text = study_markdown(rows, evaluation, "", "")
    assert "Teacher: 40.00 BLEU, – parameters." in text
    assert "| slim | 20.00 | 1 |  |  | 100 | – |" in text and "| hot | 10.00 | 1 |  |  | – | – |" in text


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["+experiments.new={title: x}"], ["experiments.new.rows has no value"]),
        (["+experiments.new={methods: {n: []}}"], ["experiments.new.title has no value; give it."]),
        (["+experiments.new=[a]"], ["experiments.new=['a']: must be a section with claims, "]),
        (["+experiments.new={title: x, methods: {n: []}, claims: {So.: [{plus: n, minus: slim}]}}"],
         ["experiments.new.claims.So.[0].above has no value"]),
        (["+experiments.new={title: x, methods: {n: []}, grid: {rows: {a: [n]}}}"],
         ["experiments.new.grid.columns has no value"]),
        (["+experiments.new={title: x, rows: [slim], grid: {rows: {a: [slim]}, columns: [b]}}"],
         ["experiments.new.rows has no effect with grid"]),
        (["+experiments.new={title: x, methods: {n: []}, claim: {So.: []}}"],
         ["experiments.new has the unknown key 'claim'; the closest known key is 'claims'."]),
        (["evaluation.metrics=[chrF]"], ["evaluation.metrics=['chrF']: a study's verdicts need BLEU"]),
        (["++report=true", "++one_seed=[slim]", "++methods.mine=['model.optim.lr=1']", "evaluation.metrics=[chrF]",
          "+corpus.generate={train: 10, validation: 5, test: 5}"],
         ["methods has no effect", "one_seed has no effect", "report has no effect", "corpus.generate has no effect",
          "evaluation.metrics="]),
    ],
)  # fmt: skip
def test_what_a_page_cannot_show_is_told_before_anything_is_trained(overrides, said):
    with pytest.raises(ConfigurationError) as told:
        read_study(composed("study", "corpus.folder=text", *overrides))
    assert len(told.value.problems) == len(said)
    assert all(problem.startswith(words) for problem, words in zip(told.value.problems, said))


@pytest.mark.parametrize("value", ["null", "3"])
def test_baselines_that_are_no_section_are_told(value):
    given = ["corpus.folder=text", "small_tokenizer=small.model", f"baselines={value}"]
    with pytest.raises(ConfigurationError) as told:
        read_study(composed("study_pieces", *given))
    assert f"baselines={value}: must be a section." in told.value.problems


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_names_no_model_that_it_does_not_train(name):
    study = composed(name, "corpus.folder=text")
    assert study_problems(OmegaConf.to_container(study.experiments, resolve=True), list(study.baselines)) == []


def test_a_grid_that_says_what_its_columns_are_has_a_plot_beside_the_page():
    (plot,) = study_plots(EXPERIMENTS, results(teacher=[40], slim=[20, 21], cool=[30, 31], hot=[10, 11]))
    assert f"![Temperature]({plot.name}.png)" in page(teacher=[40], slim=[20], cool=[30])
    assert "degrees" in plot.svg and "slim, no teacher" in plot.svg and plot.png.startswith(b"\x89PNG")
    assert study_plots(EXPERIMENTS, results(teacher=[40])) == [] and "![" not in page(teacher=[40])


@pytest.mark.parametrize("name", ["study", "study_back", "study_more"])
def test_all_jobs_of_a_study_are_valid(name, corpus, tokenizer, tmp_path):
    for part in ("train", "val", "test"):
        for language in ("de", "en"):
            (tmp_path / f"{part.replace('test', 'test_2016_flickr')}.{language}").symlink_to(
                corpus / f"{part}.{language}"
            )
    (tmp_path / "mono.de").symlink_to(corpus / "test.de")
    given = [f"corpus.folder={tmp_path}", f"output_dir={tmp_path / 'runs'}", "seeds=[0]"]
    given += [f"small={tokenizer}"] if name == "study_more" else []
    check_study(read_study(composed(name, *given)))


def test_the_jobs_of_the_studies_are_composed_as_their_commands_do():
    given = {"study_full": ["teacher=teacher.nemo"], "study_more": ["small=small.model"]}
    studies = (composed(name, "corpus.folder=text", *given.get(name, [])) for name in STUDIES)
    assert_composed_alike(*map(read_study, studies))


@pytest.fixture
def planned(tmp_path):
    """Returns the configuration of a study on a folder of text with these test sets."""

    def read(study, tests, *more):
        for name in ("train", "val", *tests):
            for language in ("de", "en"):
                (tmp_path / f"{name}.{language}").write_text("a\n")
        (tmp_path / "mono.de").write_text("a\n")
        given = [f"corpus.folder={tmp_path}", f"corpus.test=[{','.join(tests)}]", f"output_dir={tmp_path / 'runs'}"]
        return read_study(composed(study, *given, *more))

    return read


def test_the_study_at_its_own_size_can_be_planned(planned, teacher_path):
    tests = [f"newstest{year}" for year in (2013, 2014, 2018, 2019, 2020)]
    config = planned("study_full", tests, f"teacher={teacher_path}")
    with pytest.raises(ConfigurationError) as told:  # the start copies from layers of a teacher as wide as the student
        check_study(config)
    assert {problem.split(":")[0] for problem in told.value.problems} == {"methods.wide_start"}
    runs = {run.folder.name: run.arguments for run in plan_runs(config)}
    assert {"student=slim_3x3", "schedule=study"} < set(runs["hybrid_seed2"])
    sizes = [one for one in runs["wide_3x4_T1_seed0"] if one.startswith("student=")]
    assert sizes[-1] == "student=wide_3x4"


def test_the_study_on_real_text_can_be_planned(planned):
    config = planned("study_real", ["test", "news"])
    check_study(config)
    runs = [run.folder.name for run in plan_runs(config)]
    assert runs[:5] == ["teacher", "alone_seed0", "word_level_seed0", "labels_train", "seq_level_seed0"]
    assert runs.count("hybrid_seed2") == 1 and "T5_seed0" in runs and "T5_seed1" not in runs


def test_the_study_of_short_sentences_can_be_planned(planned, tokenizer):
    config = planned("study_short", ["test", "news"], f"small_tokenizer={tokenizer}")
    check_study(config)
    runs = [run.folder.name for run in plan_runs(config)]
    assert (
        runs[:5] == ["teacher", "alone_seed0", "alone_small_seed0", "alone_2000_seed0", "labels_train"]
        and len(runs) == 45
    )


def test_the_study_of_fewer_pieces_can_be_planned(planned, tokenizer):
    config = planned("study_pieces", ["test", "news"], f"small_tokenizer={tokenizer}")
    check_study(config)
    runs = {run.folder.name: run.arguments for run in plan_runs(config)}
    assert len(runs) == 20 and "model.train_ds.tokens_in_batch=3500" in runs["teacher"]
