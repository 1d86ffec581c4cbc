"""WorldExplorer's batch pipeline: folders of photos become explorable Gaussian-splat worlds.

Start at :mod:`worldexplorer.batch` for a run over a data set, at :mod:`worldexplorer.stage` for one stage of one job.
"""

__version__ = "0.1.0"
