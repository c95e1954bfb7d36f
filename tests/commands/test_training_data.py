"""The text of a training, prepared under NeMo's keys."""

from pathlib import Path

import pytest
import transformers
from omegaconf import OmegaConf

from nemo_distill.commands import training_data
from nemo_distill.commands.training_data import (
    TrainingText,
    earlier_text_problems,
    preprocess_data,
    training_text_problems,
)
from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.nemo_files.tokenizer_files import read_vocabulary
from nemo_distill.storage.records import read_json
from tests.conftest import tiny_config, write_corpus


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(training_data.console, "info", lines.append)
    monkeypatch.setattr(training_data.console, "warning", lines.append)
    return lines


@pytest.fixture
def config(tokenizer, corpus, tmp_path):
    """Returns the config of a model with the corpus's text, with some keys changed."""

    def make(trained=True, **changes):
        model = tiny_config(tokenizer, corpus)
        model.preproc_out_dir = str(tmp_path / "a b;$(c)")
        model.train_ds.merge_with({"use_tarred_dataset": True, "tokens_in_batch": 150, "n_preproc_jobs": 1})
        for side in ("encoder", "decoder") if trained else ():
            model[f"{side}_tokenizer"].merge_with({"tokenizer_model": None, "vocab_size": 60})
        for key, value in changes.items():
            OmegaConf.update(model, key.replace("__", "."), value, force_add=True)
        return model

    return make


def plain(model):
    return OmegaConf.to_container(model, resolve=True)


def test_small_text_becomes_one_tar_file_and_the_paths_are_put_into_the_config(config, tmp_path, said):
    model, folder = config(), tmp_path / "a b;$(c)"
    preprocess_data(model)
    assert model.encoder_tokenizer.tokenizer_model == str(folder / "shared_tokenizer.60.BPE.model")
    assert model.decoder_tokenizer.tokenizer_model == model.encoder_tokenizer.tokenizer_model
    assert model.train_ds.metadata_file == str(folder / "metadata.tokens.150.json")
    made = read_json(folder / "metadata.tokens.150.json")
    assert made["pairs"] == 64 and len(made["tar_files"]) == 1
    assert any("64 pairs in" in line and "pairs left out: none" in line for line in said)


def test_several_files_train_one_tokenizer_and_become_data_sets_to_sample_from(config, corpus, tmp_path, said):
    files = {f"train_ds__{key}_file_name": [str(corpus / f"{name}.{side}") for name in ("train", "val")] for key, side in (("src", "de"), ("tgt", "en"))}  # fmt: skip
    model = config(**files, train_ds__num_workers=2)
    preprocess_data(model)
    texts = read_json(tmp_path / "a b;$(c)" / "shared_tokenizer.60.BPE.json")["settings"]["text"]
    assert [name.split()[1] for name in texts] == ["train.de", "val.de", "train.en", "val.en"]
    assert [read_json(tmp_path / "a b;$(c)" / f"part{n}" / "metadata.tokens.150.json")["pairs"] for n in (0, 1)] == [
        64,
        8,
    ]
    assert len(model.train_ds.metadata_file) == 2
    assert model.train_ds.num_workers == 1 and any("num_workers=2" in line for line in said)


def test_languages_of_a_multilingual_model_name_folders_and_control_symbols(config, corpus, tmp_path):
    names = (
        [str(corpus / f"{name}.de") for name in ("train", "val")],
        [str(corpus / f"{name}.en") for name in ("train", "val")],
    )
    model = config(
        multilingual=True,
        tgt_language=["en", "fr"],
        train_ds__src_file_name=names[0],
        train_ds__tgt_file_name=names[1],
    )
    preprocess_data(model)
    assert [path.split("/")[-2] for path in model.train_ds.metadata_file] == ["en", "fr"]
    assert {"<en>", "<fr>"} < set(read_vocabulary(model.encoder_tokenizer.tokenizer_model).pieces)


def test_without_a_shared_tokenizer_each_side_has_its_own_from_its_own_text(config, tmp_path):
    model = config(shared_tokenizer=False)
    preprocess_data(model)
    for side, name in (("encoder", "train.de"), ("decoder", "train.en")):
        record = read_json(tmp_path / "a b;$(c)" / f"tokenizer.{side}.60.BPE.json")
        assert [text.split()[1] for text in record["settings"]["text"]] == [name]


def test_other_text_in_the_same_folder_is_refused_by_name_and_made_again_on_request(config, tmp_path):
    preprocess_data(config())
    source, target = write_corpus(tmp_path, "other", 30, seed=7)
    other = {"train_ds__src_file_name": str(source), "train_ds__tgt_file_name": str(target)}
    assert earlier_text_problems(plain(config())) == []
    (problem,) = earlier_text_problems(plain(config(**other)))
    assert problem.startswith("model.preproc_out_dir: '") and "text.1 other.de was None" in problem
    assert problem.endswith("give another folder, or make it again with model.preproc_overwrite=true.")
    with pytest.raises(ConfigurationError, match="text.1 other.de was None"):
        preprocess_data(config(**other))
    model = config(**other, preproc_overwrite=True)
    preprocess_data(model)
    assert read_json(tmp_path / "a b;$(c)" / "metadata.tokens.150.json")["pairs"] == 30


def test_data_of_a_tokenizer_that_is_trained_anew_is_refused_with_the_remedy(config):
    preprocess_data(config())
    smaller = config(encoder_tokenizer__vocab_size=50, decoder_tokenizer__vocab_size=50)
    with pytest.raises(ConfigurationError, match="metadata.*tokenizers.source.sha256 was .*preproc_overwrite=true"):
        preprocess_data(smaller)


def test_data_of_another_tokenizer_is_refused(config, tokenizer, yttm_tokenizer):
    both = {f"{side}_tokenizer__tokenizer_model": str(tokenizer) for side in ("encoder", "decoder")}
    preprocess_data(config(trained=False, **both))
    other = {key: str(yttm_tokenizer) for key in both}
    (problem,) = earlier_text_problems(plain(config(trained=False, **other)))
    assert "tokenizers.source.library was sentencepiece and is yttm" in problem


def test_youtokentome_tokenizers_are_trained_too(config, tmp_path):
    pytest.importorskip("youtokentome", reason="the extra [yttm] is not installed")
    model = config(
        **{f"{side}_tokenizer__library": "yttm" for side in ("encoder", "decoder")}, encoder_tokenizer__r2l=True
    )
    preprocess_data(model)
    tokenizers = read_json(tmp_path / "a b;$(c)" / "metadata.tokens.150.json")["settings"]["tokenizers"]
    assert [one["library"] for one in tokenizers.values()] == ["yttm", "yttm"]
    assert [one["r2l"] for one in tokenizers.values()] == [True, False]


def test_a_plain_training_and_its_validation_leave_out_pairs_with_an_empty_side_and_count_them(
    tokenizer, corpus, tmp_path, monkeypatch
):
    from nemo_distill import DistillableMTEncDecModel
    from nemo_distill.nemo_files import host_fixes

    lines, model = [], tiny_config(tokenizer, corpus)
    monkeypatch.setattr(host_fixes.console, "info", lines.append)
    for side, text in (("de", "Hund\n\u200b\nrot\nHaus\n"), ("en", "dog\nred\n\nhouse\n")):
        (tmp_path / f"odd.{side}").write_text(text, encoding="utf-8")
    for section in ("train_ds", "validation_ds"):
        files = {"src_file_name": f"{tmp_path}/odd.de", "tgt_file_name": f"{tmp_path}/odd.en"}
        model[section].merge_with({**files, "clean": True})
    made = DistillableMTEncDecModel(model)
    assert sum(len(batch["src"]) for batch in made._train_ds.batches.values()) == 2
    (validation,) = made._validation_ds
    pairs = {
        tuple(map(tuple, batch[side][:, 1:2].tolist()))
        for batch in validation.batches.values()
        for side in ("src", "tgt")
    }
    assert pairs == {
        tuple((made.encoder_tokenizer.text_to_ids(word)[0],) for word in words)
        for words in (("Hund", "Haus"), ("dog", "house"))
    }
    assert lines == [
        f"model.{section}: left out of the 4 pairs in '{tmp_path}/odd.de': 2 empty"
        for section in ("train_ds", "validation_ds")
    ]


@pytest.mark.parametrize("listed", ["5", '"batches.tar"'])
def test_metadata_that_lists_no_tar_files_is_told(config, tmp_path, listed):
    metadata = tmp_path / "metadata.json"
    metadata.write_text(f'{{"num_batches": 1, "tar_files": {listed}}}')
    with pytest.raises(DataError, match=r"metadata\.json' cannot be read: .*tar_files"):
        preprocess_data(config(preproc_out_dir=None, trained=False, train_ds__metadata_file=str(metadata)))


def test_tar_files_that_devices_cannot_share_are_told(config, said):
    model = config(train_ds__num_batches_per_tarfile=2)
    preprocess_data(model, devices=1)
    made = read_json(Path(model.train_ds.metadata_file))
    count = len(made["tar_files"])
    preprocess_data(model, devices=count - 1)
    assert any(f"has {count} tar files, which do not divide evenly over {count - 1} devices" in line for line in said)
    with pytest.raises(ConfigurationError, match=f"has {count} tar files for {count + 1} devices"):
        preprocess_data(model, devices=count + 1)
    model.train_ds.shard_strategy = "replicate"
    preprocess_data(model, devices=count + 1)


def test_tokenizers_that_need_nemo_are_loaded_by_it(config, tmp_path):
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] der Hund Mann sieht rot Haus und the dog man sees red house and".split()
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    transformers.BertTokenizer(str(tmp_path / "vocab.txt"), do_lower_case=False).save_pretrained(tmp_path / "bert")
    model = config()
    for side in ("encoder", "decoder"):
        model[f"{side}_tokenizer"].library, model[side].model_name = "huggingface", str(tmp_path / "bert")
    assert training_text_problems(plain(model)) == []
    preprocess_data(model)
    assert read_json(tmp_path / "a b;$(c)" / "metadata.tokens.150.json")["pairs"] == 64
    assert not list((tmp_path / "a b;$(c)").glob("*.model"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"encoder_tokenizer__vocab_size": None}, "model.encoder_tokenizer.vocab_size has no value"),
        ({"decoder_tokenizer__vocab_size": 50}, "model.encoder_tokenizer.vocab_size=60 and model.decoder_tokenizer.vocab_size=50"),
        ({"decoder_tokenizer__coverage": 1.0}, "model.encoder_tokenizer.coverage=0.999 and model.decoder_tokenizer.coverage=1.0"),
        ({"encoder_tokenizer__special_tokens": [""]}, "model.encoder_tokenizer.special_tokens=['']: must not contain"),
        ({"encoder_tokenizer__training_sample_size": -2}, "model.encoder_tokenizer.training_sample_size=-2: must be"),
        ({"encoder_tokenizer__vocab_size": None, "distillation": None}, "model.encoder_tokenizer.vocab_size has no value"),
        ({"train_ds__lines_per_dataset_fragment": 0}, "model.train_ds.lines_per_dataset_fragment=0: must be"),
        ({"encoder_tokenizer__library": "yttm", "decoder_tokenizer__library": "yttm", "encoder_tokenizer__bpe_dropout": 0.1}, "model.encoder_tokenizer.bpe_dropout=0.1: tarred data would hold"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_by_its_key(config, changes, sentence):
    (problem,) = training_text_problems(plain(config(**changes)))
    assert problem.startswith(sentence)


@pytest.mark.parametrize(("jobs", "threads"), [(None, 4), (3, 3), (-1, 4), (-2, 3), (-9, 1)])
def test_nemos_number_of_jobs_is_that_of_threads(config, monkeypatch, jobs, threads):
    monkeypatch.setattr(training_data, "cpu_count", lambda: 4)
    assert TrainingText(plain(config(train_ds__n_preproc_jobs=jobs))).threads() == threads
