"""A teacher's word distributions for the training pairs, stored once, so that students train without the teacher."""
