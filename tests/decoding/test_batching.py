from nemo_distill.decoding.batching import batches_by_length


def test_every_sentence_is_in_one_batch_beside_others_of_its_length():
    lengths = [3, 9, 1, 9, 4, 30, 0]
    batches = list(batches_by_length(lengths, budget=20))
    assert batches == [[5], [1, 3], [4, 0, 2, 6]]
    assert all(max(lengths[i] for i in batch) * len(batch) <= 20 for batch in batches[1:])


def test_no_sentences_make_no_batch():
    assert list(batches_by_length([], budget=20)) == []
