"""The container components of the cluster pipeline, one folder each: a signature and a container spec, nothing else.

What a container does is :mod:`worldexplorer.pod`; how components become a pipeline is :mod:`pipelines.build`.
"""
