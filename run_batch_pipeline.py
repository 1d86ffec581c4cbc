#!/usr/bin/env python3
"""Run the pipeline over a data set: the same as `worldexplorer batch`. `--help` lists every flag."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (an older one is told so here; the import below would only fail)
    sys.stderr.write("error: Python 3.11 or 3.12 is needed, this is {}.{}\n".format(*sys.version_info))
    sys.exit(2)

from worldexplorer.cli import main

if __name__ == "__main__":  # worker processes import this file too
    sys.exit(main(["batch", *sys.argv[1:]], program="run_batch_pipeline.py"))
