"""Writes a small evaluation and small trainings, as evaluate.py and trainings write them."""

import json
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from nemo_distill.failures.profile import TranslatedSet, profile
from nemo_distill.failures.settings import FailureSettings
from nemo_distill.report.tables import Table
from nemo_distill.storage.ledger import fingerprint
from tests.evaluation.fakes import RECORD, SET, SYSTEM

SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
SOURCE = ["Der Hund sieht den Mann.", "Das Haus ist rot.", "Der Mann schläft jetzt."]
REFERENCE = ["The dog sees the man.", "The house is red.", "The man is sleeping now."]
TRANSLATIONS = {
    "teacher": REFERENCE,
    "baseline": ["The cat sees a <script>alert(1)</script>.", "A", "The man is sleeping now."],
    "student_seed0": ["The dog sees the man.", "The house is read.", "It rains."],
    "student_seed1": ["The dog sees the man.", "The house is red.", "The man sleeps now."],
}
ROLES = {"baseline": "baseline", "student_seed0": "distilled", "student_seed1": "distilled"}
BLEU = {"teacher": 40.0, "baseline": 30.0, "student_seed0": 33.0, "student_seed1": 36.0}


def system(name: str, parameters: int, speed: float) -> dict:
    return SYSTEM | {
        "model": f"{name}.nemo", "sha256": name, "parameters": parameters,
        "parameters_without_embeddings": parameters // 2, "bytes": 4 * parameters, "compression": 1000 / parameters,
        "group": name.partition("_seed")[0], "seed": int(name[-1]) if "_seed" in name else None, "role": ROLES.get(name),
        "speed": {"sentences_per_second": speed, "tokens_per_second": 9 * speed, "latency_ms_median": 5.0,
                  "latency_ms_p95": 9.0, "peak_memory_mb": 100.0},
    }  # fmt: skip


def write_failures(folder: Path) -> None:
    """Writes the failures of the evaluation; all words that no reference has are made up."""
    (folder / "train.en").write_text("".join(f"{line}\n" for line in REFERENCE))
    settings = FailureSettings(
        kinds=["tags", "made_up_words", "loops", "untranslated"], training_target=[str(folder / "train.en")]
    )
    record = {
        "settings": {"texts": [fingerprint(path) for path in sorted((folder / "texts").iterdir())]},
        "test_sets": profile(
            {"flickr": TranslatedSet(SOURCE, REFERENCE, TRANSLATIONS)}, settings, folder / "failures"
        ),
    }
    (folder / "failures.json").write_text(json.dumps(record), encoding="utf-8")


def write_evaluation(folder: Path) -> Path:
    """Writes an evaluation of a teacher, a baseline and two seeds of a student on one test set."""
    (folder / "texts").mkdir(parents=True)
    texts = {"src": SOURCE, "ref": REFERENCE} | {f"{name}.txt": lines for name, lines in TRANSLATIONS.items()}
    for suffix, lines in texts.items():
        (folder / "texts" / f"flickr.{suffix}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    scores = {name: {"BLEU": {"value": value, "signature": SIGNATURE}} for name, value in BLEU.items()}
    comparisons = [
        {"system": f"student_seed{seed}", "baseline": "baseline", "metric": "BLEU", "difference": 3.0,
         "p_value": p_value, "test": "bootstrap", "samples": 1000}
        for seed, p_value in enumerate((0.01, 0.04))
    ]  # fmt: skip
    closed = {"value": 0.45, "low": 0.2, "high": 0.7, "seeds": 2, "over": "seeds"}
    gap = {"metric": "BLEU", "teacher": "teacher", "baseline": "baseline", "closed": closed, "reason": None}
    record = RECORD | {
        "systems": {
            name: system(name, *size)
            for name, size in zip(TRANSLATIONS, ((1000, 10.0), (100, 50.0), (100, 60.0), (100, 55.0)))
        },
        "test_sets": {
            "flickr": SET
            | {
                "lines": 3,
                "source": "f.de",
                "reference": "f.en",
                "scores": scores,
                "comparisons": comparisons,
                "gaps": {"student": gap},
            }
        },
        "verdict": {
            "ship": "student",
            "because": "best",
            "measure": "speed",
            "metric": "BLEU",
            "differences": {"teacher": {"value": -5.5, "low": -24.6, "high": 13.6, "seeds": 2, "over": "seeds"}},
        },
        "notes": ["Not exported to int8: teacher. Some reason."],
    }
    (folder / "evaluation.json").write_text(json.dumps(record), encoding="utf-8")
    write_failures(folder)
    return folder


def write_run(folder: Path, overrides: list[str], bleu: list[float], **more: object) -> None:
    """Writes a training that has validated every ten steps; without scores, one that has failed."""
    folder.mkdir(parents=True)
    record = {
        "status": "finished" if bleu else "failed", "seed": 0, "overrides": overrides, "parameters": 100,
        "teacher_parameters": 1000, "seconds": 3725.0, "steps": 10 * len(bleu),
        "made_with": {"device": "1 x cpu", "versions": {"torch": "2.13.0"}, "git_revision": "a" * 40},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record | more), encoding="utf-8")
    with SummaryWriter(str(folder)) as writer:
        for index, value in enumerate(bleu):
            writer.add_scalar("val_sacreBLEU", value, 10 * (index + 1))


def cell_texts(table: Table) -> list[list[str]]:
    """The texts of a table's cells, row by row."""
    return [[cell.text for cell in row] for row in table.rows]
