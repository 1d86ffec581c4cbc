"""A Kubeflow Pipelines API that refuses what the real one would, and more: for tests of whatever talks to it.

It is a real HTTP server on the loopback interface. Bodies are checked against the models of `kfp_server_api` with
unknown keys and wrong types refused, pipelines against the protocol buffers, run parameters against the pipeline's
declaration, and bearer tokens if any are set. Nothing runs: a run walks through the states that a test has scripted,
one a look.

Example:
    >>> with FakeKubeflow() as server:
    ...     server.script = [state("RUNNING"), state("SUCCEEDED")]
    ...     main(["submit", "--host", server.url, ...])
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pipeline.strictness import RefusalError, check_body, check_parameters, check_pipeline

EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with the next matching request.

    Attributes:
        pattern: of "METHOD /path".
        status: the answer; 0 to close the connection instead.
        after: carry the request out before that, so that its answer is lost.
        late: carry it out as well, just before the so many-th request that comes after it.
        headers: of the answer.
        body: of the answer.
    """

    pattern: str
    status: int = 503
    after: bool = False
    late: int = 0
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)
    body: str = '{"code": 14, "message": "upstream connect error"}'


@dataclass(frozen=True)
class Request:
    """What came in."""

    method: str
    path: str
    token: str


def state(name: str, tasks: Mapping[str, str] | None = None, error: str = "") -> dict[str, Any]:
    """One moment of a run: its state, its tasks' states by name, and what went wrong."""
    return {"state": name, "tasks": dict(tasks or {}), "error": error}


@dataclass
class FakeKubeflow:
    """The server and what it holds; everything may be changed while it runs.

    Attributes:
        script: the moments that runs created from now on walk through; the last one stays.
        tokens: accepted bearer tokens; empty for a server that asks for none.
        multi_user: whether there are profiles, so that experiments need a namespace.
    """

    script: list[dict[str, Any]] = field(default_factory=lambda: [state("RUNNING"), state("SUCCEEDED")])
    tokens: set[str] = field(default_factory=set)
    multi_user: bool = False
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring_runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    on_run: Callable[[dict[str, Any]], None] = field(default=lambda run: None)
    """Called with each new run, before its creation is answered."""
    on_request: Callable[[Request], None] = field(default=lambda request: None)
    """Called with each request, before it is judged."""

    def __post_init__(self) -> None:
        self._scripts: dict[str, list[dict[str, Any]]] = {}
        self._late: list[tuple[int, Callable[[], object]]] = []
        self._lock = threading.RLock()
        self._now = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeKubeflow:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def arguments(self) -> list[dict[str, Any]]:
        """The parameters of every run, in the order they came."""
        return [run["runtime_config"]["parameters"] for run in self.runs.values()]

    def count(self, pattern: str) -> int:
        """How many requests "METHOD /path" matched."""
        return sum(re.fullmatch(pattern, f"{one.method} {one.path}") is not None for one in self.requests)

    def fault_for(self, request: Request) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if re.fullmatch(fault.pattern, f"{request.method} {request.path}"):
                    self.faults.remove(fault)
                    return fault
        return None

    def carry_out_later(self, requests: int, work: Callable[[], object]) -> None:
        """Do something just before the so many-th request from now on is judged."""
        self._late.append((len(self.requests) + requests, work))

    def carry_out_what_is_due(self) -> None:
        """What earlier requests have left."""
        with self._lock:
            due = [work for number, work in self._late if number <= len(self.requests)]
            self._late = [one for one in self._late if one[0] > len(self.requests)]
        for work in due:
            work()

    def answer(self, request: Request, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        with self._lock:
            for pattern, method in _ROUTES:
                match = re.fullmatch(pattern, f"{request.method} {request.path}")
                if match:
                    return getattr(self, method)(*match.groups(), query=query, body=body)
        raise RefusalError(404, f"no such method: {request.method} {request.path}")

    def authorize(self, request: Request) -> None:
        if self.tokens and request.token not in self.tokens:
            raise RefusalError(401, f"Unauthenticated: Failed to authenticate token {request.token!r}")

    # What the routes name

    def health(self, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        return {"multi_user": self.multi_user}

    def list_experiments(self, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        self._require_namespace(query.get("namespace"))
        found = [
            one
            for one in self.experiments.values()
            if _matches(one, query) and one.get("namespace", "") == (query.get("namespace") or "")
        ]
        return {"experiments": found, "total_size": len(found)} if found else {}

    def create_experiment(self, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        check_body(body, "V2beta1Experiment")
        self._require_namespace(body.get("namespace"))
        if any(one["display_name"] == body["display_name"] for one in self.experiments.values()):
            raise RefusalError(409, f"Already exist error: The name {body['display_name']} already exist")
        made = {**body, "experiment_id": str(uuid.uuid4()), "created_at": self._time(), "storage_state": "AVAILABLE"}
        self.experiments[made["experiment_id"]] = made
        return made

    def get_experiment(self, experiment_id: str, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        return _found(self.experiments, experiment_id, "Experiment")

    def create_run(self, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        check_body(body, "V2beta1Run")
        self._check_what_to_run(body)
        if not body.get("display_name"):
            raise RefusalError(400, "The run name is empty")
        run_id = str(uuid.uuid4())
        made = {**body, "run_id": run_id, "created_at": self._time(), "finished_at": EPOCH, "state": "PENDING"}
        made["storage_state"] = "AVAILABLE"
        self.runs[run_id] = made
        self._scripts[run_id] = list(self.script)
        self.on_run(made)
        return made

    def get_run(self, run_id: str, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        run = _found(self.runs, run_id, "Run")
        script = self._scripts[run_id]
        moment = script.pop(0) if len(script) > 1 else script[0]
        run["state"] = moment["state"]
        if moment["state"] in ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED") and run["finished_at"] == EPOCH:
            run["finished_at"] = self._time(minutes=30)
        if moment["error"]:
            run["error"] = {"code": 9, "message": moment["error"]}
        if moment["tasks"]:
            run["run_details"] = {"task_details": [_task(run_id, *task) for task in moment["tasks"].items()]}
        return run

    def list_runs(self, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        _found(self.experiments, query.get("experiment_id", ""), "Experiment")
        found = [
            one for one in self.runs.values() if one["experiment_id"] == query["experiment_id"] and _matches(one, query)
        ]
        if query.get("sort_by") == "created_at desc":
            found.reverse()
        found = found[: int(query.get("page_size", 10))]
        return {"runs": found, "total_size": len(found)} if found else {}

    def terminate_run(self, run_id: str, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        run = _found(self.runs, run_id, "Run")
        if run["state"] in ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"):
            raise RefusalError(400, f"Failed to terminate run {run_id}: it is not running")
        run["state"] = "CANCELING"
        self._scripts[run_id] = [state("CANCELING"), state("CANCELED")]
        return {}

    def create_recurring_run(self, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        check_body(body, "V2beta1RecurringRun")
        self._check_what_to_run(body)
        trigger = body.get("trigger", {})
        if len(trigger) != 1:
            raise RefusalError(400, "a recurring run needs one trigger")
        cron = trigger.get("cron_schedule", {}).get("cron")
        if cron is not None and len(cron.split()) != 6:
            raise RefusalError(400, f"The schedule cron is malformed: expected 6 fields, found {cron!r}")
        if not 1 <= int(body.get("max_concurrency", 0)) <= 10:
            raise RefusalError(400, "The max concurrency of the recurring run is out of range (1 to 10)")
        made = {**body, "recurring_run_id": str(uuid.uuid4()), "created_at": self._time()}
        made["status"] = "ENABLED" if body.get("mode") == "ENABLE" else "DISABLED"
        self.recurring_runs[made["recurring_run_id"]] = made
        return made

    def list_recurring_runs(self, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        """Two a page at most, so that whoever lists has to turn pages."""
        first = int(query.get("page_token") or 0)
        found = list(self.recurring_runs.values())
        answer: dict[str, Any] = {"recurringRuns": found[first : first + 2], "total_size": len(found)}
        if first + 2 < len(found):
            answer["next_page_token"] = str(first + 2)
        return answer if found else {}

    def get_recurring_run(self, recurring_run_id: str, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        return _found(self.recurring_runs, recurring_run_id, "Recurring run")

    def switch_recurring_run(self, recurring_run_id: str, word: str, query: Any, body: Any) -> dict[str, Any]:
        one = _found(self.recurring_runs, recurring_run_id, "Recurring run")
        one["status"] = "ENABLED" if word == "enable" else "DISABLED"
        return {}

    def delete_recurring_run(self, recurring_run_id: str, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        _found(self.recurring_runs, recurring_run_id, "Recurring run")
        del self.recurring_runs[recurring_run_id]
        return {}

    def _require_namespace(self, namespace: str | None) -> None:
        if self.multi_user and not namespace:
            raise RefusalError(400, "Invalid input error: namespace is empty in multi-user mode")

    def _check_what_to_run(self, body: dict[str, Any]) -> None:
        _found(self.experiments, body.get("experiment_id", ""), "Experiment")
        specification = check_pipeline(body.get("pipeline_spec"))
        check_parameters(specification, body.get("runtime_config", {}).get("parameters", {}))

    def _time(self, minutes: int = 0) -> str:
        self._now += timedelta(seconds=1, minutes=minutes)
        return self._now.strftime("%Y-%m-%dT%H:%M:%SZ")


_ROUTES = (
    (r"GET /apis/v2beta1/healthz", "health"),
    (r"GET /apis/v2beta1/experiments", "list_experiments"),
    (r"POST /apis/v2beta1/experiments", "create_experiment"),
    (r"GET /apis/v2beta1/experiments/([^/:]+)", "get_experiment"),
    (r"POST /apis/v2beta1/runs", "create_run"),
    (r"GET /apis/v2beta1/runs", "list_runs"),
    (r"GET /apis/v2beta1/runs/([^/:]+)", "get_run"),
    (r"POST /apis/v2beta1/runs/([^/:]+):terminate", "terminate_run"),
    (r"POST /apis/v2beta1/recurringruns", "create_recurring_run"),
    (r"GET /apis/v2beta1/recurringruns", "list_recurring_runs"),
    (r"GET /apis/v2beta1/recurringruns/([^/:]+)", "get_recurring_run"),
    (r"POST /apis/v2beta1/recurringruns/([^/:]+):(enable|disable)", "switch_recurring_run"),
    (r"DELETE /apis/v2beta1/recurringruns/([^/:]+)", "delete_recurring_run"),
)


def _matches(one: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    predicates = json.loads(query["filter"])["predicates"] if query.get("filter") else []
    for predicate in predicates:
        if predicate["operation"] not in ("EQUALS", 1) or predicate["key"] not in ("display_name", "name"):
            raise RefusalError(400, f"this filter is not understood: {predicate}")
        wanted = predicate.get("stringValue", predicate.get("string_value"))
        if one["display_name"] != wanted:
            return False
    return True


def _found(things: Mapping[str, dict[str, Any]], key: str, what: str) -> dict[str, Any]:
    if key not in things:
        raise RefusalError(404, f"ResourceNotFoundError: {what} {key} not found")
    return things[key]


def _task(run_id: str, name: str, how: str) -> dict[str, Any]:
    """A task's details; "parent/child" stands below "parent", and "FAILED: why" failed because of that."""
    word, _, message = how.partition(": ")
    parent, _, _ = name.rpartition("/")
    task = {"run_id": run_id, "task_id": name, "display_name": name.rpartition("/")[2], "state": word}
    if parent:
        task["parent_task_id"] = parent
    if message:
        task["error"] = {"code": 9, "message": message}
    return task


class _Handler(BaseHTTPRequestHandler):
    fake: FakeKubeflow
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name is the base class's)
        """Tests look at `requests` instead."""

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        text = self.rfile.read(length)
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        header = self.headers.get("Authorization") or ""
        request = Request(self.command, unquote(parts.path), header.removeprefix("Bearer "))
        self.fake.requests.append(request)
        self.fake.on_request(request)
        self.fake.carry_out_what_is_due()
        fault = self.fake.fault_for(request)
        if fault is not None and fault.late:
            self.fake.carry_out_later(fault.late, lambda: self._judge(request, query, text))
        status, document = 200, None
        if fault is None or fault.after:
            status, document = self._judge(request, query, text)
        if fault is not None:
            if fault.status:
                self._send(fault.status, fault.body.encode(), dict(fault.headers))
            self.close_connection = True
            return
        self._send(status, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _judge(self, request: Request, query: Mapping[str, str], text: bytes) -> tuple[int, dict[str, Any]]:
        try:
            self.fake.authorize(request)
            return 200, self.fake.answer(request, query, json.loads(text) if text else None)
        except RefusalError as refusal:
            return refusal.status, {"error": refusal.message, "code": 3, "message": refusal.message, "details": []}

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        with suppress(ConnectionError):  # a client that gave up waiting has gone
            self.end_headers()
            self.wfile.write(body)
