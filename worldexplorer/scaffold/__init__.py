"""Stage 1: eight views around one point, from a photo, from prompts, or brought by the data set."""
