"""What runs inside a container of the cluster pipeline: one program with a stage's name.

    python -m worldexplorer.pod plan          --executor_input JSON     which jobs run
    python -m worldexplorer.pod scaffold      --executor_input JSON     stage 1 of one job
    python -m worldexplorer.pod trajectory    --executor_input JSON     stage 2
    python -m worldexplorer.pod splat         --executor_input JSON     stage 3
    python -m worldexplorer.pod batch_summary --executor_input JSON     what became of all of them

The pipeline hands over parameters and artifacts as one JSON text (`executor_input`) and reads one back from the file
that it names (:mod:`worldexplorer.pod.executor`). Between the two a pod calls the very functions that the batch on one
machine calls. Nothing here imports the pipeline's SDK.
"""
