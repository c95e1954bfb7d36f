"""Translates with sequence-to-sequence models of Hugging Face: Marian and OPUS-MT, NLLB, M2M-100, mBART, T5."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nemo_distill.config.errors import ConfigurationError, NotFiniteError
from nemo_distill.decoding.engine import EMPTY, OVERFLOW, Hypothesis, Translation, batches_by_length, sample_seed
from nemo_distill.decoding.hugging_face_text import FolderText, open_folder
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.text.files import as_list
from nemo_distill.text.lines import is_blank

TOKENS_IN_BATCH = 4096


class HuggingFaceEngine(FolderText):
    """An `Engine` for a folder written by Hugging Face's `save_pretrained` or downloaded from its hub.

    The engine downloads nothing and runs no code from the folder. The model's generation config determines the special
    and forbidden tokens (`bad_words_ids`). `SearchSettings` determines the search. Length penalties in a beam have the
    form `power`. A required language token is forced at the start, like the start symbol. It counts neither in scores
    nor in lengths. Each batch contains only sources with the same number of tokens, so that a translation does not
    depend on other lines. For the same reason, samples are drawn one at a time.

    Args:
        folder: the folder with `config.json`, weights and tokenizer.
        device: a device such as `cpu` or `cuda:1`.
        dtype: the type of the weights: float32, float16 or bfloat16.
        source_language: only for models that are told it: NLLB, M2M-100, mBART and T5.
        target_language: only for these, OPUS-MT models with several targets, and MADLAD-400. `ignore`: the lines have
            the tag of OPUS-MT, or the words of T5, themselves.

    Raises:
        ConfigurationError: if a language is missing, unknown to the model, or not to be chosen.
    """

    def __init__(
        self,
        folder: str | Path,
        device: str = "cpu",
        dtype: str = "float32",
        source_language: str | None = None,
        target_language: str | None = None,
    ):
        model, tokenizer, direction = open_folder(folder, (source_language, target_language), dtype)
        size = len(model.get_output_embeddings().weight)
        super().__init__(folder, tokenizer, direction, model.config, model.generation_config, size)
        model.generation_config = self.generation_config
        model.config.vocab_size = size  # Marian's may be the source's, and the scores of target words are found by it
        self.model = model.to(device).eval()
        self._device = device

    @torch.inference_mode()
    def translate(self, lines: Sequence[str], settings: SearchSettings) -> list[Translation]:
        """Translates `lines` and keeps their order.

        Raises:
            ConfigurationError: if this engine does not support the settings.
        """
        if problems := settings.problems() or unsupported_by_hugging_face(settings):
            raise ConfigurationError(problems)
        sources = {index: self.read(line.strip()) for index, line in enumerate(lines) if not is_blank(line)}
        wanted = [index for index, (ids, _) in sources.items() if len(ids) > self.special_tokens]
        encoded = [sources[index][0] for index in wanted]
        translations = [EMPTY] * len(lines)
        for batch in self._batches(encoded, settings):
            ids = torch.tensor([encoded[item] for item in batch], device=self._device)  # (B, S)
            if settings.method == "sample":
                torch.manual_seed(sample_seed(settings.seed, ids.tolist()))
            for item, hypotheses in zip(batch, self._generate(ids, settings)):
                translations[wanted[item]] = Translation(tuple(hypotheses), sources[wanted[item]][1])
        return translations

    def _batches(self, encoded: Sequence[list[int]], settings: SearchSettings) -> list[list[int]]:
        if settings.method == "sample":
            return [[item] for item in range(len(encoded))]
        by_length = defaultdict(list)
        for item, ids in enumerate(encoded):
            by_length[len(ids)].append(item)
        batches = []
        for length, items in sorted(by_length.items(), reverse=True):
            lengths = [length * settings.beam_size] * len(items)
            batches += [[items[index] for index in part] for part in batches_by_length(lengths, TOKENS_IN_BATCH)]
        return batches

    def _generate(self, ids: Tensor, settings: SearchSettings) -> list[list[Hypothesis]]:
        """Returns the hypotheses of each source in `ids` (B, S)."""
        config = self.model.generation_config
        output = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            decoder_input_ids=ids.new_tensor([self.prompt] * len(ids)),  # (B, P)
            max_new_tokens=self.limit(ids.shape[1], settings),
            num_return_sequences=settings.n_best,
            output_scores=settings.is_beam_search,
            output_logits=not settings.is_beam_search,
            return_dict_in_generate=True,
            suppress_tokens=self.never(settings) or None,
            bad_words_ids=self.forbidden_sequences or None,
            renormalize_logits=True,
            logits_processor=[_checked] if settings.method == "sample" else None,
            **_search_options(settings),
        )
        generated = output.sequences[:, len(self.prompt) :]  # (B * n_best, T)
        ends = torch.isin(generated, ids.new_tensor(as_list(config.eos_token_id)))
        lengths = torch.where(ends.any(-1), ends.int().argmax(-1) + 1, generated.shape[1])  # (B * n_best,)
        scores = self._scores(output, lengths, settings)
        texts = self.tokenizer.batch_decode(  # clean-up would remove the space before a French "!"
            generated, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        finished = ends.any(-1).tolist()
        found = [Hypothesis(text.strip(), *rest) for text, *rest in zip(texts, scores, finished)]
        per_line = [found[start : start + settings.n_best] for start in range(0, len(found), settings.n_best)]
        return [sorted(hypotheses, key=lambda hypothesis: -hypothesis.score) for hypotheses in per_line]

    def _scores(self, output: Any, lengths: Tensor, settings: SearchSettings) -> list[float]:
        """Returns log p(y|x) / lp(|y|) of each hypothesis, given its length |y| in `lengths` (B * n_best,)."""
        if settings.is_beam_search:
            steps = self.model.compute_transition_scores(output.sequences, output.scores, output.beam_indices)
        else:  # not the scores, which depend on temperature, top_k and top_p
            never = torch.tensor(self.never(settings), dtype=torch.long, device=self.model.device)
            logits = tuple(step.index_fill(-1, never, -torch.inf) for step in output.logits)
            steps = self.model.compute_transition_scores(output.sequences, logits, normalize_logits=True)
        positions = torch.arange(steps.shape[1], device=steps.device)  # (T,)
        totals = steps.masked_fill(positions >= lengths.unsqueeze(1), 0.0).sum(-1)
        return (totals / settings.penalty(lengths)).tolist()


def _checked(ids: Tensor, logits: Tensor) -> Tensor:
    """Returns logits (B, V) from which tokens can be drawn. torch ends with an error of its own where they are NaN."""
    if not logits.amax(-1).isfinite().all():
        raise NotFiniteError(OVERFLOW)
    return logits


def _search_options(settings: SearchSettings) -> dict[str, Any]:
    if settings.method == "beam":
        penalty = settings.length_penalty if settings.is_beam_search else 1.0
        beam = {"num_beams": settings.beam_size, "length_penalty": penalty, "early_stopping": False}
        return {"do_sample": False, **beam}
    return {
        "do_sample": True,
        "num_beams": 1,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "temperature": settings.temperature,
        "epsilon_cutoff": settings.epsilon,
    }


def unsupported_by_hugging_face(settings: SearchSettings) -> list[str]:
    """Returns a sentence for each setting that Hugging Face's search does not support."""
    return settings.power_form_problems("Hugging Face")
