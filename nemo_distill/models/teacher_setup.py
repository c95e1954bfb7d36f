"""Gives a translation model its teachers: opens them, checks that they fit, and takes weights from them."""

from dataclasses import asdict
from typing import Any

from omegaconf import OmegaConf
from torch import nn

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.core.distillation_mixin import DistillationMixin
from nemo_distill.models.cache_config import cache_problems
from nemo_distill.models.cached_teacher import CachedTeacher
from nemo_distill.models.distillation_section import TranslationDistillation
from nemo_distill.models.hugging_face_teacher import HuggingFaceTeacher
from nemo_distill.models.initialization import (
    initialization_problems,
    initialize_from_teacher,
    share_encoder,
    shared_encoder_problems,
)
from nemo_distill.models.language_tag import LanguageTag, added_tags, teacher_tag
from nemo_distill.models.pairing import hugging_face_problems, or_across, pairing_problems, vocabulary_problems
from nemo_distill.models.positions import check_positions
from nemo_distill.models.retokenized_teacher import RetokenizedTeacher, TranslationPieceTeacher
from nemo_distill.nemo_files.hugging_face_folder import HuggingFaceFolder
from nemo_distill.nemo_files.model_kinds import has_learned_positions, number_of_positions, teaching_problems
from nemo_distill.nemo_files.tokenizer_files import Vocabulary, loaded_vocabulary, piece_differences
from nemo_distill.storage.files import user_path


class TeacherSetupMixin(DistillationMixin[TranslationDistillation]):
    """What a student does with its teachers before the first step. A teacher is another model of this class, a cache,
    or a Hugging Face model. List it before `MTEncDecModel` in the bases.
    """

    distillation_section = TranslationDistillation
    _shares_encoder = False  # True if the encoder is the teacher's, frozen
    _across_vocabularies = False  # True if a teacher may have other pieces
    language_tag: LanguageTag | None = None  # of a teacher whose student reads no language tag
    _longest_target: int | None = None  # of the student's own translations, if a teacher has learned its positions

    # Of `MTEncDecModel`.
    encoder: nn.Module
    encoder_tokenizer: Any
    decoder_tokenizer: Any
    multilingual: bool

    @classmethod
    def other_teacher(cls, path: str, distillation: TranslationDistillation) -> HuggingFaceTeacher | None:
        if not user_path(path).is_dir():
            return None
        if problems := hugging_face_problems(distillation, [HuggingFaceFolder(path)]):
            raise ConfigurationError(problems)
        return HuggingFaceTeacher(path, (distillation.source_language, distillation.target_language))

    def read_from_teacher(self) -> tuple[str, ...]:
        return ("encoder_hidden_states",) if self._shares_encoder else ()

    def cached_teacher(self, distillation: TranslationDistillation) -> CachedTeacher:
        # By now `train_ds` names the text of a mix; a cache knows the corpora that it was mixed of.
        config = OmegaConf.to_container(self.cfg) | {"distillation": {"mix": asdict(distillation.mix)}}
        problems, path = cache_problems(config, distillation), distillation.teacher_cache
        if problems or path is None:
            raise ConfigurationError(problems)
        return CachedTeacher(path, distillation.teacher_cache_tail, student=self)

    def validate_distillation_model(self, teacher: Any) -> list[str]:
        problems = teaching_problems(self.cfg, teacher.cfg)
        if problems or self._across_vocabularies:
            return problems
        if isinstance(teacher, CachedTeacher):
            differences = vocabulary_problems(self.cfg, teacher.archive, teacher.archive)
        elif isinstance(teacher, HuggingFaceTeacher):
            differences = pairing_problems(self.vocabularies(), teacher.vocabularies(), compared=piece_differences)
        else:
            differences = pairing_problems(self.vocabularies(), teacher.vocabularies(with_tags=self.multilingual))
        return or_across(differences)

    def adapt_teacher(self, teacher: Any) -> DistillationMixin:
        if isinstance(teacher, CachedTeacher):
            teacher.check_pairs(getattr(self, "_train_ds", None) or ())
            return teacher
        tokenizers = self.encoder_tokenizer, self.decoder_tokenizer
        is_folder = isinstance(teacher, HuggingFaceTeacher)
        if not is_folder:
            teacher.language_tag = teacher_tag(teacher, self.cfg)
        if self._across_vocabularies:
            return RetokenizedTeacher(TranslationPieceTeacher(teacher), *tokenizers)
        if is_folder:
            teacher.set_student(*tokenizers)
        if has_learned_positions(teacher.cfg, "decoder"):
            positions = number_of_positions(teacher.cfg, "decoder")
            self._longest_target = min(positions, self._longest_target or positions)
        if (data := getattr(self, "_train_ds", None)) is not None:  # a student for testing has none
            check_positions("model.train_ds", data, teacher.cfg, "the teacher's", bool(teacher.language_tag))
        return teacher

    def initialize_from_teacher(self, teacher: Any, distillation: TranslationDistillation) -> dict[str, Any] | None:
        if distillation.share_encoder:
            config = OmegaConf.to_container(self.cfg)
            if problems := shared_encoder_problems(config, distillation, 1, teacher.cfg):
                raise ConfigurationError(problems)
            share_encoder(self, teacher)
            self._shares_encoder = True
            self.encoder.eval()
            return {"encoder": "shared"}
        if not distillation.distilbert_initialization:
            return None
        if problems := initialization_problems(distillation.initialization, self.cfg, teacher.cfg):
            raise ConfigurationError(problems)
        return initialize_from_teacher(self, teacher, distillation.initialization)

    def vocabularies(self, with_tags: bool = True) -> dict[str, Vocabulary]:
        """Returns the vocabulary of each side, or its part without the language tags that NeMo has added."""
        sides = {"encoder": self.encoder_tokenizer, "decoder": self.decoder_tokenizer}
        left_out = () if with_tags else added_tags(self)
        return {side: loaded_vocabulary(tokenizer, left_out) for side, tokenizer in sides.items()}
