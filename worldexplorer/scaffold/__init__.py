"""Stage 1: eight views around one place; numpy only, the models come from an engine."""
