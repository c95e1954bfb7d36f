"""Import this module to let NeMo 2.x restore translation models with a youtokentome tokenizer.

NeMo 1.x trained most of its published translation models with `library: yttm`. Example:

    import nemo_distill.nemo_files.youtokentome
    model = MTEncDecModel.restore_from("student_or_teacher.nemo")
"""

from nemo_distill.nemo_files.host_fixes import restore_youtokentome

restore_youtokentome()
