"""The distillation core: it knows models and losses, but no task."""
