"""The batch as Kubeflow pipelines: building, compiling, submitting and waiting for them.

Used from a checkout, as `python -m pipelines COMMAND`; :mod:`pipelines.cli` lists the commands. The arrow points one
way: pipelines -> components -> worldexplorer.

Example:
    $ python -m pipelines submit --profile gke-l4-spot --dataset_dir gs://b/set --output_base gs://b/out --watch
"""
