"""A teacher's word distributions over the training pairs, stored once, so that students learn without the teacher."""
