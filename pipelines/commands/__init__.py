"""The commands of `python -m pipelines`, one a module with a `run(words, program)`."""
