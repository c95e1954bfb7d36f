import shlex

import pytest

from nemo_distill.commands.prepare import check_preparation, main, prepare
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.overrides import parsed
from nemo_distill.storage.records import read_json
from tests.conftest import composed, train_sentencepiece


@pytest.fixture
def config(corpus, tmp_path):
    """Returns a configuration for the corpus and a folder with an odd name, with overrides."""

    def make(*overrides):
        base = [f"source={corpus}/train.de", f"target={corpus}/train.en", f"output='{tmp_path}/a b;[1]'"]
        return composed("prepare", *base, "tokenizer.vocab_size=60", "tokens_in_batch=150", *overrides)

    return make


def problems(cfg):
    with pytest.raises(ConfigurationError) as error:
        check_preparation(cfg)
    return error.value.problems


def test_a_table_tells_what_was_written_and_keys_how_it_is_used(config, tmp_path, capsys):
    prepare(check_preparation(config("min_seq_length=5")))
    shown, folder = capsys.readouterr().out, tmp_path / "a b;[1]"
    made = read_json(folder / "metadata.tokens.150.json")
    assert made["pairs"] + made["dropped"]["too_short"] == 64
    for row in ("60 pieces", "dropped: too short", "pairs to train on", "batches", "padding", "tar files", "seconds"):
        assert row in shown
    _, keys = shown.split("To train on it:\n")
    typed = [parsed(key) for key in shlex.split(keys)]  # as a shell and then Hydra read them
    tokenizer = f"{folder}/shared_tokenizer.60.BPE.model"
    assert typed == [
        ("model.encoder_tokenizer.tokenizer_model", tokenizer),
        ("model.decoder_tokenizer.tokenizer_model", tokenizer),
        ("model.train_ds.use_tarred_dataset", True),
        ("model.train_ds.metadata_file", f"{folder}/metadata.tokens.150.json"),
    ]


def test_each_language_has_its_own_tokenizer_if_wanted_and_one_may_be_there(config, corpus, tmp_path):
    own = train_sentencepiece(tmp_path / "own", corpus / "train.en", vocab_size=40)
    prepare(check_preparation(config(f"+target_tokenizer={{tokenizer_model: {own}}}")))
    names = {path.name for path in (tmp_path / "a b;[1]").glob("*.model")}
    assert names == {"tokenizer.encoder.60.BPE.model"}
    tokenizers = read_json(tmp_path / "a b;[1]" / "metadata.tokens.150.json")["settings"]["tokenizers"]
    assert tokenizers["source"]["sha256"] != tokenizers["target"]["sha256"]


def test_other_settings_are_refused_by_name_and_replace_on_request(config):
    prepare(check_preparation(config()))
    check_preparation(config())
    (problem,) = problems(config("min_seq_length=3"))
    assert "output: '" in problem and "min_seq_length was 1 and is 3" in problem and "overwrite=true" in problem
    (problem,) = problems(config("tokenizer.coverage=0.99"))
    assert "shared_tokenizer.60.BPE.json" in problem and "coverage was 0.999 and is 0.99" in problem
    check_preparation(config("min_seq_length=3", "overwrite=true"))
    with pytest.raises(ConfigurationError, match="metadata.*tokenizers.source.sha256 was .*overwrite=true"):
        prepare(check_preparation(config("tokenizer.vocab_size=50")))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["tokenizer.vocab_size=null"], "tokenizer.vocab_size has no value; give it, or tokenizer.tokenizer_model."),
        (["tokenizer.r2l=true"], "tokenizer.r2l=true: only youtokentome"),
        (["tokenizer.tokenizer_model=nowhere"], "tokenizer.tokenizer_model names 'nowhere', which does not exist."),
        (
            ["tokenizer.tokenizer_model=x", "tokenizer.vocab_size=9"],
            "tokenizer.vocab_size=9: has no effect with tokenizer_model=x",
        ),
        (["source=nowhere.de"], "source names 'nowhere.de', which does not exist."),
        (["target=[]"], "source names 1 files and target 0; the numbers must be equal."),
        (["devices=0"], "devices=0: must be a whole number of at least 1."),
        (["tar_file_prefix=a/b"], "tar_file_prefix=a/b"),
        (["tarred=false"], "tokens_in_batch=150: has no effect with tarred=false; leave it out."),
        (["tarred=false", "clean=false"], "clean=false: has no effect with tarred=false; leave it out."),
        (["tarred=false", "threads=2"], "threads=2: has no effect with tarred=false; leave it out."),
        (["clean=false", "max_seq_length_ratio=3"], "max_seq_length_ratio=3.0: has no effect with clean=false"),
        (["+sourse=x"], "the configuration has the unknown key 'sourse'; the closest known key is 'source'."),
    ],
)
def test_each_mistake_is_told(config, tmp_path, overrides, sentence):
    assert any(problem.startswith(sentence) for problem in problems(config(*overrides)))
    assert not list(tmp_path.iterdir())


def test_files_that_are_not_parallel_are_told_before_any_work(config, corpus):
    (problem,) = problems(config(f"target={corpus}/val.en"))
    assert "train.de' has 64 lines and" in problem


def test_text_that_is_source_and_target_is_prepared_and_warned_of(config, corpus, caplog):
    main(config(f"target={corpus}/train.de", "tarred=false", "tokens_in_batch=512"))
    assert any(f"source: '{corpus}/train.de' is source and target" in message for message in caplog.messages)


def test_a_tokenizer_without_nemos_special_tokens_is_told_with_the_remedy(config, corpus, tmp_path):
    odd = train_sentencepiece(tmp_path / "odd", corpus / "train.en", vocab_size=40, pad_id=-1)
    (problem,) = problems(config(f"tokenizer.tokenizer_model={odd}", "tokenizer.vocab_size=null"))
    assert problem.startswith("tokenizer.tokenizer_model: '") and "has pad_id=-1" in problem
