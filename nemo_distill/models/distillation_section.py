"""The `distillation` section of a translation model: its fields, its losses, and the tensors that they compare."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from nemo_distill.config.checks import listing
from nemo_distill.config.known_keys import Count
from nemo_distill.config.schedule import Schedule, Weight
from nemo_distill.config.section import Allowed, argument_problem, changed, read_section, rule, section
from nemo_distill.config.wording import shown
from nemo_distill.core.distillation_section import DistillationSection
from nemo_distill.core.loss_terms import Widths, read_tensors, reads_only_distributions
from nemo_distill.models.on_policy import OnPolicy
from nemo_distill.nemo_files.model_kinds import SIDES, is_hugging_face_encoder, is_hugging_face_model
from nemo_distill.text.mix_section import MixSection
from nemo_distill.text.source_noise import SourceNoise

REGISTERED_TENSORS = (
    "log_probs",
    "projection",
    "nll",
    "spans",
    "own_pieces",
    *(f"{side}_{what}" for side in SIDES for what in ("hidden_states", "layers", "self_attention")),
    "decoder_cross_attention",
)
DISTRIBUTIONS = REGISTERED_TENSORS[:5]  # what a teacher of Hugging Face registers
REFERENCE_TENSORS = ("nll",)  # those that are about the labels
LAYERS_OF_NEMO_ENCODERS = ("encoder_layers", "encoder_self_attention")
# The tensors of a teacher with other pieces than its student; all others give the first alone.
OF_OTHER_VOCABULARIES = ("log_probs", "spans", "own_pieces")
SOURCE_TENSORS = tuple(name for name in REGISTERED_TENSORS if name.startswith("encoder") or "cross" in name)
LayerRule = Annotated[
    Literal["uniform", "first", "last"] | list[Annotated[int, Field(ge=1)]] | None,
    Allowed("uniform, first, last, null or a list of the teacher's layers, counted from 1"),
]


@section
class Initialization:
    """The weights that a student copies from its teacher before training (Sanh et al. 2019, section 3)."""

    encoder: LayerRule = "uniform"
    """The teacher's layers to copy: `uniform` (every n-th), `first`, `last`, or a list; null: none."""
    decoder: LayerRule = "uniform"
    """The same for the decoder."""
    embeddings: bool = True
    """Copy the embeddings and the output layer."""
    prune_width: bool = False
    """If the teacher is wider, cut what is copied to the student's hidden size, inner size and number of heads: keep
    the dimensions, inner units and heads with the largest weights. false: the sizes must be equal."""


@section
class TranslationDistillation(DistillationSection):
    """The `distillation` section of a translation model."""

    source_language: str | None = None
    """The language that a Hugging Face teacher reads, if it knows several; any code of it."""
    target_language: str | None = None
    """The language that such a teacher writes."""
    distillation_loss_weight: Weight = 1.0
    """Weight of `loss.primary`."""
    cosine_loss_weight: Weight = 0.0
    """Weight of `loss.cosine`, 1 - cosine of the decoders' hidden states. If the widths differ, a learned linear map
    connects them. The map is not part of the student's `.nemo`."""
    distill_encoder: bool = False
    """Apply `loss.cosine` to the encoders' hidden states too, as `cosine_encoder`."""
    distilbert_initialization: bool = False
    """Copy the student's initial weights from its teacher; see `initialization`."""
    initialization: Initialization = Field(default_factory=Initialization)
    """The weights that `distilbert_initialization` copies."""
    same_size_as_teacher: bool = False
    """Copy `model.encoder`, `model.decoder`, `model.head` and `shared_embeddings` from the teacher's config."""
    across_vocabularies: bool = False
    """The student has other tokenizers than its teacher. Distributions are compared at the positions that both
    segmentations of the target have; the student's own loss must train the others."""
    share_encoder: bool = False
    """Use the teacher's encoder, frozen, in the student. It runs once for both, and only the decoder is trained."""
    mix: MixSection = Field(default_factory=MixSection)
    """A mix of corpora to train on, instead of `train_ds` alone."""
    noise: SourceNoise = Field(default_factory=SourceNoise)
    """Noise in the source sentences that the student reads. The teacher reads them without noise."""
    on_policy: OnPolicy = Field(default_factory=OnPolicy)
    """Training on the student's own translations, which the teacher scores."""
    iterations: int = Field(default=1, ge=1)
    """Passes over each batch. From the second on, both decoders read the words that the student found most probable in
    the pass before, instead of the target. Losses on distributions are means over all passes (Zhang et al. 2023)."""

    @rule
    def replaced_target_problems(self) -> list[str]:
        """Returns a sentence for each key that is useless or impossible where targets are replaced."""
        problems = [
            f"{key}: the teacher must read what the student wrote, which no teacher_cache holds; give model_path "
            f"instead of teacher_cache={self.teacher_cache}."
            for key, used in (
                (f"on_policy.share={_written(self.on_policy.share)}", not self.on_policy.is_off),
                (f"iterations={self.iterations}", self.iterations > 1),
            )
            if used and self.teacher_cache
        ]
        if not self.on_policy.is_always:
            return problems
        unread = {"mix.corpora": listing(self.mix.corpora)} if self.mix.corpora else {}
        if not self.student_weight.is_zero:
            unread["student_train_loss_weight"] = _written(self.student_train_loss_weight)
        return problems + [
            f"{key}={value} has no effect, because on_policy.share=1 replaces every target, also those of references "
            "and pseudo-labels; set a share below 1, or leave it out."
            for key, value in unread.items()
        ]

    def term_problems(self, losses: Sequence[tuple[str, nn.Module]]) -> list[str]:
        """Returns a sentence for each loss that noise or the student's own translations do not allow, and for missing
        ones.
        """
        problems = []
        reading = [name for name, loss in losses if read_tensors(loss) & set(REFERENCE_TENSORS)]
        if not self.on_policy.is_off and len(reading) == len(losses):
            problems.append(
                f"on_policy.share={_written(self.on_policy.share)}: the student's own translations need a loss with a "
                "weight above 0 that compares it with its teacher and reads no references; there is none."
            )
        elif self.on_policy.is_always:
            problems += [
                f"loss.{name} is about the words of the references, and on_policy.share=1 replaces them all."
                for name in reading
            ]
        if not self.noise.is_none:
            problems += [
                f"loss.{name} cannot compare their '{tensor}': with noise, student and teacher read different sources."
                for name, loss in losses
                for tensor in sorted(read_tensors(loss) & set(SOURCE_TENSORS))
            ]
        if self.iterations > 1 and not any(reads_only_distributions(loss) for _, loss in losses):
            problems.append(
                f"iterations={self.iterations}: has no effect without a loss that reads only 'log_probs'; set it to 1."
            )
        return problems

    @rule
    def encoder_loss_problems(self) -> list[str]:
        """Returns a sentence if `distill_encoder` has no loss to add, or one that is there already."""
        if not self.distill_encoder:
            return []
        if "cosine" not in self.loss:
            return ["distill_encoder=true has no effect without loss.cosine, which it applies to the encoders too."]
        if str(states := self.loss["cosine"].get("hidden_states")).startswith("encoder"):
            return [
                f"distill_encoder=true: loss.cosine.hidden_states={states} is the encoder's already; set it to false."
            ]
        if "cosine_encoder" not in self.loss:
            return []
        return [
            "distill_encoder=true adds the loss cosine_encoder, but loss.cosine_encoder is given too; rename the "
            "latter, or set distill_encoder=false."
        ]

    @rule
    def unused_problems(self) -> list[str]:
        """Returns a sentence for each key that depends on another one that is off."""
        problems, given = [], self.initialization
        if not self.distilbert_initialization:
            problems += [
                f"initialization.{key}={shown(value)} has no effect with distilbert_initialization=false."
                for key, value in changed(given).items()
            ]
        elif given.encoder is given.decoder is None and not given.embeddings:
            problems.append("distilbert_initialization=true copies nothing, as initialization says; set it to false.")
        if self.teacher_cache_tail == "uniform" and not self.teacher_cache:
            problems.append("teacher_cache_tail=uniform has no effect without a teacher_cache.")
        return problems

    def why_unread(self, name: str) -> str | None:
        if self.across_vocabularies and name not in OF_OTHER_VOCABULARIES:
            return f"across vocabularies, a teacher gives only {listing(OF_OTHER_VOCABULARIES)}"
        if name in OF_OTHER_VOCABULARIES[1:] and not self.across_vocabularies:
            return "teachers give them only with across_vocabularies=true"
        return super().why_unread(name)

    @rule
    def passes_problems(self) -> list[str]:
        """Returns a sentence for each option that cannot follow targets or decoder inputs that are replaced."""
        problems = []
        if self.mix.weighting == "loss" and not self.on_policy.is_off:
            problems.append(
                f"on_policy.share={_written(self.on_policy.share)}: the student's own translations are in no mix, "
                "and so have no weights; set mix.weighting=pairs."
            )
        if self.across_vocabularies and self.iterations > 1:
            problems.append(
                f"iterations={self.iterations}: a teacher of another vocabulary reads the text of the target, not the "
                "student's predictions; set it to 1."
            )
        return problems


def _written(value: float | Schedule) -> str:
    """Returns a number or a schedule as a user would type it."""
    if not isinstance(value, Schedule):
        return shown(value)
    given = {key: part for key, part in asdict(value).items() if part is not None}
    return f"{{{', '.join(f'{key}: {part}' for key, part in given.items())}}}"


def read_distillation(model: Mapping[str, Any], where: str) -> tuple[TranslationDistillation | None, list[str]]:
    """Returns the `distillation` section of a model's config, and a sentence for each problem.

    Args:
        model: the config, resolved.
        where: the key of the section, for the messages.
    """
    return read_section(TranslationDistillation, model.get("distillation") or {}, where)


def distillation_losses(distillation: TranslationDistillation) -> dict[str, Mapping[str, Any]]:
    """Returns the loss nodes. With `distill_encoder`, they include `cosine_encoder` for the encoders' states."""
    nodes: dict[str, Mapping[str, Any]] = dict(distillation.loss)
    if distillation.distill_encoder and "cosine" in nodes:
        states = nodes["cosine"].get("hidden_states", "decoder_hidden_states")
        nodes["cosine_encoder"] = {**nodes["cosine"], "hidden_states": str(states).replace("decoder", "encoder")}
    return nodes


def registered_tensors(*models: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the tensors that all models of these configs register."""
    if any(map(is_hugging_face_model, models)):
        return DISTRIBUTIONS
    if any(map(is_hugging_face_encoder, models)):
        return tuple(name for name in REGISTERED_TENSORS if name not in LAYERS_OF_NEMO_ENCODERS)
    return REGISTERED_TENSORS


def registered_widths(model: Mapping[str, Any]) -> Widths:
    """Returns the widths of hidden states and the numbers of attention heads that a model of this config registers."""
    widths: dict[str, list[int]] = {}
    for side in SIDES:
        sizes = [model[side].get(key) for key in ("hidden_size", "num_layers", "num_attention_heads")]
        if side == "encoder" and is_hugging_face_encoder(model):
            widths["encoder_hidden_states"] = [model["decoder"].get("hidden_size")]  # NeMo needs both to be equal
            continue
        if any(argument_problem("", size, Count) for size in sizes):  # another check reports this
            return {}
        width, layers, heads = sizes
        widths |= {
            f"{side}_hidden_states": [width],
            f"{side}_layers": [width] * (layers + 1),
            f"{side}_self_attention": [heads] * layers,
        }
    return widths | {"decoder_cross_attention": widths["decoder_self_attention"]}
