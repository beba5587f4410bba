import { usePaged } from "../lib/paged";
import { place } from "../lib/router";
import type { Run } from "../lib/types";
import { Chips, Search } from "../ui/filter";
import { Empty, Head, Wait } from "../ui/parts";
import { RunRow } from "../ui/things";

const states: [string, string][] = [["", "All"], ["Running", "Running"], ["Failed", "Failed"], ["Error", "Error"], ["Succeeded", "Succeeded"], ["Pending", "Pending"]];

/** Runs is the list of runs, newest first. */
export function Runs() {
  const q = place.value.query;
  const words = (q.get("q") ?? "").toLowerCase();
  const runs = usePaged<Run>("/runs", { state: q.get("state") ?? undefined, label: labelFilter(q.get("label")), namespace: q.get("namespace") ?? undefined, limit: 50 }, ["run"]);
  const shown = (all: Run[]) => (words ? all.filter((r) => matches(r, words)) : all);
  return (
    <>
      <Head title="Runs" />
      <div class="bar">
        <Chips name="state" values={states} label="State" />
        <Search name="q" placeholder="Name, branch, commit" first />
        <Search name="label" placeholder="Label, as team=quay" />
      </div>
      <Wait of={runs}>{(all) => {
        const list = shown(all);
        if (!list.length) return none(q.size > 0);
        return <div class="list" role="list">{list.map((r) => <RunRow key={r.uid || r.name} run={r} />)}</div>;
      }}</Wait>
      {runs.more && <button type="button" class="more" onClick={runs.more} disabled={runs.busy}>Older runs</button>}
    </>
  );
}

/** A half-typed label is not sent: the server would refuse it. */
function labelFilter(label: string | null): string | undefined {
  return label && label.split(",").every((p) => /^[^=]+=.+$/.test(p)) ? label : undefined;
}

function matches(r: Run, words: string): boolean {
  return `${r.namespace}/${r.name} ${Object.values(r.labels ?? {}).join(" ")} ${r.message ?? ""} ${r.template ?? ""}`.toLowerCase().includes(words);
}

function none(filtered: boolean) {
  return filtered
    ? <Empty title="No run is like that"><p><a href="/runs">Show all runs</a></p></Empty>
    : <Empty title="No run yet"><p>Push to a repository that a sensor listens to, or start one: <code>tiphys submit --watch hello.yaml</code>.</p></Empty>;
}
