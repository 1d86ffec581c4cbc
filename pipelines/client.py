"""A Kubeflow Pipelines installation: experiments, runs, recurring runs.

Every method ends with an answer or with an error of :mod:`pipelines.errors`; how, is :mod:`pipelines.transport`'s work.
When the answer to the start of a run is lost on its way, a run of that description, which names its batch, is looked
for before a second one is started; should there be two after all, both are named.

Example:
    >>> cluster = open_cluster(connect_settings(host="http://localhost:8080"))
    >>> run = cluster.create_run(run_body)
    >>> cluster.run(run.run_id).state
    'RUNNING'
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from kfp_server_api import (
    RecurringRunMode,
    V2beta1CronSchedule,
    V2beta1Experiment,
    V2beta1PeriodicSchedule,
    V2beta1RecurringRun,
    V2beta1Run,
    V2beta1RuntimeConfig,
    V2beta1Trigger,
)

from pipelines.connection import POD_NAMESPACE, Connection
from pipelines.errors import ClusterError, UnreachableError
from pipelines.transport import LostAnswerError, Transport
from worldexplorer.errors import UsageError

FINAL_STATES = frozenset({"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"})
_PAGE = 100


class Cluster:
    """The API of one installation, in one namespace.

    Args:
        transport: how it is called.
        namespace: the profile's namespace; empty where the installation has no profiles.
    """

    def __init__(self, transport: Transport, namespace: str) -> None:
        self.transport = transport
        self.namespace = namespace
        self.connection: Connection = transport.connection

    def experiment_id(self, name: str) -> str:
        """The experiment of that name, made where there is none."""
        found = self._find_experiment(name)
        if found is not None:
            return found
        experiments = self.transport.experiments
        body = V2beta1Experiment(display_name=name, namespace=self.namespace or None)
        try:
            made = self.transport.once(experiments.experiment_service_create_experiment, experiment=body)
        except (LostAnswerError, UsageError):
            # The answer was lost, or somebody else has made it since: either way it is there now.
            found = self._find_experiment(name)
            if found is None:
                raise
            return found
        return str(_present(made.experiment_id, "an experiment", self.connection.host))

    def create_run(self, run: V2beta1Run) -> V2beta1Run:
        """Start a run.

        An answer that is lost does not say whether the run was started. It is looked for several times before the
        request is repeated, and once more after a repetition. A second run is rare, and possible: when a gateway
        carries the first request out later than that; where it is seen, both ids are told to `on_trouble`.

        Args:
            run: with a description that no other run has.

        Raises:
            UnreachableError: no answer in time, and no sign that the run was started.
        """
        create = self.transport.runs.run_service_create_run
        made: V2beta1Run = self._start(
            lambda: self.transport.once(create, run=run),
            lambda: self._find_runs(run),
            lambda one: _present(one.run_id, "a run", self.connection.host),
            "run",
        )
        return made

    def run(self, run_id: str) -> V2beta1Run:
        """A run as it is now; UsageError where there is none."""
        found: V2beta1Run = self.transport.repeat(self.transport.runs.run_service_get_run, run_id=run_id)
        _present(found.run_id, "a run", self.connection.host)
        return found

    def recent_runs(self, experiment: str, count: int) -> list[V2beta1Run]:
        """The newest runs of an experiment, newest first; none where there is no such experiment."""
        experiment_id = self._find_experiment(experiment)
        if experiment_id is None:
            return []
        answer = self.transport.repeat(
            self.transport.runs.run_service_list_runs,
            experiment_id=experiment_id,
            page_size=min(count, _PAGE),
            sort_by="created_at desc",
        )
        return list(answer.runs or [])

    def terminate(self, run_id: str) -> bool:
        """Stop a run; False where it had ended or was stopping already."""
        if self.run(run_id).state in FINAL_STATES | {"CANCELING"}:
            return False
        try:
            self.transport.repeat(self.transport.runs.run_service_terminate_run, run_id=run_id)
        except UsageError:
            state = self.run(run_id).state
            if state in FINAL_STATES:  # it ended between the look and the call, perhaps by an answer that was lost
                return bool(state == "CANCELED")
            raise
        return True

    def create_recurring_run(self, recurring: V2beta1RecurringRun) -> V2beta1RecurringRun:
        """Start a schedule; about lost answers, and what it raises, see :meth:`create_run`.

        Args:
            recurring: with a description that no other schedule has.
        """
        create = self.transport.recurring_runs.recurring_run_service_create_recurring_run
        made: V2beta1RecurringRun = self._start(
            lambda: self.transport.once(create, recurring_run=recurring),
            lambda: [one for one in self.recurring_runs() if one.description == recurring.description],
            lambda one: _present(one.recurring_run_id, "a recurring run", self.connection.host),
            "recurring run",
        )
        return made

    def recurring_runs(self) -> list[V2beta1RecurringRun]:
        """Every schedule of the namespace."""
        return list(self._pages(self.transport.recurring_runs.recurring_run_service_list_recurring_runs))

    def switch_recurring_run(self, recurring_run_id: str, *, enabled: bool) -> None:
        """Let a schedule start runs, or not."""
        service = self.transport.recurring_runs
        switch = (
            service.recurring_run_service_enable_recurring_run
            if enabled
            else service.recurring_run_service_disable_recurring_run
        )
        self.transport.repeat(switch, recurring_run_id=recurring_run_id)

    def delete_recurring_run(self, recurring_run_id: str) -> None:
        """Remove a schedule; the runs it has started go on."""
        service = self.transport.recurring_runs
        self.transport.repeat(service.recurring_run_service_delete_recurring_run, recurring_run_id=recurring_run_id)

    def _pages(self, list_function: Callable[..., Any]) -> Iterator[V2beta1RecurringRun]:
        token = ""
        while True:
            answer = self.transport.repeat(
                list_function, namespace=self.namespace or None, page_size=_PAGE, page_token=token
            )
            yield from answer.recurring_runs or []
            token = answer.next_page_token or ""
            if not token:
                return

    def _find_experiment(self, name: str) -> str | None:
        answer = self.transport.repeat(
            self.transport.experiments.experiment_service_list_experiments,
            namespace=self.namespace or None,
            filter=_named(name),
        )
        found = [one for one in answer.experiments or [] if one.display_name == name]
        return str(found[0].experiment_id) if found else None

    def _find_runs(self, run: V2beta1Run) -> list[V2beta1Run]:
        """The runs that a lost answer was about, by their description, newest first."""
        answer = self.transport.repeat(
            self.transport.runs.run_service_list_runs,
            experiment_id=run.experiment_id,
            filter=_named(run.display_name),
            page_size=_PAGE,
            sort_by="created_at desc",
        )
        return [one for one in answer.runs or [] if one.description == run.description]

    def _start(
        self, create: Callable[[], Any], find: Callable[[], list[Any]], id_of: Callable[[Any], str], what: str
    ) -> Any:
        """Create something that can be found by its description, once as far as that can be known from here."""
        transport = self.transport
        repeated = False
        for pause in transport.pauses():
            try:
                made = create()
            except LostAnswerError as error:
                transport.on_trouble(f"{error.what}; looking whether the {what} was started")
                if pause is not None:
                    transport.sleep(pause)
                found = self._look(find)
                if found:
                    self._tell_of_doubles(found, id_of, what)
                    return found[0]
                if pause is None:
                    raise UnreachableError(
                        f"the {what} could not be started: {error.what}", where=error.where, remedy=error.remedy
                    ) from None
                repeated = True
            else:
                id_of(made)
                if repeated:
                    self._tell_of_doubles(self._others(find, made, id_of, what), id_of, what)
                return made
        raise AssertionError("pauses end with None")

    def _look(self, find: Callable[[], list[Any]]) -> list[Any]:
        """What a lost request has made, looked for several times: a gateway may carry it out late."""
        for _ in self.transport.looks():
            found = find()
            if found:
                return found
        return []

    def _others(self, find: Callable[[], list[Any]], made: Any, id_of: Callable[[Any], str], what: str) -> list[Any]:
        """What was made after a repetition, and what else is there of its description."""
        try:
            found = find()
        except UnreachableError as error:
            self.transport.on_trouble(f"it could not be seen whether there is a second {what}: {error.what}")
            found = []
        return [made, *(one for one in found if id_of(one) != id_of(made))]

    def _tell_of_doubles(self, found: list[Any], id_of: Callable[[Any], str], what: str) -> None:
        """Both ids, where a request was carried out twice."""
        kept, *doubles = map(id_of, found)
        if doubles:
            stop = "cancel" if what == "run" else "schedule delete"
            self.transport.on_trouble(
                f"the {what} was started more than once: {kept} goes on here, and there is {' '.join(doubles)}; stop "
                f"what is too much with: python -m pipelines {stop} {' '.join(doubles)}"
            )


def open_cluster(connection: Connection, **transport_settings: Any) -> Cluster:
    """Reach for an installation and find out the namespace.

    Args:
        connection: where it is.
        transport_settings: those of :class:`~pipelines.transport.Transport`.

    Raises:
        UnreachableError: it does not answer.
        UsageError: it has profiles and nothing says which one to use.
    """
    transport = Transport(connection, **transport_settings)
    health = transport.repeat(transport.health.healthz_service_get_healthz)
    namespace = connection.namespace
    if not namespace and health.multi_user:
        try:
            namespace = POD_NAMESPACE.read_text(encoding="utf-8").strip()
        except OSError:
            raise UsageError(
                "this Kubeflow has profiles, and nothing says which one to use",
                where=connection.host,
                remedy="give the profile's --namespace",
            ) from None
    return Cluster(transport, namespace)


def runtime_config(arguments: dict[str, Any], pipeline_root: str) -> V2beta1RuntimeConfig:
    """A run's parameters and where its artifacts go; an empty root leaves that to the installation."""
    return V2beta1RuntimeConfig(parameters=arguments, pipeline_root=pipeline_root or None)


def cron_trigger(cron: str) -> V2beta1Trigger:
    """At times that a cron expression of six fields (seconds first) names."""
    return V2beta1Trigger(cron_schedule=V2beta1CronSchedule(cron=cron))


def interval_trigger(seconds: int) -> V2beta1Trigger:
    """Every so many seconds."""
    return V2beta1Trigger(periodic_schedule=V2beta1PeriodicSchedule(interval_second=str(seconds)))


def mode(*, enabled: bool) -> str:
    """What a schedule is created as."""
    return str(RecurringRunMode.ENABLE if enabled else RecurringRunMode.DISABLE)


def _named(name: str) -> str:
    """A filter for one display name."""
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [predicate]})


def _present(value: str | None, what: str, host: str) -> str:
    """The id of something; ClusterError where the answer has none, as that of another kind of server."""
    if not value:
        raise ClusterError(
            f"the answer holds no {what.removeprefix('a ').removeprefix('an ')}: this is no Kubeflow Pipelines API",
            where=host,
            remedy="let --host name the API; behind a Kubeflow dashboard it ends in /pipeline",
        )
    return value
