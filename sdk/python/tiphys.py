"""Pipelines as programs: plain Argo objects out of tasks that know each other by reference.

One file, the standard library only, Python 3.8 or newer::

    import tiphys

    ci = tiphys.workflow("ci-")
    build = ci.task("build", tiphys.script("golang:1.26", "go build ./..."))
    ci.task("test", tiphys.script("golang:1.26", "go test ./..."), after=build)
    tiphys.main(ci)

Every keyword that a function does not know is a field of the object that it makes, in Argo's own spelling.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

Value = Union[str, int, float, bool]
Raw = Dict[str, Any]
"""Fields in Argo's or Kubernetes' own spelling."""
Values = Mapping[str, Union[Value, Mapping[str, Any], Sequence[Any], None]]
"""Names with values, in order. Of None comes a parameter without a value; of a dictionary the other fields of a parameter."""
Items = Union[Mapping[str, Any], Sequence[Mapping[str, Any]]]
"""Names with values, or Argo's list."""
AnyTemplate = Union["Template", "TemplateRef", Raw, str]
"""A template, Argo's plain object of one, or the name of one that is there."""

# Fields of a Kubernetes container; every other option of a container is a field of its template.
_CONTAINER_FIELDS = frozenset((
    "args", "command", "env", "envFrom", "image", "imagePullPolicy", "lifecycle", "livenessProbe", "ports", "readinessProbe", "resizePolicy",
    "resources", "restartPolicy", "securityContext", "startupProbe", "stdin", "stdinOnce", "terminationMessagePath", "terminationMessagePolicy",
    "tty", "volumeDevices", "volumeMounts", "workingDir",
))

# Fields of a CronWorkflow; every other option of one is the workflow's.
_CRON_FIELDS = frozenset((
    "concurrencyPolicy", "failedJobsHistoryLimit", "startingDeadlineSeconds", "stopStrategy", "successfulJobsHistoryLimit", "suspend", "timezone", "when",
))

_ARTIFACT = re.compile(r"\{\{((tasks|steps)\.[^.{}]+\.outputs|inputs|workflow\.outputs)\.artifacts\.[^.{}]+\}\}")


class Mistake(ValueError):
    """A mistake in a pipeline. The message begins with its place in the program."""

    def __init__(self, message: str) -> None:
        super().__init__(_place() + message)


def _place() -> str:
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    if frame is None:
        return ""
    name = frame.f_code.co_filename
    relative = os.path.relpath(name) if os.path.isabs(name) else name
    return "%s:%d: " % (name if relative.startswith("..") else relative, frame.f_lineno)


def _placed(made: "Raw", place: str) -> "Raw":
    """Adds the place in the program, if whoever runs it asks for it to say where a mistake in the manifest was made."""
    if os.environ.get("TIPHYS_PLACES") and place:
        made["//"] = place[:-2]
    return made


# References: what they give are tags, which Argo replaces when the run gets there.


def tag(text: str) -> str:
    """Any tag: tag("workflow.name")."""
    return "{{" + text + "}}"


def expression(text: str) -> str:
    """An expression: expression("asInt(inputs.parameters.n) + 1")."""
    return "{{=" + text + "}}"


def parameter(name: str) -> str:
    """A parameter of the workflow."""
    return tag("workflow.parameters." + name)


def input(name: str) -> str:
    """An input parameter of the template that it stands in."""
    return tag("inputs.parameters." + name)


def input_artifact(name: str) -> str:
    """An input artifact of the template that it stands in, to hand it on."""
    return tag("inputs.artifacts." + name)


def item(field: Optional[str] = None) -> str:
    """The item of a loop, or one field of it."""
    return tag("item" if field is None else "item." + field)


def secret(name: str, key: str) -> Raw:
    """A key of a Secret, as a value of the environment."""
    return {"valueFrom": {"secretKeyRef": {"name": name, "key": key}}}


def config_map(name: str, key: str) -> Raw:
    """A key of a ConfigMap, as a value of the environment."""
    return {"valueFrom": {"configMapKeyRef": {"name": name, "key": key}}}


# Volumes


class Mount:
    """A volume and where a container sees it."""

    def __init__(self, volume: "Volume", fields: Raw) -> None:
        self.volume = volume
        self.fields = fields


class Volume:
    """A volume that containers can see. With claim, the workflow makes it, not the template."""

    def __init__(self, name: str, fields: Raw, claim: bool = False) -> None:
        self.name = name
        self.fields = fields
        self.claim = claim

    def at(self, path: str, **more: Any) -> Mount:
        """The volume at a path; more fields of Kubernetes' volumeMount may follow."""
        return Mount(self, dict(more, name=self.name, mountPath=path))


def volume(name: str, source: Optional[Mapping[str, Any]] = None) -> Volume:
    """A volume of any kind: volume("cache", {"emptyDir": {}})."""
    return Volume(name, dict({"emptyDir": {}} if source is None else source, name=name))


def volume_claim(name: str, size: str, **spec: Any) -> Volume:
    """A volume that each run of the workflow gets anew, shared by its steps."""
    made = dict({"accessModes": ["ReadWriteOnce"]}, **spec)
    made["resources"] = {"requests": {"storage": size}}
    return Volume(name, {"metadata": {"name": name}, "spec": made}, claim=True)


# Templates


class Template:
    """A template. It is written once, however many tasks use it."""

    def __init__(
        self,
        fields: Mapping[str, Any],
        mounts: Sequence[Mount] = (),
    ) -> None:
        rest = dict(fields)
        self.name: Optional[str] = rest.pop("name", None)
        self._place = _place()
        self.claims: List[Volume] = []
        inputs, outputs, retry = rest.pop("inputs", None), rest.pop("outputs", None), rest.pop("retry", None)
        labels, annotations = rest.pop("labels", None), rest.pop("annotations", None)
        plain = [v.fields if isinstance(v, Volume) else v for v in rest.pop("volumes", None) or ()]
        for m in mounts:
            if m.volume.claim:
                self.claims.append(m.volume)
            elif all(p.get("name") != m.volume.name for p in plain):
                plain.append(m.volume.fields)
        if inputs is not None:
            rest["inputs"] = _clean(dict(inputs, parameters=_parameters(inputs.get("parameters")), artifacts=_paths(inputs.get("artifacts"))))
        if outputs is not None:
            rest["outputs"] = _clean(dict(outputs, parameters=_output_parameters(outputs.get("parameters")), artifacts=_paths(outputs.get("artifacts"))))
        if retry is not None:
            rest["retryStrategy"] = {"limit": retry} if isinstance(retry, int) else retry
        if labels or annotations:
            rest["metadata"] = _clean(dict(rest.get("metadata") or {}, labels=labels, annotations=annotations))
        if plain:
            rest["volumes"] = plain
        self._fields: Raw = _clean(rest)

    def declares(self, where: str, kind: str, name: str) -> bool:
        """Whether it declares an input or output of a name."""
        return any(p.get("name") == name for p in (self._fields.get(where) or {}).get(kind) or ())

    def uses(self) -> Sequence["Task"]:
        """Tasks whose templates it needs."""
        return ()

    def render(self, name: str, given: Sequence[str], names: Callable[[AnyTemplate], str]) -> Raw:
        """Argo's object, with an input for each argument that somebody gives it."""
        made = _placed(dict(self._fields, name=name), self._place)
        missing = [{"name": g} for g in given if not self.declares("inputs", "parameters", g)]
        if missing:
            inputs = made.get("inputs") or {}
            made["inputs"] = dict(inputs, parameters=list(inputs.get("parameters") or ()) + missing)
        return made


class TemplateRef:
    """A template of a WorkflowTemplate that is kept elsewhere."""

    def __init__(self, fields: Raw) -> None:
        self.fields = fields


def template_ref(name: str, template: str, **more: Any) -> TemplateRef:
    """A template of the WorkflowTemplate name; of a ClusterWorkflowTemplate with clusterScope=True."""
    return TemplateRef(dict(more, name=name, template=template))


def container(
    image: str,
    command: Optional[Sequence[str]] = None,
    args: Optional[Sequence[Value]] = None,
    *,
    env: Optional[Items] = None,
    working_dir: Optional[str] = None,
    mounts: Sequence[Mount] = (),
    resources: Optional[Mapping[str, Any]] = None,
    name: Optional[str] = None,
    inputs: Optional[Mapping[str, Items]] = None,
    outputs: Optional[Mapping[str, Items]] = None,
    retry: Union[int, Mapping[str, Any], None] = None,
    labels: Optional[Mapping[str, str]] = None,
    annotations: Optional[Mapping[str, str]] = None,
    volumes: Optional[Sequence[Union[Volume, Raw]]] = None,
    template: Optional[Mapping[str, Any]] = None,
    **more: Any,
) -> Template:
    """A template that runs a container. The option template has fields of the template where a name has two meanings."""
    more.update(_clean({
        "command": command, "args": args, "env": env, "workingDir": working_dir, "resources": resources, "name": name, "inputs": inputs,
        "outputs": outputs, "retry": retry, "labels": labels, "annotations": annotations, "volumes": volumes,
    }))
    own, rest = _split(image, mounts, more)
    return Template(dict(rest, **dict(template or {}, container=own)), mounts)


def script(
    image: str,
    source: str,
    command: Sequence[str] = ("sh",),
    *,
    args: Optional[Sequence[Value]] = None,
    env: Optional[Items] = None,
    working_dir: Optional[str] = None,
    mounts: Sequence[Mount] = (),
    resources: Optional[Mapping[str, Any]] = None,
    name: Optional[str] = None,
    inputs: Optional[Mapping[str, Items]] = None,
    outputs: Optional[Mapping[str, Items]] = None,
    retry: Union[int, Mapping[str, Any], None] = None,
    labels: Optional[Mapping[str, str]] = None,
    annotations: Optional[Mapping[str, str]] = None,
    volumes: Optional[Sequence[Union[Volume, Raw]]] = None,
    **more: Any,
) -> Template:
    """A template that runs a source text; command is its interpreter."""
    more.update(_clean({
        "command": command, "args": args, "env": env, "workingDir": working_dir, "resources": resources, "name": name, "inputs": inputs,
        "outputs": outputs, "retry": retry, "labels": labels, "annotations": annotations, "volumes": volumes,
    }))
    own, rest = _split(image, mounts, more)
    return Template(dict(rest, script=dict(own, source=source)), mounts)


def suspend(duration: Optional[str] = None, **options: Any) -> Template:
    """A template that waits: for somebody, or for a time such as "10s"."""
    return Template(dict(options, suspend=_clean({"duration": duration})))


def dag(name: str, *, fail_fast: Optional[bool] = None, target: Optional[str] = None, **options: Any) -> "Graph":
    """A graph: tasks run as soon as what they depend on is over."""
    return Graph("tasks", dict(options, name=name), _clean({"failFast": fail_fast, "target": target}))


def steps(name: str, **options: Any) -> "Graph":
    """Tasks one after another; with the option beside, side by side."""
    return Graph("steps", dict(options, name=name), {})


class Graph(Template):
    """A template made of tasks: see dag and steps."""

    def __init__(self, kind: str, options: Mapping[str, Any], more: Raw) -> None:
        super().__init__(options)
        self.kind = kind
        self._more = more
        self._tasks: List[Task] = []

    def task(
        self,
        name: str,
        template: AnyTemplate,
        *,
        args: Optional[Values] = None,
        after: Union["Task", str, Sequence[Union["Task", str]], None] = None,
        beside: Optional["Task"] = None,
        when: Optional[str] = None,
        with_items: Optional[Sequence[Any]] = None,
        with_param: Union[str, Sequence[Any], None] = None,
        with_sequence: Optional[Mapping[str, Any]] = None,
        on_exit: Optional[AnyTemplate] = None,
        **more: Any,
    ) -> "Task":
        """Adds a task that runs a template.

        args are parameters and artifacts of the template, which gets an input for each parameter; what they refer to is waited for.
        after are tasks that must have succeeded before, or states of them: task.failed. All must hold.
        beside, in steps, is the task that this one runs side by side with.
        """
        if not isinstance(name, str) or not name:
            raise Mistake("a task needs a name")
        if template is None:
            raise Mistake("task %s has no template" % name)
        if any(t.name == name for t in self._tasks):
            raise Mistake("there are two tasks %s" % name)
        items = None if with_items is None else list(with_items)
        if with_param is not None and not isinstance(with_param, str):
            with_param = _text(list(with_param))
        fields = _clean(dict(more, when=when, withItems=items, withParam=with_param, withSequence=with_sequence))
        made = Task(self.kind, name, _wrap(template), fields, args, beside, on_exit)
        made._wait(after, self._tasks)
        self._tasks.append(made)
        return made

    def output(self, name: str, reference: str) -> "Graph":
        """Names what the whole gives to the one who uses it: an output of one of its tasks."""
        outputs = self._fields.setdefault("outputs", {})
        if _is_artifact(reference):
            outputs.setdefault("artifacts", []).append({"name": name, "from": reference})
        else:
            outputs.setdefault("parameters", []).append({"name": name, "valueFrom": {"parameter": reference}})
        return self

    def uses(self) -> Sequence["Task"]:
        return self._tasks

    def render(self, name: str, given: Sequence[str], names: Callable[[AnyTemplate], str]) -> Raw:
        made = super().render(name, given, names)
        if self.kind == "tasks":
            made["dag"] = dict(self._more, tasks=[t.render(names) for t in self._tasks])
            return made
        rows: List[List[Task]] = []
        for t in self._tasks:
            row = next((r for r in rows if t.beside is not None and t.beside in r), None)
            if row is None:
                rows.append([t])
            else:
                row.append(t)
        made["steps"] = [[t.render(names) for t in r] for r in rows]
        return made


class Task:
    """A task of a graph. What it gives are references for the arguments and conditions of later tasks."""

    def __init__(
        self, kind: str, name: str, template: Union[Template, TemplateRef, str], fields: Raw, args: Optional[Values],
        beside: Optional["Task"], on_exit: Optional[AnyTemplate],
    ) -> None:
        self.name = name
        self.template = template
        self.args: Values = args or {}
        self.beside = beside
        self.on_exit = on_exit
        self._kind = kind
        self._fields = fields
        self._place = _place()
        self._depends: List[str] = []
        self._arguments = None if args is None else self._pass(args)

    def output(self, name: str) -> str:
        """An output parameter; of a loop, the JSON list of all."""
        self._check("parameters", name)
        return self._tag("outputs.parameters." + name)

    def artifact(self, name: str) -> str:
        """An output artifact."""
        self._check("artifacts", name)
        return self._tag("outputs.artifacts." + name)

    @property
    def result(self) -> str:
        """What it wrote to its standard output."""
        return self._tag("outputs.result")

    @property
    def exit_code(self) -> str:
        """The code that its process ended with."""
        return self._tag("exitCode")

    @property
    def status(self) -> str:
        """Its phase, such as Succeeded."""
        return self._tag("status")

    @property
    def succeeded(self) -> str:
        """A state for the option after, as are failed, errored and skipped."""
        return self.name + ".Succeeded"

    @property
    def failed(self) -> str:
        """A state for the option after."""
        return self.name + ".Failed"

    @property
    def errored(self) -> str:
        """A state for the option after."""
        return self.name + ".Errored"

    @property
    def skipped(self) -> str:
        """A state for the option after."""
        return self.name + ".Skipped"

    def render(self, names: Callable[[AnyTemplate], str]) -> Raw:
        """Argo's object."""
        made: Raw = {"depends": " && ".join(self._depends)} if self._depends else {}
        _placed(made, self._place).update(self._fields, name=self.name)
        if isinstance(self.template, TemplateRef):
            made["templateRef"] = self.template.fields
        else:
            made["template"] = names(self.template)
        if self._arguments is not None:
            made["arguments"] = self._arguments
        if isinstance(self.on_exit, TemplateRef):
            made["hooks"] = dict(made.get("hooks") or {}, exit={"templateRef": self.on_exit.fields})
        elif self.on_exit is not None:
            made["hooks"] = dict(made.get("hooks") or {}, exit={"template": names(self.on_exit)})
        return made

    def _wait(self, after: Any, before: Sequence["Task"]) -> None:
        if self._kind == "steps" and after is not None:
            raise Mistake('task %s has "after", and steps run one after another anyway: use "beside", or a dag' % self.name)
        if self._kind == "tasks" and self.beside is not None:
            raise Mistake('task %s has "beside", and tasks of a dag run side by side anyway: use "after", or steps' % self.name)
        if self.beside is not None and self.beside not in before:
            raise Mistake("task %s is beside %s, which is not a task before it" % (self.name, self.beside.name))
        for b in () if after is None else [after] if isinstance(after, (Task, str)) else after:
            text = b.name if isinstance(b, Task) else str(b)
            known = next((t for t in before if t.name == text.split(".")[0]), None)
            if known is None or (isinstance(b, Task) and known is not b):
                raise Mistake("task %s is after %s, which is not a task before it" % (self.name, text))
            self._depends.append(text)
        if self._kind != "tasks" or "depends" in self._fields or "dependencies" in self._fields:
            return
        used = _json([self.args, self._fields.get("when"), self._fields.get("withParam"), self._fields.get("withSequence")])
        for t in before:
            named = r"\{\{[^}]*\btasks(\.%s\.|\[\\?[\"']%s\\?[\"']\])" % (re.escape(t.name), re.escape(t.name))
            if re.search(named, used) and all(d.split(".")[0] != t.name for d in self._depends):
                self._depends.append(t.name)

    def _tag(self, rest: str) -> str:
        return tag("%s.%s.%s" % (self._kind, self.name, rest))

    def _check(self, kind: str, name: str) -> None:
        if isinstance(self.template, Template) and not self.template.declares("outputs", kind, name):
            raise Mistake("task %s has no output %s: declare it under outputs.%s of its template" % (self.name, name, kind))

    def _pass(self, args: Values) -> Raw:
        params = {k: v for k, v in args.items() if not _is_artifact(v)}
        files = [{"name": k, "from": v} for k, v in args.items() if _is_artifact(v)]
        for f in files:
            if isinstance(self.template, Template) and not self.template.declares("inputs", "artifacts", f["name"]):
                raise Mistake("task %s is given the artifact %s, and its template has no place for it: declare its path under inputs.artifacts" % (self.name, f["name"]))
        made: Raw = {}
        if params:
            made["parameters"] = _parameters(params)
        if files:
            made["artifacts"] = files
        return made


# Workflows


def workflow(name: str, **options: Any) -> "Workflow":
    """A workflow. A name that ends with "-" is the beginning of one that is generated for each run.

    Options: namespace, labels, annotations; parameters with their defaults (None: the one who submits must set it); entrypoint and
    on_exit, templates; templates, a list of those that no task uses; and the fields of Argo's workflow spec.
    """
    return Workflow("Workflow", name, options)


def workflow_template(name: str, **options: Any) -> "Workflow":
    """A WorkflowTemplate: templates for other workflows, or a workflow to submit."""
    return Workflow("WorkflowTemplate", name, options)


def cron_workflow(name: str, schedule: Union[str, Sequence[str]], **options: Any) -> "Workflow":
    """A CronWorkflow: a workflow that is run by the clock."""
    cron: Raw = {"schedules": [schedule] if isinstance(schedule, str) else list(schedule)}
    cron.update((k, v) for k, v in options.items() if k in _CRON_FIELDS)
    return Workflow("CronWorkflow", name, {k: v for k, v in options.items() if k not in _CRON_FIELDS}, cron)


class Workflow:
    """A workflow that is being built. str() gives its JSON."""

    def __init__(self, kind: str, name: str, options: Mapping[str, Any], cron: Optional[Raw] = None) -> None:
        if not isinstance(name, str) or not name:
            raise Mistake("a workflow needs a name")
        self.name = name
        self._kind = kind
        self._options = dict(options)
        self._cron = cron
        self._graph = Graph("tasks", {"name": "main"}, {})
        self._added: List[Template] = []
        self._place = _place()
        self.task = self._graph.task  # to the workflow's own graph, a dag with the name main

    def add(self, template: Template) -> Template:
        """Keeps a template that no task uses by reference."""
        self._added.append(template)
        return template

    def to_json(self) -> Raw:
        """Argo's object."""
        rest = dict(self._options)
        meta: Raw = {"generateName": self.name} if self.name.endswith("-") else {"name": self.name}
        for field in ("namespace", "labels", "annotations"):
            meta[field] = rest.pop(field, None)
        params = rest.pop("parameters", None)
        if params is not None:
            rest["arguments"] = dict(rest.get("arguments") or {}, parameters=_parameters(params))
        spec = self._spec(rest)
        if self._cron is not None:
            spec = dict(self._cron, workflowSpec=spec)
        return _placed({"apiVersion": "argoproj.io/v1alpha1", "kind": self._kind, "metadata": _clean(meta), "spec": spec}, self._place)

    def __str__(self) -> str:
        return _json(self.to_json())

    def _spec(self, rest: Raw) -> Raw:
        entrypoint, on_exit, templates = rest.pop("entrypoint", None), rest.pop("on_exit", None), rest.pop("templates", None) or ()
        plain = [t for t in templates if not isinstance(t, Template)]
        book = _Book([str(t.get("name")) for t in plain])
        if self._graph.uses():
            start: Optional[str] = book.enter(self._graph, "main")
        else:
            start = None if entrypoint is None else book.enter(_wrap(entrypoint), "main")
        end = None if on_exit is None else book.enter(_wrap(on_exit), "exit")
        for t in [*self._added, *templates]:
            if isinstance(t, Template):
                book.enter(t, "template")
        if entrypoint is not None:
            start = book.enter(_wrap(entrypoint), "main")
        claims = [c.fields for c in book.claims()]
        if claims:
            rest["volumeClaimTemplates"] = list(rest.get("volumeClaimTemplates") or ()) + claims
        made = book.render() + plain
        return _clean(dict(rest, entrypoint=start, onExit=end if on_exit is not None else rest.get("onExit"), templates=made or None))


class _Book:
    """The templates of one workflow, each under a name of its own."""

    def __init__(self, taken: Sequence[str]) -> None:
        self._taken = taken
        self._names: Dict[Template, str] = {}
        self._given: Dict[Template, List[str]] = {}

    def enter(self, template: Union[Template, TemplateRef, str], wanted: str) -> str:
        if isinstance(template, TemplateRef):
            raise Mistake("a template of another WorkflowTemplate cannot stand here: let a task use it")
        if isinstance(template, str):
            return template
        if template in self._names:
            return self._names[template]
        name = self._free(template.name or wanted)
        self._names[template], self._given[template] = name, []
        for task in template.uses():
            if not isinstance(task.template, TemplateRef):
                self.enter(task.template, task.name)
            if isinstance(task.template, Template):
                given = self._given[task.template]
                given.extend(a for a, v in task.args.items() if not _is_artifact(v) and a not in given)
            if task.on_exit is not None and not isinstance(task.on_exit, TemplateRef):
                self.enter(_wrap(task.on_exit), task.name + "-exit")
        return name

    def claims(self) -> List[Volume]:
        found: List[Volume] = []
        for t in self._names:
            found.extend(c for c in t.claims if c not in found)
        return found

    def render(self) -> List[Raw]:
        def names(t: AnyTemplate) -> str:
            return self.enter(_wrap(t), "template")

        return [t.render(name, self._given[t], names) for t, name in list(self._names.items())]

    def _free(self, wanted: str) -> str:
        taken = [*self._taken, *self._names.values()]
        name, i = wanted, 2
        while name in taken:
            name, i = "%s-%d" % (wanted, i), i + 1
        return name


def main(*objects: Workflow) -> None:
    """Prints what a program makes; several objects are parted by a line ---."""
    sys.stdout.write("---\n".join(str(o) for o in objects))


_wrapped: Dict[int, Tuple[Raw, Template]] = {}


def _wrap(template: AnyTemplate) -> Union[Template, TemplateRef, str]:
    """A plain object as a template: the same object is the same template."""
    if isinstance(template, (str, Template, TemplateRef)):
        return template
    if id(template) not in _wrapped:
        _wrapped[id(template)] = (template, Template(template))
    return _wrapped[id(template)][1]


def _split(image: str, mounts: Sequence[Mount], options: Raw) -> Tuple[Raw, Raw]:
    """Sorts the options of a container from those of its template."""
    own = {k: v for k, v in options.items() if k in _CONTAINER_FIELDS}
    own["image"] = image
    for field in ("command", "args"):
        if own.get(field) is not None:
            own[field] = [_text(a) for a in own[field]]
    env = own.get("env")
    if isinstance(env, Mapping):
        own["env"] = [dict(v, name=k) if isinstance(v, Mapping) else {"name": k, "value": _text(v)} for k, v in env.items()]
    if mounts:
        own["volumeMounts"] = list(own.get("volumeMounts") or ()) + [m.fields for m in mounts]
    return own, {k: v for k, v in options.items() if k not in _CONTAINER_FIELDS}


def _parameters(values: Any) -> Any:
    if not isinstance(values, Mapping):
        return values
    return [dict(v, name=k) if isinstance(v, Mapping) else {"name": k} if v is None else {"name": k, "value": _text(v)} for k, v in values.items()]


def _output_parameters(values: Any) -> Any:
    if not isinstance(values, Mapping):
        return values
    return [dict(v, name=k) if isinstance(v, Mapping) else {"name": k, "valueFrom": {"path": v}} for k, v in values.items()]


def _paths(values: Any) -> Any:
    if not isinstance(values, Mapping):
        return values
    return [dict(v, name=k) if isinstance(v, Mapping) else {"name": k, "path": v} for k, v in values.items()]


def _text(value: Any) -> str:
    """The text of a value: a list as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _json(value: Any) -> str:
    """JSON in the one way: keys in order, no white space, a line feed at the end."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True, default=dict) + "\n"


def _is_artifact(value: Any) -> bool:
    """Whether a value is a reference to an artifact, and to nothing else."""
    return isinstance(value, str) and _ARTIFACT.fullmatch(value) is not None


def _clean(fields: Mapping[str, Any]) -> Raw:
    """The fields that are set."""
    return {k: v for k, v in fields.items() if v is not None}
