"""The page that shows what trainings and evaluations found; nothing here needs NeMo or a network."""
