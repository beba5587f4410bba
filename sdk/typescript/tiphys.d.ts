// The module "tiphys" for editors: keep this file beside the program. It says what is there; the program brings the module along.

declare module "tiphys" {
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
    event?: {
      id: string;
      source: string;
      name: string;
    };
    /** What every forge's events have in common: kind, action, branch, tag, sha, repo, pr, changedFiles. */
    git?: {
      kind: string;
      action?: string;
      ref?: string;
      branch?: string;
      tag?: string;
      sha?: string;
      changedFiles?: string[];
      protected?: boolean;
      repo: {
        fullName: string;
        defaultBranch?: string;
        [field: string]: unknown;
      };
      pr?: {
        number: number;
        title?: string;
        sourceBranch?: string;
        targetBranch?: string;
        labels?: string[];
        [field: string]: unknown;
      };
      [field: string]: unknown;
    };
    [name: string]: unknown;
  }
  /** Retry of a template: how often, or Argo's retryStrategy. */
  export type Retry = number | {
    limit?: number | string;
    retryPolicy?: "Always" | "OnFailure" | "OnError" | "OnTransientError";
    backoff?: {
      duration?: string;
      factor?: number;
      maxDuration?: string;
      cap?: string;
    };
    expression?: string;
    [field: string]: unknown;
  };
  export interface Inputs {
    /** Parameters with their defaults; or Argo's list. */
    parameters?: Values | Raw[];
    /** Artifacts with the paths where steps find them; or Argo's list. */
    artifacts?: {
      [name: string]: string | Raw;
    } | Raw[];
  }
  export interface Outputs {
    /** Parameters with the paths of the files that they are read from; or Argo's list. */
    parameters?: {
      [name: string]: string | Raw;
    } | Raw[];
    /** Artifacts with the paths that they are taken from; or Argo's list. */
    artifacts?: {
      [name: string]: string | Raw;
    } | Raw[];
  }
  /** Options of every template. */
  export interface TemplateOptions extends Raw {
    /** Its name in the manifest; the first task's that uses it if there is none. */
    name?: string;
    inputs?: Inputs;
    outputs?: Outputs;
    retry?: Retry;
    labels?: {
      [name: string]: string;
    };
    annotations?: {
      [name: string]: string;
    };
    volumes?: Array<Volume | Raw>;
  }
  /** Options of templates that run a container. */
  export interface ContainerOptions extends TemplateOptions {
    command?: string[];
    args?: Value[];
    workingDir?: string;
    /** Environment: values, or secret(…) and configMap(…); or Kubernetes' list. */
    env?: {
      [name: string]: Value | Raw;
    } | Raw[];
    /** Volumes and where they are seen: volume.at("/path"). */
    mounts?: Mount[];
    resources?: {
      requests?: Raw;
      limits?: Raw;
      [field: string]: unknown;
    };
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
    labels?: {
      [name: string]: string;
    };
    annotations?: {
      [name: string]: string;
    };
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
  /** Any tag: tag("workflow.name"). */
  export function tag(text: string): string;
  /** An expression: expression("asInt(inputs.parameters.n) + 1"). */
  export function expression(text: string): string;
  /** A parameter of the workflow. */
  export function parameter(name: string): string;
  /** An input parameter of the template that it stands in. */
  export function input(name: string): string;
  /** An input artifact of the template that it stands in, to hand it on. */
  export function inputArtifact(name: string): string;
  /** The item of a loop, or one field of it. */
  export function item(field?: string): string;
  /** A key of a Secret, as a value of the environment. */
  export function secret(name: string, key: string): Raw;
  /** A key of a ConfigMap, as a value of the environment. */
  export function configMap(name: string, key: string): Raw;
  /** A volume and where a container sees it. */
  export interface Mount {
    volume: Volume;
    fields: Raw;
  }
  /** A volume that containers can see. */
  export class Volume {
    readonly name: string;
    readonly fields: Raw;
    readonly claim: boolean;
    /** `claim` says that the workflow makes it, not the template. */
    constructor(name: string, fields: Raw, claim?: boolean);
    /** The volume at a path; more fields of Kubernetes' volumeMount may follow. */
    at(mountPath: string, more?: Raw): Mount;
  }
  /** A volume of any kind: volume("cache", { emptyDir: {} }). */
  export function volume(name: string, source?: Raw): Volume;
  /** A volume that each run of the workflow gets anew, shared by its steps. */
  export function volumeClaim(name: string, size: string, spec?: Raw): Volume;
  /** A template. It is written once, however many tasks use it. */
  export class Template {
    readonly name?: string;
    readonly claims: Volume[];
    protected readonly fields: Raw;
    constructor(options: TemplateOptions, mounts?: Mount[]);
  }
  /** A template of a WorkflowTemplate that is kept elsewhere. */
  export class TemplateRef {
    readonly fields: Raw;
    constructor(fields: Raw);
  }
  /** A template of the WorkflowTemplate `name`; of a ClusterWorkflowTemplate with { clusterScope: true }. */
  export function templateRef(name: string, template: string, more?: {
    clusterScope?: boolean;
  }): TemplateRef;
  /** A template that runs a container. The second argument has fields of the template where a name has two meanings. */
  export function container(options: ContainerOptions & {
    image: string;
  }, template?: TemplateOptions): Template;
  /** A template that runs a source text; `command` is its interpreter, sh if none is given. */
  export function script(image: string, source: string, options?: ContainerOptions): Template;
  /** A template that waits: for somebody, or for a time such as "10s". */
  export function suspend(duration?: string, options?: TemplateOptions): Template;
  /** A graph: tasks run as soon as what they depend on is over. */
  export function dag(name: string, options?: TemplateOptions & {
    failFast?: boolean;
    target?: string;
  }): Graph;
  /** Tasks one after another; with the option `beside`, side by side. */
  export function steps(name: string, options?: TemplateOptions): Graph;
  /** A template made of tasks: see dag and steps. */
  export class Graph extends Template {
    readonly kind: "tasks" | "steps";
    private readonly more;
    private readonly tasks;
    constructor(kind: "tasks" | "steps", options: TemplateOptions, more?: Raw);
    /** Adds a task that runs a template. */
    task(name: string, template: AnyTemplate, options?: TaskOptions): Task;
    /** Names what the whole gives to the one who uses it: an output of one of its tasks. */
    output(name: string, reference: string): this;
  }
  /** A task of a graph. What it gives are references for the arguments and conditions of later tasks. */
  export class Task {
    private readonly kind;
    readonly name: string;
    readonly template: Template | TemplateRef | string;
    readonly options: TaskOptions;
    private readonly depends;
    private readonly place;
    private readonly arguments?;
    constructor(kind: string, name: string, template: Template | TemplateRef | string, options: TaskOptions, before: Task[]);
    /** An output parameter; of a loop, the JSON list of all. */
    output(name: string): string;
    /** An output artifact. */
    artifact(name: string): string;
    /** What it wrote to its standard output. */
    get result(): string;
    get exitCode(): string;
    get status(): string;
    get succeeded(): string;
    get failed(): string;
    get errored(): string;
    get skipped(): string;
    private tag;
    private check;
    private pass;
  }
  /** A workflow. A name that ends with "-" is the beginning of one that is generated for each run. */
  export function workflow(name: string, options?: WorkflowOptions): Workflow;
  /** A WorkflowTemplate: templates for other workflows, or a workflow to submit. */
  export function workflowTemplate(name: string, options?: WorkflowOptions): Workflow;
  /** A CronWorkflow: a workflow that is run by the clock. */
  export function cronWorkflow(name: string, schedule: string | string[], options?: WorkflowOptions & {
    timezone?: string;
  }): Workflow;
  /** A workflow that is being built. JSON.stringify turns it into Argo's object. */
  export class Workflow {
    private readonly kind;
    private readonly name;
    private readonly options;
    private readonly cron?;
    private readonly graph;
    private readonly added;
    private readonly place;
    constructor(kind: string, name: string, options: WorkflowOptions, cron?: Raw | undefined);
    /** Adds a task to the workflow's own graph, a dag with the name main. */
    task(name: string, template: AnyTemplate, options?: TaskOptions): Task;
    /** Adds a task and gives the workflow, for programs that are one chain of calls and name tasks by strings. */
    step(name: string, template: AnyTemplate, options?: TaskOptions): this;
    /** Keeps a template that no task uses by reference. */
    add(template: Template): Template;
    /** Argo's object. */
    toJSON(): object;
    private spec;
  }
}
