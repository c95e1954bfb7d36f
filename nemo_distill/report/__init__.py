"""An HTML page with the results of trainings and evaluations. Needs neither NeMo nor a network."""
