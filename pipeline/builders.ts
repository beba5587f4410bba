// The module "tiphys": builders that make Argo Workflow objects, and the types of what they take.
// It is both what programs import and what an editor reads: `tiphys render --types > tiphys.ts`.

/** A value that Argo keeps as a string. */
export type Value = string | number | boolean;

/** What is known of the change that the program is evaluated for. It is the program's only input. */
export interface Context {
  /** RFC 3339; also what `new Date()` gives. */
  time?: string;
  [name: string]: unknown;
}

export interface Container {
  image: string;
  command?: string[];
  args?: string[];
  workingDir?: string;
  /** Environment; short for Kubernetes' list of name and value, which is taken too. */
  env?: Record<string, Value> | object[];
  /** Every other field of a Kubernetes container. */
  [field: string]: unknown;
}

/** Fields of an Argo template beside what it runs: retryStrategy, outputs, volumes, … */
export interface Template {
  name?: string;
  inputs?: { parameters?: Array<{ name: string; [field: string]: unknown }>; [field: string]: unknown };
  [field: string]: unknown;
}

export interface StepOptions {
  /** Steps that must be over before: a name, or name.Succeeded, name.Failed, … of Argo's `depends`. All must hold. */
  after?: string | string[];
  /** Argo's `when`: the step is skipped if it does not hold. */
  when?: string;
  /** One run of the step per item, which is {{item}}. */
  withItems?: unknown[];
  /** Parameters of the template, which it reads as {{inputs.parameters.NAME}}. */
  args?: Record<string, Value>;
}

export interface WorkflowOptions {
  namespace?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  /** Parameters of the workflow with their defaults; undefined: the one who submits must set it. */
  parameters?: Record<string, Value | undefined>;
  /** Every other field of Argo's workflow spec. */
  [field: string]: unknown;
}

const entrypoint = "main";

/** A template that runs a container. */
export function container(spec: Container, more: Template = {}): Template {
  const { env, ...rest } = spec;
  return { ...more, container: { ...rest, env: environment(env) } };
}

/** A template that runs a source text; `command` is its interpreter, sh if none is given. */
export function script(image: string, source: string, more: Template & { command?: string[]; env?: Container["env"] } = {}): Template {
  const { command = ["sh"], env, ...rest } = more;
  return { ...rest, script: { image, command, source, env: environment(env) } };
}

/** A workflow. A name that ends with "-" is the beginning of one that is generated for each run. */
export function workflow(name: string, options: WorkflowOptions = {}): Workflow {
  return new Workflow(name, options);
}

/** A workflow that is being built. JSON.stringify turns it into the Argo object. */
export class Workflow {
  private readonly tasks: Array<{ name: string; [field: string]: unknown }> = [];
  private readonly templates: Template[] = [];
  /** Names by the template that the program gave: one that several steps share is written once. */
  private readonly names = new Map<Template, string>();

  constructor(private readonly name: string, private readonly options: WorkflowOptions) {
    if (typeof name !== "string" || name === "") throw new Error("a workflow needs a name");
  }

  /** Adds a step. `template` is a template, or the name of one in the option `templates`. */
  step(name: string, template: Template | string, { after, when, withItems, args }: StepOptions = {}): this {
    if (this.tasks.some((t) => t.name === name)) throw new Error(`there are two steps ${name}`);
    const before = after === undefined ? [] : Array.isArray(after) ? after : [after];
    for (const b of before) {
      if (!this.tasks.some((t) => t.name === b.split(".")[0])) throw new Error(`step ${name} is after ${b}, which is not a step before it`);
    }
    this.tasks.push({
      name,
      template: typeof template === "string" ? template : this.add(name, template, Object.keys(args ?? {})),
      depends: before.length > 0 ? before.join(" && ") : undefined,
      when,
      withItems,
      arguments: args && { parameters: parameters(args) },
    });
    return this;
  }

  /** The plain Argo object. */
  toJSON(): object {
    const { namespace, labels, annotations, parameters: params, templates, ...spec } = this.options;
    const graph = this.tasks.length > 0 ? [{ name: entrypoint, dag: { tasks: this.tasks } }] : [];
    return {
      apiVersion: "argoproj.io/v1alpha1",
      kind: "Workflow",
      metadata: { ...(this.name.endsWith("-") ? { generateName: this.name } : { name: this.name }), namespace, labels, annotations },
      spec: {
        entrypoint,
        ...(params && { arguments: { parameters: parameters(params) } }),
        ...spec,
        templates: [...graph, ...this.templates, ...((templates as Template[] | undefined) ?? [])],
      },
    };
  }

  /** Keeps a template under a name of its own, with an input for each argument it is given. */
  private add(step: string, template: Template, args: string[]): string {
    let name = this.names.get(template);
    if (name === undefined) {
      name = this.free(template.name ?? step);
      this.names.set(template, name);
      this.templates.push({ ...template, name });
    }
    const kept = this.templates.find((t) => t.name === name)!;
    const inputs = [...(kept.inputs?.parameters ?? [])];
    for (const a of args) if (!inputs.some((p) => p.name === a)) inputs.push({ name: a });
    if (inputs.length > 0) kept.inputs = { ...kept.inputs, parameters: inputs };
    return name;
  }

  private free(wanted: string): string {
    const given = ((this.options.templates as Template[] | undefined) ?? []).map((t) => t.name);
    const taken = [entrypoint, ...given, ...this.names.values()];
    let name = wanted;
    for (let i = 2; taken.includes(name); i++) name = `${wanted}-${i}`;
    return name;
  }
}

function parameters(values: Record<string, Value | undefined>): object[] {
  return Object.entries(values).map(([name, value]) => ({ name, value: value === undefined ? undefined : String(value) }));
}

function environment(env: Container["env"]): object[] | undefined {
  if (env === undefined || Array.isArray(env)) return env;
  return Object.entries(env).map(([name, value]) => ({ name, value: String(value) }));
}
