"""A teacher that needs no model: a pair's probabilities follow from its ids."""

import torch
from torch.nn.utils.rnn import pad_sequence

from nemo_distill.teacher_cache.build import build
from nemo_distill.teacher_cache.folder import CacheFolder
from nemo_distill.teacher_cache.settings import CacheSettings
from tests.pseudo_labels.fakes import write_model

PAD = 0
VOCAB_SIZE = 40


def batch_of(pairs, padding=0):
    """A batch of pairs of lists of ids; a target's first id is only an input of the decoder, its last only a label."""
    sources, targets = ([torch.tensor(ids) for ids in side] for side in zip(*pairs))
    sides = sources, [target[:-1] for target in targets], [target[1:] for target in targets]
    src_ids, tgt_ids, labels = (
        torch.nn.functional.pad(pad_sequence(side, batch_first=True, padding_value=PAD), (0, padding), value=PAD)
        for side in sides
    )
    return [src_ids, (src_ids != PAD).int(), tgt_ids, (tgt_ids != PAD).int(), labels]


def random_pairs(count, seed):
    generator = torch.Generator().manual_seed(seed)

    def ids():
        length = int(torch.randint(2, 9, (1,), generator=generator))
        return torch.randint(1, VOCAB_SIZE, (length,), generator=generator).tolist()

    return [(ids(), ids()) for _ in range(count)]


class FakeTeacher:
    """Runs over batches of pairs, each a list; interrupted at the batch `fail_at` that it is to see."""

    pad_id, vocab_size = PAD, VOCAB_SIZE

    def __init__(self, batches, fail_at=None):
        self.of_pairs, self.fail_at, self.seen = batches, fail_at, []

    @property
    def num_batches(self):
        return len(self.of_pairs)

    def batches(self):
        yield from map(batch_of, self.of_pairs)

    def log_probs(self, batch):
        if len(self.seen) == self.fail_at:
            raise KeyboardInterrupt
        self.seen.append(len(batch[0]))
        return torch.stack([log_probs_of(*row) for row in zip(*batch)])


def log_probs_of(src_ids, src_mask, tgt_ids, tgt_mask, labels):
    """(T, V), of one pair; padding changes nothing at the others."""
    seed = int(src_ids[src_mask.bool()].sum()) + 1
    words = torch.arange(VOCAB_SIZE)
    logits = torch.sin((words * seed + 7 * tgt_ids[:, None] + 3 * torch.arange(len(tgt_ids))[:, None]).double()) * 4
    return logits.log_softmax(-1).float()


def cache_job(folder, k=8, dtype="float16", shard_pairs=10, **settings):
    folder.parent.mkdir(parents=True, exist_ok=True)
    archive = folder.parent / "teacher.nemo"
    write_model(archive)
    recorded = {"teacher": {"name": "teacher.nemo", "sha256": "0" * 64}, "k": k, "dtype": dtype, **settings}
    return CacheFolder(folder, recorded, archive), CacheSettings(k=k, dtype=dtype, shard_pairs=shard_pairs)


def build_cache(folder, batches, teacher=None, rank=0, world_size=1, overwrite=False, **settings):
    teacher = teacher or FakeTeacher(batches)
    return build(*cache_job(folder, **settings), lambda: teacher, rank, world_size, overwrite)
