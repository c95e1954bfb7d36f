import pytest

from nemo_distill.commands.mix_corpora import check_mixing, main, mix_corpora
from nemo_distill.config.errors import ConfigurationError
from tests.conftest import composed


@pytest.fixture
def files(tmp_path):
    for name, lines in (("real", 4), ("pseudo", 6), ("mono", 2)):
        for side in ("src", "tgt"):
            (tmp_path / f"{name}.{side}").write_text("".join(f"{name} {number}\n" for number in range(lines)))
    return tmp_path


def config(files, *overrides):
    base = [f"output={files}/out/mixed"]
    for name, share in (("real", 1), ("pseudo", 2)):
        base += [f"corpora.{name}.source={files}/{name}.src", f"corpora.{name}.target={files}/{name}.tgt"]
        base.append(f"corpora.{name}.share={share}")
    return composed("mix_corpora", *base, *overrides)


def test_a_configuration_becomes_a_mix_of_its_shares(files, capsys):
    cfg = config(files, f"+corpora.mono={{source: {files}/mono.src, target: {files}/mono.tgt, share: 0.5}}")
    mix_corpora(check_mixing(cfg), overwrite=False)
    mixed = (files / "out" / "mixed.src").read_text().split("\n")[:-1]
    counts = {name: sum(line.startswith(name) for line in mixed) for name in ("real", "pseudo", "mono")}
    assert counts == {"real": 4, "pseudo": 8, "mono": 2}
    assert "57.14%" in capsys.readouterr().out
    check_mixing(cfg)
    cfg.seed = 1
    with pytest.raises(ConfigurationError, match="seed was 0 and is 1; give another name"):
        check_mixing(cfg)
    cfg.overwrite = True
    check_mixing(cfg)


def test_text_that_is_source_and_target_is_mixed_and_warned_of(files, caplog):
    main(config(files, f"corpora.pseudo.target={files}/pseudo.src"))
    (message,) = caplog.messages
    assert message.startswith(f"Warning: corpora.pseudo: '{files}/pseudo.src' is source and target")
    assert (files / "out" / "mixed.src").is_file()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["corpora.real.share=0"], "corpora.real.share=0: must be a number above 0"),
        (["corpora.pseudo.fraction=1.5"], "corpora.pseudo.fraction=1.5: must be a number above 0 and at most 1"),
        (["corpora.real.source=nowhere.de"], "corpora.real.source names 'nowhere.de', which does not exist"),
        (["corpora.real.source=nowhere.*"], "corpora.real.source names 'nowhere.*', which does not exist"),
        (["corpora.real.target=[]"], "corpora.real.target has no value; give it"),
        (["+corpora.real.weight=1"], "corpora.real has the unknown key 'weight'"),
        (["corpora.pseudo=3"], "corpora.pseudo=3: must be a section with fraction, share, source, tag, target, weights"),
        (["base=mono"], "base=mono: must be null or one of real, pseudo"),
        (["base=real", "lines=10"], "base=real and lines=10 both set the length of the mix"),
        (["~corpora.real", "~corpora.pseudo"], "corpora is empty"),
    ],
)  # fmt: skip
def test_each_mistake_is_told(files, overrides, sentence):
    cfg = config(files, *overrides)
    with pytest.raises(ConfigurationError) as error:
        check_mixing(cfg)
    assert sentence in str(error.value)
    assert not (files / "out").exists()


def test_all_mistakes_are_told_at_once(files):
    with pytest.raises(ConfigurationError, match="3 problems"):
        check_mixing(config(files, "corpora.real.share=0", "reading.max_characters=0", "lines=0"))


def test_inputs_are_not_overwritten(files):
    with pytest.raises(ConfigurationError, match="would overwrite '.*real.src'"):
        check_mixing(config(files, f"output={files}/real"))


@pytest.mark.parametrize("name", ["mixed.src", "mixed.weights", "mixed.json"])
def test_what_is_no_mix_is_not_overwritten(files, name):
    (files / "out").mkdir()
    (files / "out" / name).write_text("{}")
    with pytest.raises(ConfigurationError, match=f"output: '.*{name}' (is|was)"):
        check_mixing(config(files))
    check_mixing(config(files, "overwrite=true"))


def test_a_value_that_is_missing_is_told(files):
    with pytest.raises(ConfigurationError, match="corpora.pseudo.share has no value; give it"):
        check_mixing(composed("mix_corpora"))
