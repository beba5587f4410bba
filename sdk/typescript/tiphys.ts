// The module "tiphys": pipelines as programs. It makes plain Argo objects out of tasks that know each other by reference.
// Every option that it does not know is a field of the object that it makes, in Argo's own spelling.

/** A value that Argo keeps as a string. */
export type Value = string | number | boolean;

/** Fields in Argo's or Kubernetes' own spelling. */
export interface Raw {
  [field: string]: unknown;
}

/**
 * Names with values, in order. Of undefined comes a parameter without a value, which somebody else has to give; of an object come
 * the other fields of a parameter, such as `enum`, `description` or `valueFrom`.
 */
export interface Values {
  [name: string]: Value | Raw | unknown[] | undefined;
}

/** What is known of the change that the program is evaluated for: the only input of a default export that is a function. */
export interface Context {
  /** RFC 3339; also what `new Date()` gives. */
  time?: string;
  /** The event that a trigger took the program for. Absent on the command line. */
  event?: { id: string; source: string; name: string };
  /** What every forge's events have in common: kind, action, branch, tag, sha, repo, pr, changedFiles. */
  git?: {
    kind: string; action?: string; ref?: string; branch?: string; tag?: string; sha?: string; changedFiles?: string[]; protected?: boolean;
    repo: { fullName: string; defaultBranch?: string; [field: string]: unknown };
    pr?: { number: number; title?: string; sourceBranch?: string; targetBranch?: string; labels?: string[]; [field: string]: unknown };
    [field: string]: unknown;
  };
  [name: string]: unknown;
}

/** Retry of a template: how often, or Argo's retryStrategy. */
export type Retry = number | {
  limit?: number | string;
  retryPolicy?: "Always" | "OnFailure" | "OnError" | "OnTransientError";
  backoff?: { duration?: string; factor?: number; maxDuration?: string; cap?: string };
  expression?: string;
  [field: string]: unknown;
};

export interface Inputs {
  /** Parameters with their defaults; or Argo's list. */
  parameters?: Values | Raw[];
  /** Artifacts with the paths where steps find them; or Argo's list. */
  artifacts?: { [name: string]: string | Raw } | Raw[];
}

export interface Outputs {
  /** Parameters with the paths of the files that they are read from; or Argo's list. */
  parameters?: { [name: string]: string | Raw } | Raw[];
  /** Artifacts with the paths that they are taken from; or Argo's list. */
  artifacts?: { [name: string]: string | Raw } | Raw[];
}

/** Options of every template. */
export interface TemplateOptions extends Raw {
  /** Its name in the manifest; the first task's that uses it if there is none. */
  name?: string;
  inputs?: Inputs;
  outputs?: Outputs;
  retry?: Retry;
  labels?: { [name: string]: string };
  annotations?: { [name: string]: string };
  volumes?: Array<Volume | Raw>;
}

/** Options of templates that run a container. */
export interface ContainerOptions extends TemplateOptions {
  command?: string[];
  args?: Value[];
  workingDir?: string;
  /** Environment: values, or secret(…) and configMap(…); or Kubernetes' list. */
  env?: { [name: string]: Value | Raw } | Raw[];
  /** Volumes and where they are seen: volume.at("/path"). */
  mounts?: Mount[];
  resources?: { requests?: Raw; limits?: Raw; [field: string]: unknown };
}

/** How a task of a graph is run. */
export interface TaskOptions extends Raw {
  /** Parameters and artifacts of the template, which gets an input for each parameter. What they refer to is waited for. */
  args?: Values;
  /** Tasks that must have succeeded before, or states of them: task.failed, "task.AnySucceeded". All must hold. */
  after?: Task | string | Array<Task | string>;
  /** In steps: the task that this one runs side by side with. */
  beside?: Task;
  /** The task is skipped if this does not hold. */
  when?: string;
  /** One run of the task per item, which is item(). */
  withItems?: unknown[];
  /** One run per item of a list that is known only when the task starts, such as another's output. */
  withParam?: string | unknown[];
  withSequence?: Raw;
  /** A template that runs when the task is over. */
  onExit?: AnyTemplate;
}

export interface WorkflowOptions extends Raw {
  namespace?: string;
  labels?: { [name: string]: string };
  annotations?: { [name: string]: string };
  /** Parameters of the workflow with their defaults; undefined: the one who submits must set it. */
  parameters?: Values;
  /** The template to start with, where it is not the graph of the workflow's own tasks. */
  entrypoint?: AnyTemplate;
  /** A template that runs when the workflow is over. */
  onExit?: AnyTemplate;
  /** Templates that no task names by reference. */
  templates?: Array<Template | Raw>;
}

/** A template, Argo's plain object of one, or the name of one that is there. */
export type AnyTemplate = Template | TemplateRef | Raw | string;

/** Fields of a Kubernetes container; every other option of a container is a field of its template. */
const containerFields = [
  "args", "command", "env", "envFrom", "image", "imagePullPolicy", "lifecycle", "livenessProbe", "ports", "readinessProbe", "resizePolicy",
  "resources", "restartPolicy", "securityContext", "startupProbe", "stdin", "stdinOnce", "terminationMessagePath", "terminationMessagePolicy",
  "tty", "volumeDevices", "volumeMounts", "workingDir",
];

/** Fields of a CronWorkflow; every other option of one is the workflow's. */
const cronFields = [
  "concurrencyPolicy", "failedJobsHistoryLimit", "startingDeadlineSeconds", "stopStrategy", "successfulJobsHistoryLimit", "suspend", "timezone", "when",
];

// References: what they give are tags, which Argo replaces when the run gets there.

/** Any tag: tag("workflow.name"). */
export function tag(text: string): string {
  return `{{${text}}}`;
}

/** An expression: expression("asInt(inputs.parameters.n) + 1"). */
export function expression(text: string): string {
  return `{{=${text}}}`;
}

/** A parameter of the workflow. */
export function parameter(name: string): string {
  return tag(`workflow.parameters.${name}`);
}

/** An input parameter of the template that it stands in. */
export function input(name: string): string {
  return tag(`inputs.parameters.${name}`);
}

/** An input artifact of the template that it stands in, to hand it on. */
export function inputArtifact(name: string): string {
  return tag(`inputs.artifacts.${name}`);
}

/** The item of a loop, or one field of it. */
export function item(field?: string): string {
  return tag(field === undefined ? "item" : `item.${field}`);
}

/** A key of a Secret, as a value of the environment. */
export function secret(name: string, key: string): Raw {
  return { valueFrom: { secretKeyRef: { name, key } } };
}

/** A key of a ConfigMap, as a value of the environment. */
export function configMap(name: string, key: string): Raw {
  return { valueFrom: { configMapKeyRef: { name, key } } };
}

// Volumes

/** A volume and where a container sees it. */
export interface Mount {
  volume: Volume;
  fields: Raw;
}

/** A volume that containers can see. */
export class Volume {
  /** `claim` says that the workflow makes it, not the template. */
  constructor(readonly name: string, readonly fields: Raw, readonly claim = false) {}

  /** The volume at a path; more fields of Kubernetes' volumeMount may follow. */
  at(mountPath: string, more: Raw = {}): Mount {
    return { volume: this, fields: { ...more, name: this.name, mountPath } };
  }
}

/** A volume of any kind: volume("cache", { emptyDir: {} }). */
export function volume(name: string, source: Raw = { emptyDir: {} }): Volume {
  return new Volume(name, { ...source, name });
}

/** A volume that each run of the workflow gets anew, shared by its steps. */
export function volumeClaim(name: string, size: string, spec: Raw = {}): Volume {
  return new Volume(name, {
    metadata: { name },
    spec: { accessModes: ["ReadWriteOnce"], ...spec, resources: { requests: { storage: size } } },
  }, true);
}

// Templates

/** A template. It is written once, however many tasks use it. */
export class Template {
  readonly name?: string;
  readonly claims: Volume[] = [];
  protected readonly fields: Raw;
  /** @internal */
  readonly place = here();

  constructor(options: TemplateOptions, mounts: Mount[] = []) {
    const { name, inputs, outputs, retry, labels, annotations, volumes = [], ...rest } = options;
    this.name = name;
    const plain: Raw[] = volumes.map((v) => (v instanceof Volume ? v.fields : v));
    for (const { volume: v } of mounts) {
      if (v.claim) this.claims.push(v);
      else if (!plain.some((p) => p.name === v.name)) plain.push(v.fields);
    }
    this.fields = clean({
      ...rest,
      inputs: inputs && clean({ ...inputs, parameters: parameters(inputs.parameters), artifacts: artifacts(inputs.artifacts) }),
      outputs: outputs && clean({ ...outputs, parameters: outputParameters(outputs.parameters), artifacts: artifacts(outputs.artifacts) }),
      retryStrategy: typeof retry === "number" ? { limit: retry } : retry ?? rest.retryStrategy,
      metadata: labels || annotations ? clean({ ...(rest.metadata as Raw), labels, annotations }) : rest.metadata,
      volumes: plain.length > 0 ? plain : undefined,
    });
  }

  /** @internal Whether it declares an input or output of a name. */
  declares(where: "inputs" | "outputs", kind: "parameters" | "artifacts", name: string): boolean {
    const list = ((this.fields[where] as Raw | undefined)?.[kind] as Raw[] | undefined) ?? [];
    return list.some((p) => p.name === name);
  }

  /** @internal Templates that it needs. */
  uses(): Task[] {
    return [];
  }

  /** @internal Argo's object, with an input for each argument that somebody gives it. */
  render(name: string, given: string[], names: (t: AnyTemplate) => string): Raw {
    void names;
    const missing = given.filter((g) => !this.declares("inputs", "parameters", g)).map((g) => ({ name: g }));
    const made = { ...this.fields, name, "//": this.place };
    if (missing.length === 0) return made;
    const inputs = (this.fields.inputs as Raw | undefined) ?? {};
    return { ...made, inputs: { ...inputs, parameters: [...((inputs.parameters as Raw[]) ?? []), ...missing] } };
  }
}

/** A template of a WorkflowTemplate that is kept elsewhere. */
export class TemplateRef {
  constructor(readonly fields: Raw) {}
}

/** A template of the WorkflowTemplate `name`; of a ClusterWorkflowTemplate with { clusterScope: true }. */
export function templateRef(name: string, template: string, more: { clusterScope?: boolean } = {}): TemplateRef {
  return new TemplateRef({ ...more, name, template });
}

/** A template that runs a container. The second argument has fields of the template where a name has two meanings. */
export function container(options: ContainerOptions & { image: string }, template: TemplateOptions = {}): Template {
  const { mounts, own, rest } = split(options);
  return new Template({ ...rest, ...template, container: own }, mounts);
}

/** A template that runs a source text; `command` is its interpreter, sh if none is given. */
export function script(image: string, source: string, options: ContainerOptions = {}): Template {
  const { mounts, own, rest } = split({ command: ["sh"], ...options, image });
  return new Template({ ...rest, script: { ...own, source } }, mounts);
}

/** A template that waits: for somebody, or for a time such as "10s". */
export function suspend(duration?: string, options: TemplateOptions = {}): Template {
  return new Template({ ...options, suspend: clean({ duration }) });
}

/** A graph: tasks run as soon as what they depend on is over. */
export function dag(name: string, options: TemplateOptions & { failFast?: boolean; target?: string } = {}): Graph {
  const { failFast, target, ...rest } = options;
  return new Graph("tasks", { ...rest, name }, clean({ failFast, target }));
}

/** Tasks one after another; with the option `beside`, side by side. */
export function steps(name: string, options: TemplateOptions = {}): Graph {
  return new Graph("steps", { ...options, name });
}

/** A template made of tasks: see dag and steps. */
export class Graph extends Template {
  private readonly tasks: Task[] = [];

  constructor(readonly kind: "tasks" | "steps", options: TemplateOptions, private readonly more: Raw = {}) {
    super(options);
  }

  /** Adds a task that runs a template. */
  task(name: string, template: AnyTemplate, options: TaskOptions = {}): Task {
    if (typeof name !== "string" || name === "") throw new Error("a task needs a name");
    if (template === undefined || template === null) throw new Error(`task ${name} has no template`);
    if (this.tasks.some((t) => t.name === name)) throw new Error(`there are two tasks ${name}`);
    const task = new Task(this.kind, name, wrap(template), options, this.tasks.slice());
    this.tasks.push(task);
    return task;
  }

  /** Names what the whole gives to the one who uses it: an output of one of its tasks. */
  output(name: string, reference: string): this {
    const outputs = (this.fields.outputs ??= {}) as { parameters?: Raw[]; artifacts?: Raw[] };
    if (isArtifact(reference)) (outputs.artifacts ??= []).push({ name, from: reference });
    else (outputs.parameters ??= []).push({ name, valueFrom: { parameter: reference } });
    return this;
  }

  /** @internal */
  override uses(): Task[] {
    return this.tasks;
  }

  /** @internal */
  override render(name: string, given: string[], names: (t: AnyTemplate) => string): Raw {
    const made = super.render(name, given, names);
    if (this.kind === "tasks") return { ...made, dag: { ...this.more, tasks: this.tasks.map((t) => t.render(names)) } };
    const rows: Task[][] = [];
    for (const t of this.tasks) {
      const row = t.options.beside && rows.find((r) => r.includes(t.options.beside as Task));
      if (row) row.push(t);
      else rows.push([t]);
    }
    return { ...made, steps: rows.map((r) => r.map((t) => t.render(names))) };
  }
}

/** A task of a graph. What it gives are references for the arguments and conditions of later tasks. */
export class Task {
  private readonly depends: string[] = [];
  private readonly place = here();
  private readonly arguments?: Raw;

  constructor(private readonly kind: string, readonly name: string, readonly template: Template | TemplateRef | string, readonly options: TaskOptions, before: Task[]) {
    const { after, beside, args, when, withParam, withSequence } = options;
    if (kind === "steps" && after !== undefined) throw new Error(`task ${name} has "after", and steps run one after another anyway: use "beside", or a dag`);
    if (kind === "tasks" && beside !== undefined) throw new Error(`task ${name} has "beside", and tasks of a dag run side by side anyway: use "after", or steps`);
    if (beside !== undefined && !before.includes(beside)) throw new Error(`task ${name} is beside ${beside.name}, which is not a task before it`);
    for (const b of after === undefined ? [] : Array.isArray(after) ? after : [after]) {
      const text = b instanceof Task ? b.name : String(b);
      const known = before.find((t) => t.name === text.split(".")[0]);
      if (!known || (b instanceof Task && known !== b)) throw new Error(`task ${name} is after ${text}, which is not a task before it`);
      this.depends.push(text);
    }
    if (args) this.arguments = this.pass(args);
    const used = JSON.stringify([args, when, withParam, withSequence]) ?? "";
    if (kind !== "tasks" || options.depends !== undefined || options.dependencies !== undefined) return;
    for (const t of before) {
      const named = new RegExp(`\\{\\{[^}]*\\btasks(\\.${escape(t.name)}\\.|\\[\\\\?["']${escape(t.name)}\\\\?["']\\])`);
      if (named.test(used) && !this.depends.some((d) => d.split(".")[0] === t.name)) this.depends.push(t.name);
    }
  }

  /** An output parameter; of a loop, the JSON list of all. */
  output(name: string): string {
    this.check("parameters", name);
    return this.tag(`outputs.parameters.${name}`);
  }

  /** An output artifact. */
  artifact(name: string): string {
    this.check("artifacts", name);
    return this.tag(`outputs.artifacts.${name}`);
  }

  /** What it wrote to its standard output. */
  get result(): string {
    return this.tag("outputs.result");
  }

  get exitCode(): string {
    return this.tag("exitCode");
  }

  get status(): string {
    return this.tag("status");
  }

  // States for the option `after`.

  get succeeded(): string {
    return `${this.name}.Succeeded`;
  }

  get failed(): string {
    return `${this.name}.Failed`;
  }

  get errored(): string {
    return `${this.name}.Errored`;
  }

  get skipped(): string {
    return `${this.name}.Skipped`;
  }

  /** @internal */
  render(names: (t: AnyTemplate) => string): Raw {
    const { after, beside, args, withParam, onExit, hooks, ...rest } = this.options;
    void after, beside, args;
    return clean({
      ...(this.depends.length > 0 && { depends: this.depends.join(" && ") }),
      ...rest,
      name: this.name,
      "//": this.place,
      ...(this.template instanceof TemplateRef ? { templateRef: this.template.fields } : { template: names(this.template) }),
      arguments: this.arguments ?? rest.arguments,
      withParam: typeof withParam === "object" ? JSON.stringify(withParam) : withParam,
      hooks: onExit === undefined ? hooks : { ...(hooks as Raw), exit: onExit instanceof TemplateRef ? { templateRef: onExit.fields } : { template: names(onExit) } },
    });
  }

  private tag(rest: string): string {
    return tag(`${this.kind}.${this.name}.${rest}`);
  }

  private check(kind: "parameters" | "artifacts", name: string): void {
    if (this.template instanceof Template && !this.template.declares("outputs", kind, name)) {
      throw new Error(`task ${this.name} has no output ${name}: declare it under outputs.${kind} of its template`);
    }
  }

  private pass(args: Values): Raw {
    const params: Values = {};
    const files: Raw[] = [];
    for (const [name, value] of Object.entries(args)) {
      if (!isArtifact(value)) params[name] = value;
      else if (this.template instanceof Template && !this.template.declares("inputs", "artifacts", name)) {
        throw new Error(`task ${this.name} is given the artifact ${name}, and its template has no place for it: declare its path under inputs.artifacts`);
      } else files.push({ name, from: value });
    }
    const list = parameters(params) ?? [];
    return { ...(list.length > 0 && { parameters: list }), ...(files.length > 0 && { artifacts: files }) };
  }
}

// Workflows

/** A workflow. A name that ends with "-" is the beginning of one that is generated for each run. */
export function workflow(name: string, options: WorkflowOptions = {}): Workflow {
  return new Workflow("Workflow", name, options);
}

/** A WorkflowTemplate: templates for other workflows, or a workflow to submit. */
export function workflowTemplate(name: string, options: WorkflowOptions = {}): Workflow {
  return new Workflow("WorkflowTemplate", name, options);
}

/** A CronWorkflow: a workflow that is run by the clock. */
export function cronWorkflow(name: string, schedule: string | string[], options: WorkflowOptions & { timezone?: string } = {}): Workflow {
  const cron: Raw = { schedules: Array.isArray(schedule) ? schedule : [schedule] };
  const rest: WorkflowOptions = {};
  for (const [field, value] of Object.entries(options)) (cronFields.includes(field) ? cron : rest)[field] = value;
  return new Workflow("CronWorkflow", name, rest, cron);
}

/** A workflow that is being built. JSON.stringify turns it into Argo's object. */
export class Workflow {
  private readonly graph = new Graph("tasks", { name: "main" });
  private readonly added: Template[] = [];
  private readonly place = here();

  constructor(private readonly kind: string, private readonly name: string, private readonly options: WorkflowOptions, private readonly cron?: Raw) {
    if (typeof name !== "string" || name === "") throw new Error("a workflow needs a name");
  }

  /** Adds a task to the workflow's own graph, a dag with the name main. */
  task(name: string, template: AnyTemplate, options: TaskOptions = {}): Task {
    return this.graph.task(name, template, options);
  }

  /** Adds a task and gives the workflow, for programs that are one chain of calls and name tasks by strings. */
  step(name: string, template: AnyTemplate, options: TaskOptions = {}): this {
    this.task(name, template, options);
    return this;
  }

  /** Keeps a template that no task uses by reference. */
  add(template: Template): Template {
    this.added.push(template);
    return template;
  }

  /** Argo's object. */
  toJSON(): object {
    const { namespace, labels, annotations, parameters: params, ...rest } = this.options;
    const spec = { ...rest, ...(params && { arguments: { ...(rest.arguments as Raw), parameters: parameters(params) } }) };
    const made = this.spec(spec);
    return {
      apiVersion: "argoproj.io/v1alpha1",
      kind: this.kind,
      "//": this.place,
      metadata: clean({ ...(this.name.endsWith("-") ? { generateName: this.name } : { name: this.name }), namespace, labels, annotations }),
      spec: this.cron ? { ...this.cron, workflowSpec: made } : made,
    };
  }

  private spec({ entrypoint, onExit, templates = [], ...rest }: WorkflowOptions): Raw {
    const plain = templates.filter((t) => !(t instanceof Template)) as Raw[];
    const book = new Book(plain.map((t) => String(t.name)));
    const own = this.graph.uses().length > 0;
    const start = own ? book.enter(this.graph, "main") : entrypoint === undefined ? undefined : book.enter(wrap(entrypoint), "main");
    const end = onExit === undefined ? undefined : book.enter(wrap(onExit), "exit");
    for (const t of [...this.added, ...templates]) if (t instanceof Template) book.enter(t, "template");
    const claims = book.claims().map((c) => c.fields);
    const made = [...book.render(), ...plain];
    return clean({
      ...rest,
      entrypoint: own && entrypoint !== undefined ? book.enter(wrap(entrypoint), "main") : start,
      onExit: end,
      volumeClaimTemplates: claims.length > 0 ? [...((rest.volumeClaimTemplates as Raw[]) ?? []), ...claims] : rest.volumeClaimTemplates,
      templates: made.length > 0 ? made : undefined,
    });
  }
}

/** The templates of one workflow, each under a name of its own. */
class Book {
  private readonly names = new Map<Template, string>();
  private readonly given = new Map<Template, string[]>();

  constructor(private readonly taken: string[]) {}

  /** Enters a template and what it uses, and gives its name. */
  enter(template: Template | TemplateRef | string, wanted: string): string {
    if (template instanceof TemplateRef) throw new Error("a template of another WorkflowTemplate cannot stand here: let a task use it");
    if (typeof template === "string") return template;
    const known = this.names.get(template);
    if (known !== undefined) return known;
    const name = this.free(template.name ?? wanted);
    this.names.set(template, name);
    this.given.set(template, []);
    for (const task of template.uses()) {
      const { onExit, args } = task.options;
      if (!(task.template instanceof TemplateRef)) this.enter(task.template, task.name);
      if (task.template instanceof Template) {
        const given = this.given.get(task.template) as string[];
        for (const [a, v] of Object.entries(args ?? {})) if (!isArtifact(v) && !given.includes(a)) given.push(a);
      }
      if (onExit !== undefined && !(onExit instanceof TemplateRef)) this.enter(wrap(onExit), `${task.name}-exit`);
    }
    return name;
  }

  claims(): Volume[] {
    return [...new Set([...this.names.keys()].flatMap((t) => t.claims))];
  }

  render(): Raw[] {
    const names = (t: AnyTemplate): string => this.enter(wrap(t), "template");
    return [...this.names].map(([t, name]) => t.render(name, this.given.get(t) as string[], names));
  }

  private free(wanted: string): string {
    const taken = [...this.taken, ...this.names.values()];
    let name = wanted;
    for (let i = 2; taken.includes(name); i++) name = `${wanted}-${i}`;
    return name;
  }
}

/** Templates that were given as plain objects: the same object is the same template. */
const wrapped = new Map<Raw, Template>();

function wrap(template: AnyTemplate): Template | TemplateRef | string {
  if (typeof template === "string" || template instanceof Template || template instanceof TemplateRef) return template;
  let made = wrapped.get(template);
  if (made === undefined) {
    made = new Template(template);
    wrapped.set(template, made);
  }
  return made;
}

/** Sorts the options of a container from those of its template. */
function split({ env, mounts = [], ...options }: ContainerOptions & { image: string }): { mounts: Mount[]; own: Raw; rest: Raw } {
  const own: Raw = {};
  const rest: Raw = {};
  for (const [field, value] of Object.entries(options)) (containerFields.includes(field) ? own : rest)[field] = value;
  if (Array.isArray(own.args)) own.args = own.args.map(text);
  if (env !== undefined) own.env = Array.isArray(env) ? env : Object.entries(env).map(([name, v]) => (isRaw(v) ? { ...v, name } : { name, value: text(v) }));
  if (mounts.length > 0) own.volumeMounts = [...((own.volumeMounts as Raw[]) ?? []), ...mounts.map((m) => m.fields)];
  return { mounts, own, rest };
}

function parameters(values: Values | Raw[] | undefined): Raw[] | undefined {
  if (values === undefined || Array.isArray(values)) return values as Raw[] | undefined;
  return Object.entries(values).map(([name, v]) => (isRaw(v) ? { ...v, name } : v === undefined || v === null ? { name } : { name, value: text(v) }));
}

function outputParameters(values: { [name: string]: string | Raw } | Raw[] | undefined): Raw[] | undefined {
  if (values === undefined || Array.isArray(values)) return values;
  return Object.entries(values).map(([name, v]) => (isRaw(v) ? { ...v, name } : { name, valueFrom: { path: v } }));
}

function artifacts(values: { [name: string]: string | Raw } | Raw[] | undefined): Raw[] | undefined {
  if (values === undefined || Array.isArray(values)) return values;
  return Object.entries(values).map(([name, v]) => (isRaw(v) ? { ...v, name } : { name, path: v }));
}

/** The text of a value: a list as JSON. */
function text(value: unknown): string {
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function isRaw(value: unknown): value is Raw {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether a value is a reference to an artifact, and to nothing else. */
function isArtifact(value: unknown): value is string {
  return typeof value === "string" && /^\{\{((tasks|steps)\.[^.{}]+\.outputs|inputs|workflow\.outputs)\.artifacts\.[^.{}]+\}\}$/.test(value);
}

function escape(name: string): string {
  return name.replace(/[^A-Za-z0-9_-]/g, "\\$&");
}

/**
 * Where the program called this module, as file:line:column. Who evaluates the program takes it out of the field "//" again, to say where
 * a mistake in the manifest was made.
 */
function here(): string | undefined {
  for (const frame of (new Error().stack ?? "").split("\n")) {
    const found = /program:(.+?:[0-9]+:[0-9]+)\(/.exec(frame);
    if (found) return found[1];
  }
  return undefined;
}

/** An object without the fields that are not set. */
function clean(fields: Raw): Raw {
  return Object.fromEntries(Object.entries(fields).filter(([, v]) => v !== undefined));
}
