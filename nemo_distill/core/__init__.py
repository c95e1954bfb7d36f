"""The distillation core. It works with models and losses and is independent of the task."""
