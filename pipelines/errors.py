"""What can go wrong between here and the Kubeflow API; all of it says what, where and what to do.

Example:
    >>> raise UnreachableError("no answer for 60 s", where="https://kubeflow.example.com", remedy="check --host")
"""

from __future__ import annotations

from worldexplorer.errors import InfrastructureError, TransientError


class ClusterError(InfrastructureError):
    """The API answered, and not as it should."""


class UnreachableError(TransientError):
    """The API did not answer, or not to this token; what runs in the cluster goes on."""


class PartlySubmittedError(ClusterError):
    """Some runs of a batch went out and one did not."""
