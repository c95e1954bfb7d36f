"""What translations do wrong, counted by kind: pure functions of source, translation and reference."""
