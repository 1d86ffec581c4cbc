"""Every rule finds its bad pipeline and leaves its neighbour alone; the command says so by its exit code."""

from __future__ import annotations

import pytest
import yaml
from pipeline.bad_pipelines import PAIRS, compiled

from pipelines.exit_codes import FAILED, SUCCESS
from pipelines.lint import RULES, lint, lint_package, main
from pipelines.package import Package, Source, read_package
from worldexplorer.errors import UsageError

NAMES = [rule.name for rule in RULES]


def places(findings, name):
    return sorted({finding.where for finding in findings if finding.rule == name})


def errors(findings):
    return {finding.rule for finding in findings if finding.is_error}


def save(package: Package, path):
    documents = [dict(package.specification)] + ([dict(package.platform)] if package.platform else [])
    path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    return path


def test_every_rule_has_its_own_name_and_its_pair():
    assert len(set(NAMES)) == len(NAMES)
    assert sorted(PAIRS) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_rule_fires_where_the_pipeline_is_bad(name):
    pair = PAIRS[name]
    findings = lint(compiled(pair.bad, pair.edit))
    assert places(findings, name) == sorted(pair.where)
    assert errors(findings) == ({name} if name.startswith("E") else set())


@pytest.mark.parametrize("name", NAMES)
def test_rule_is_silent_where_the_pipeline_is_good(name):
    findings = lint(compiled(PAIRS[name].good))
    assert places(findings, name) == []
    assert errors(findings) == set()


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_rule_says_why_and_what_to_do(rule):
    assert rule.why and rule.remedy
    assert not rule.why.endswith(".") and not rule.remedy.endswith(".")


def test_finding_names_the_task_by_its_path():
    (finding,) = (found for found in lint(compiled(PAIRS["W3"].bad)) if found.rule == "W3")
    assert str(finding).startswith("W3 for-loop-1/one/for-loop-1: is a loop inside a loop (kfp.local gives")
    assert "What to do: make one list" in str(finding)


def test_component_that_is_reached_twice_is_looked_at_on_both_ways():
    """The same sub-pipeline, called with a constant and with an empty default."""
    package = compiled(PAIRS["W2"].good)
    assert [task.path for task in package.tasks()] == ["one", "one-2", "work", "one/work", "one-2/work"]


def test_value_is_traced_through_graphs():
    package = compiled(PAIRS["E14"].bad)
    (graph,) = (dag for dag in package.dags() if dag.path == "one")
    assert graph.origin("secret").source is Source.DEFAULT
    assert graph.origin("secret").value == ""
    assert graph.origin("nothing").source is Source.UNDECLARED


def test_command_is_silent_about_a_good_package(tmp_path, capsys):
    path = save(compiled(PAIRS["E7"].good), tmp_path / "good.yaml")
    assert main([str(path)]) == SUCCESS
    assert f"{path}: 0 errors" in capsys.readouterr().out


def test_command_fails_for_an_error(tmp_path, capsys):
    path = save(compiled(PAIRS["E7"].bad), tmp_path / "bad.yaml")
    assert main([str(path)]) == FAILED
    assert f"{path}: E7 work: resourceCount is taken from a parameter of the type NUMBER_INTEGER" in (
        capsys.readouterr().out
    )


def test_command_fails_for_a_warning_when_it_is_strict(tmp_path):
    path = save(compiled(PAIRS["W9"].bad), tmp_path / "undescribed.yaml")
    assert main([str(path)]) == SUCCESS
    assert main([str(path), "--strict"]) == FAILED


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: [", "is not YAML"),
        ("", "holds no compiled pipeline"),
        ("- a", "holds no compiled pipeline"),
        ("apiVersion: v1\nkind: Secret\n", "holds no compiled pipeline"),
        ("root: {}\ndeploymentSpec: {}\n---\na: 1\n---\nb: 1\n", "holds no compiled pipeline"),
    ],
)
def test_other_file_is_a_usage_error(tmp_path, text, what):
    path = tmp_path / "other.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=what):
        lint_package(path)
    with pytest.raises(UsageError, match=what):
        main([str(path)])


def test_command_needs_a_file():
    with pytest.raises(UsageError, match="FILE"):
        main([])


def test_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_package(tmp_path / "missing.yaml")


def test_component_that_runs_itself_is_a_usage_error():
    """The SDK does not make one; unfolding it would never end."""
    package = compiled(PAIRS["W2"].good)
    specification = dict(package.specification)
    tasks = specification["components"]["comp-one"]["dag"]["tasks"]
    tasks["again"] = {"componentRef": {"name": "comp-one"}, "inputs": {"parameters": {}}}
    with pytest.raises(UsageError, match="'comp-one' runs itself"):
        lint(Package(specification, {}))


def test_task_without_its_component_is_a_usage_error():
    package = compiled(PAIRS["W2"].good)
    specification = dict(package.specification)
    del specification["components"]["comp-work"]
    with pytest.raises(UsageError, match="'comp-work', which the package does not have"):
        lint(Package(specification, {}))
