"""What forks of `tests/forked.py` need not import, as objects that their garbage collection need not visit."""

import gc
from importlib import import_module

from nemo_distill.commands.jobs import JOBS, composed_job

gc.disable()
for module in (
    *("nemo_distill.core.distillation_model", "nemo_distill.models.mt_enc_dec_model"),
    *("ctranslate2.converters", "sacrebleu"),
    *(f"nemo_distill.commands.{job.module}" for job in JOBS.values()),
):
    import_module(module)
for name in JOBS:
    composed_job(name, [])
gc.enable()
gc.collect()
gc.freeze()
