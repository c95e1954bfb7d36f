"""Cuts a teacher's layers to a student's sizes: structured pruning by the norms of weights, which needs no data.

Hidden states are cut by selecting dimensions, not by a projection such as PCA. NeMo adds fixed sines and cosines to
the embeddings, and its norms subtract the mean of all dimensions. A projection would mix both up; a selection does
not. Two things are approximate: norms use the mean and the variance of the kept dimensions, and matrices do not read
the others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

READERS = ("query_net", "key_net", "value_net", "dense_in")  # these matrices read hidden states
WRITERS = ("out_projection", "dense_out")  # the results of these are added to hidden states
COMPARED_POSITIONS = 128  # fixed positions are told apart by their first rows; few sentences are longer


@dataclass(frozen=True)
class KeptWidth:
    """The teacher's dimensions that become the student's.

    Args:
        dims: (D_student,), the teacher's dimension for each of the student's.
        teacher_width: D_teacher.
    """

    dims: Tensor
    teacher_width: int

    def read(self, weight: Tensor) -> Tensor:
        """Returns the kept columns of a matrix (N, D_teacher) that reads or embeds.

        They are multiplied by sqrt(D_teacher / D_student). This keeps the variance of a sum over fewer dimensions, and
        the ratio of embeddings to NeMo's fixed positions, which are divided by the square root of the width.
        """
        return weight[:, self.dims] * math.sqrt(self.teacher_width / len(self.dims))

    def written(self, weight: Tensor) -> Tensor:
        """Returns the kept rows of a matrix (D_teacher, N), or elements of a vector (D_teacher,)."""
        return weight[self.dims]


@torch.no_grad()
def kept_width(student: Any, teacher: Any, layers: Sequence[nn.Module]) -> KeptWidth:
    """Selects the dimensions of the hidden states that matter most to the layers that will be copied.

    The importance of a dimension is the sum of its shares in the squared norms of the embedding matrices and of all
    matrices in the layers. With learned positions, the most important dimensions are kept. Fixed positions give each
    pair of dimensions a frequency, in the student another one than in the teacher. So pairs are assigned to the
    student's pairs such that the sum of importance times similarity of positions is largest.

    Args:
        student: an `MTEncDecModel`.
        teacher: an `MTEncDecModel` that is at least as wide.
        layers: the teacher's layers.
    """
    ours, theirs = (model.encoder.embedding for model in (student, teacher))
    ours_width, width = (embedding.token_embedding.embedding_dim for embedding in (ours, theirs))
    if ours_width == width:
        return KeptWidth(torch.arange(width), width)
    importance = _importance(teacher, layers)
    if theirs.learn_positional_encodings:
        return KeptWidth(importance.topk(ours_width).indices.sort().values, width)
    pairs = _assigned(importance, theirs.position_embedding.pos_enc, ours.position_embedding.pos_enc)
    return KeptWidth(torch.stack([2 * pairs, 2 * pairs + 1], dim=-1).flatten(), width)


def _importance(teacher: Any, layers: Sequence[nn.Module]) -> Tensor:
    """Returns the importance (D_teacher,) of each dimension."""
    embeddings = [getattr(teacher, side).embedding.token_embedding.weight for side in ("encoder", "decoder")]
    squares = [weight.square().sum(dim=0) for weight in embeddings]
    for name, weight in (named for layer in layers for named in layer.named_parameters()):
        matrix = name.split(".")[-2]
        if weight.dim() == 2 and matrix in READERS + WRITERS:
            squares.append(weight.square().sum(dim=0 if matrix in READERS else 1))
    return sum(square.double() / square.sum() for square in squares)


def _assigned(importance: Tensor, theirs: Tensor, ours: Tensor) -> Tensor:
    """Returns the teacher's pair of dimensions for each of the student's pairs (D_student / 2,).

    Args:
        importance: (D_teacher,).
        theirs: the teacher's table of fixed positions (P, D_teacher), a sine and a cosine for each pair.
        ours: the student's table (P, D_student).
    """
    from scipy.optimize import linear_sum_assignment  # takes a second to import

    count = min(len(theirs), len(ours), COMPARED_POSITIONS)
    waves = [torch.complex(table[:count, 1::2], table[:count, 0::2]).cdouble() for table in (theirs, ours)]
    waves = [wave / wave.abs() for wave in waves]
    similarity = (waves[0].mH @ waves[1]).real / count  # (D_teacher / 2, D_student / 2), at most 1
    scores = importance.view(-1, 2).sum(dim=-1, keepdim=True) * similarity
    pairs, places = map(torch.from_numpy, linear_sum_assignment(scores.cpu().numpy(), maximize=True))
    return pairs[places.argsort()]


@torch.no_grad()
def copy_layer(ours: nn.Module, theirs: nn.Module, width: KeptWidth) -> None:
    """Copies a layer of NeMo's encoder or decoder, and prunes its norms, attention and feed-forward network.

    With equal sizes, the copy is exact.
    """
    for (_, own), (_, part) in zip(ours.named_children(), theirs.named_children(), strict=True):
        if isinstance(own, nn.LayerNorm):
            copy_norm(own, part, width)
        else:
            (_copy_attention if hasattr(own, "query_net") else _copy_feed_forward)(own, part, width)


@torch.no_grad()
def copy_norm(ours: nn.LayerNorm, theirs: nn.LayerNorm, width: KeptWidth) -> None:
    """Copies a LayerNorm's weight and bias of the kept dimensions."""
    ours.weight.copy_(width.written(theirs.weight))
    ours.bias.copy_(width.written(theirs.bias))


def _copy_feed_forward(ours: Any, theirs: Any, width: KeptWidth) -> None:
    """Copies the inner units with the largest product of the norms of their weights.

    If the student has more, the others keep their random weights, but their output weights are 0 at first.
    """
    reading, writing = width.read(theirs.dense_in.weight), width.written(theirs.dense_out.weight)
    units = _best(reading.norm(dim=1) * writing.norm(dim=0), len(ours.dense_in.weight))
    places = torch.arange(len(units))
    ours.dense_in.weight[places], ours.dense_in.bias[places] = reading[units], theirs.dense_in.bias[units]
    _write(ours.dense_out, places, writing[:, units], width.written(theirs.dense_out.bias))


def _copy_attention(ours: Any, theirs: Any, width: KeptWidth) -> None:
    """Copies the heads with the largest norms of values times outputs.

    If the student's heads are smaller, the units with the largest norms are kept in each: of queries times keys, and
    of values times outputs. If its heads are larger or more, the additional units keep their random weights, but
    their keys and outputs are 0 at first. Queries and keys are scaled so that another size does not change the scores.
    """
    heads, sizes = (
        min(ours.num_attention_heads, theirs.num_attention_heads),
        (ours.attn_head_size, theirs.attn_head_size),
    )
    query, key, value = (width.read(net.weight) for net in (theirs.query_net, theirs.key_net, theirs.value_net))
    writing = width.written(theirs.out_projection.weight)
    matching = (query.norm(dim=1) * key.norm(dim=1)).view(-1, sizes[1])  # (H, D_head)
    passing = (value.norm(dim=1) * writing.norm(dim=0)).view(-1, sizes[1])
    chosen = _best(passing.norm(dim=1), heads)
    places = _units(torch.arange(heads), torch.arange(min(sizes)).expand(heads, -1), sizes[0])
    matched, passed = (
        _units(chosen, torch.stack([_best(scores[head], min(sizes)) for head in chosen]), sizes[1])
        for scores in (matching, passing)
    )
    factor = (sizes[0] / sizes[1]) ** 0.25  # NeMo divides queries and keys by the fourth root of the head's size
    ours.key_net.weight.zero_()
    ours.key_net.bias.zero_()
    for net, weight, bias, units, scale in (
        (ours.query_net, query, theirs.query_net.bias, matched, factor),
        (ours.key_net, key, theirs.key_net.bias, matched, factor),
        (ours.value_net, value, theirs.value_net.bias, passed, 1.0),
    ):
        net.weight[places], net.bias[places] = weight[units] * scale, bias[units] * scale
    _write(ours.out_projection, places, writing[:, passed], width.written(theirs.out_projection.bias))


def _units(heads: Tensor, inside: Tensor, size: int) -> Tensor:
    """Returns the numbers of units, from those of heads (H,) of some size and of units in each of them (H, N)."""
    return (heads.unsqueeze(-1) * size + inside).flatten()


def _best(scores: Tensor, count: int) -> Tensor:
    """Returns the indices of the largest scores (N,), in order; all of them if there are no more than `count`."""
    return scores.topk(min(count, len(scores))).indices.sort().values


def _write(net: nn.Linear, places: Tensor, weight: Tensor, bias: Tensor) -> None:
    """Sets the columns of a matrix at `places`, and the others to 0."""
    net.weight.zero_()
    net.weight[:, places] = weight
    net.bias.copy_(bias)
