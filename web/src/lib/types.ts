// The shapes of docs/api.md. Fields are optional where a server may leave them out.

export type Phase = "" | "Pending" | "Running" | "Succeeded" | "Skipped" | "Failed" | "Error" | "Omitted";

export interface Page<T> { items?: T[]; next?: string }

export interface Condition { type: string; status: string; message?: string }

export interface Run {
  uid: string; namespace: string; name: string; phase?: Phase; message?: string; progress?: string;
  createdAt: string; startedAt?: string; finishedAt?: string; suspended?: boolean; shutdown?: string;
  labels?: Record<string, string>; annotations?: Record<string, string>; failed?: string;
  conditions?: Condition[]; template?: string; event?: number; outputs?: InOut;
  failure?: Reason; waitsFor?: Reason;
}

/** Reason is the step that a list names for a run which failed, or waits for somebody. */
export interface Reason { node: string; name: string; message?: string }

export interface Parameter { name: string; value?: unknown; default?: unknown; description?: string; enum?: string[]; valueFrom?: { supplied?: unknown } }
export interface Artifact { name: string; path?: string; s3?: { key?: string } }
export interface InOut { parameters?: Parameter[]; artifacts?: Artifact[]; result?: string; exitCode?: string }
export interface Position { file?: string; line?: number; column?: number }

export interface Node {
  id: string; name: string; displayName?: string; type: string; templateName?: string; phase?: Phase;
  boundaryID?: string; message?: string; startedAt?: string | null; finishedAt?: string | null; progress?: string;
  inputs?: InOut; outputs?: InOut; children?: string[]; nodeFlag?: { hooked?: boolean; retried?: boolean };
  podIP?: string; hostNodeName?: string; why?: string; synchronizationStatus?: string; attempt?: number;
  position?: Position; parent?: string; after?: string[]; order?: number; daemoned?: boolean;
}

export interface Attempt extends Partial<Node> { node?: string; reason?: string }

/** RunStart is a run with the first of its nodes, without what went in and came out of them. */
export interface RunStart { run: Run; nodes?: Node[]; next?: string; seq: number }
export interface NodePage { items?: Node[]; next?: string; seq: number }
export interface NodeDetail { node: Node; attempts?: Attempt[]; next?: string; seq: number }

export interface Health { status?: string; message?: string }

export interface App {
  namespace: string; name: string; project?: string; preview?: { repo?: string; mr?: number; title?: string };
  sync?: string; health?: Health; revision?: string; release?: { name?: string; number?: number };
  /** releases are all that its images are of. */
  releases?: { forge?: string; repo: string; name: string; number: number; commit: string; seq: number }[];
  version?: string; commit?: string; mr?: number; images?: Record<string, string>; sources?: Record<string, string>;
  urls?: string[]; since?: string; deleted?: boolean | string; message?: string; actor?: string;
}

export interface Resource {
  group?: string; kind: string; namespace?: string; name: string; sync?: string; health?: Health; owner?: string;
  images?: string[]; createdAt?: string; info?: string;
  /** A sync with prune deletes it. */
  prune?: boolean;
}

export interface Deployment {
  id?: number; seq?: number; release?: string | { name?: string; number?: number }; version?: string; commit?: string;
  branch?: string; mr?: number; actor?: string; images?: Record<string, string>; since?: string; until?: string; deleted?: boolean;
}

export interface Problem { key?: string; path?: string; message?: string; fatal?: boolean }
export interface Operation { phase?: string; message?: string; startedAt?: string; finishedAt?: string; results?: Record<string, { phase?: string; message?: string }> }
export interface AppDetail { app: App; resources?: Resource[]; history?: Deployment[]; problems?: (Problem | string)[]; operation?: Operation }

export interface MR {
  repo: string; number: number; title: string; description?: string; body?: string; state: string; draft?: boolean;
  source: string; target: string; headSHA?: string; mergeSHA?: string; author?: string; mergedBy?: string; labels?: string[];
  conflicts?: boolean; createdAt?: string; updatedAt?: string; mergedAt?: string;
  /** reason says why it cannot be merged now; blocked that only the rules of the target do not let it, which mayOverride may. */
  reason?: string; blocked?: boolean; mayOverride?: boolean; override?: string; approvedBy?: string[];
}

export interface CommitStatus { context: string; state: string; description?: string; url?: string }
export interface Comment { author?: string; body?: string; updatedAt?: string; createdAt?: string; updated?: string }
export interface Commit { sha?: string; message?: string; title?: string; author?: string | { login?: string; name?: string }; time?: string }
export interface MRDetail {
  mr: MR; commits?: Commit[]; statuses?: CommitStatus[]; comments?: Comment[]; diffstat?: string; preview?: App;
}

export interface Git {
  kind?: string; action?: string; repo?: { fullName?: string }; branch?: string; tag?: string; sha?: string;
  pr?: { number?: number; title?: string; labels?: string[] }; sender?: { login?: string; name?: string };
}

export interface Event {
  id: string; type: string; source?: string; subject?: string; namespace?: string; time: string; actor?: string;
  verified?: string | boolean; delivery?: string; seq?: number; replayOf?: number; git?: Git; data?: unknown;
}

export interface Decision {
  sensor: string; trigger?: string; event?: number; dependency?: string; outcome: string; reason?: string;
  satisfied?: string[]; missing?: string[]; firing?: number;
}

/** Service is one of the things that loop in the server. */
export interface Service { name: string; state: string; reason?: string; since?: string }

export interface Firing {
  key?: string; state?: string; sensor?: string; trigger?: string; number?: number; attempt?: number; error?: string;
  message?: string; result?: string; run?: string; subject?: string; firedAt?: string;
}

export interface EventDetail { event: Event; decisions?: Decision[]; firings?: Firing[]; unheard?: Decision[] }

export interface Entry { seq: number; time: string; actor?: string; kind: string; subject: string; cause?: number; body?: unknown; pruned?: boolean }
export interface Trail { up?: Entry[]; entry?: Entry; down?: { depth: number; entry: Entry }[]; truncated?: boolean }
export interface Head { seq: number; time?: string; hash?: string; signature?: string; publicKey?: string }
export interface VerifyState { running: boolean; progress: { checked?: Head; total?: number }; report?: VerifyReport; error?: string }
export interface VerifyReport { entries?: number; pruned?: number; head?: Head; faults?: { seq: number; what: string }[]; damage?: string[] }

export interface Repo { name: string; defaultBranch?: string; cloneURL?: string; head?: string; updatedAt?: string; createdAt?: string }
export interface Definition { kind: string; namespace: string; name: string; origin?: string; digest?: string; seq?: number; object?: unknown; conditions?: DefinitionCondition[] }
export interface DefinitionCondition { type: string; message?: string; hint?: string }
export interface Cron { namespace: string; name: string; schedules?: string[]; timezone?: string; suspended?: boolean; lastScheduled?: string; next?: string }

export interface Row { table: string; key: string; owner?: string; state?: string; time?: string; body?: unknown; seq: number; deleted?: boolean }

/** Approval is a merge request of somebody who may not write to the repository, whose commit waits for an approval. */
export interface Approval { key: string; repo?: string; number?: number; title?: string; author: string; sha: string; event: string }
/** Quarantined is a piece of work that is left out, because it ended the server. */
export interface Quarantined { kind: string; key: string; why: string; deaths: number; since?: string }
