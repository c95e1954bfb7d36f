from nemo_distill.console import print_table


def test_a_cell_is_shown_as_it_is(capfd):
    print_table(["training", "best"], [["model_path=[a.nemo,b.nemo]", "1"]])
    assert "model_path=[a.nemo,b.nemo]" in capfd.readouterr().out
