"""Stable Virtual Camera (SEVA): our own network and sampler, for the published weights."""
