import { get } from "../lib/api";
import { useLoad } from "../lib/load";
import { usePaged } from "../lib/paged";
import { place } from "../lib/router";
import type { App, MR, Page } from "../lib/types";
import { Approvals } from "../ui/approvals";
import { Chips, Search } from "../ui/filter";
import { Empty, Head, Wait } from "../ui/parts";
import { MRRow, previewsBy } from "../ui/things";

/** MRs lists merge requests with their previews. */
export function MRs() {
  const q = place.value.query;
  const state = q.get("state") ?? "open";
  const words = (q.get("q") ?? "").toLowerCase();
  const mrs = usePaged<MR>("/mrs", { state: state === "all" ? undefined : state, repo: q.get("repo") ?? undefined }, ["mr"]);
  const apps = useLoad("mr-apps", (s) => get<Page<App>>("/apps", {}, s).then((p) => p.items ?? []), { tables: ["application"] });
  const preview = previewsBy(apps.data);
  return (
    <>
      <Head title="Merge requests" />
      <div class="bar">
        <Chips name="state" label="State" values={[["", "Open"], ["merged", "Merged"], ["closed", "Closed"], ["all", "All"]]} />
        <Search name="q" placeholder="Title, branch, label" first />
        <Search name="repo" placeholder="Repository" />
      </div>
      <Approvals />
      <Wait of={mrs}>{(all) => {
        const list = words ? all.filter((m) => `${m.title} ${m.source} ${m.author} !${m.number} ${(m.labels ?? []).join(" ")}`.toLowerCase().includes(words)) : all;
        if (list.length) return <div class="list">{list.map((m) => <MRRow key={`${m.repo}#${m.number}`} mr={m} preview={preview(m)} />)}</div>;
        if (q.size) return <Empty title="No merge request is like that"><p><a href="/mrs?state=all">Show all</a></p></Empty>;
        return <Empty title="No merge request is open"><p>Push a branch and ask for one:</p><pre>git push -o merge_request.create -o merge_request.target=main origin my-branch</pre><p>or <code>tiphys mr create</code>.</p></Empty>;
      }}</Wait>
      {mrs.more && <button type="button" class="more" onClick={mrs.more} disabled={mrs.busy}>Older</button>}
    </>
  );
}
