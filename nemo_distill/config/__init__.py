"""Configurations: their types, the keys that NeMo and Lightning know, and the errors that name what is wrong."""
