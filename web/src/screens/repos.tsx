import { useState } from "preact/hooks";
import { call, get } from "../lib/api";
import { useLoad } from "../lib/load";
import { trailPath } from "../lib/router";
import type { Page, Repo } from "../lib/types";
import { Act, Ago, Copy, Empty, Head, Sha, Wait } from "../ui/parts";

/** Repos lists the repositories of the built-in remote. */
export function Repos() {
  const repos = useLoad("repos", (s) => get<Page<Repo>>("/repos", {}, s).then((p) => p.items ?? []), { tables: ["repository", "ref"] });
  const [name, setName] = useState("");
  return (
    <>
      <Head title="Repositories" sub={<span class="faint">of the built-in Git remote</span>}>
        <input value={name} onInput={(e) => setName(e.currentTarget.value)} placeholder="name" aria-label="Name of a new repository" />
        <Act label="New repository" kind="primary" disabled={!name.trim()} run={() => call("POST", "/repos", { name: name.trim() })} done={() => { setName(""); repos.reload(); }} />
      </Head>
      <Wait of={repos}>{(all) => (all.length ? <div class="list">{all.map((r) => (
        <div class="row" key={r.name}>
          <span class="c-name"><b>{r.name}</b><span class="from"><span class="ref">{r.defaultBranch}</span>{r.head && <a href={trailPath(`commit/${r.head}`)}><Sha of={r.head} /></a>}</span>
            {r.cloneURL && <code class="clone">git clone {r.cloneURL}</code>}</span>
          {r.cloneURL && <Copy text={r.cloneURL} />}
          <a href={`/runs?label=${encodeURIComponent("tiphys.dev/repo=" + r.name)}`}>runs</a>
          <a href={`/mrs?repo=${encodeURIComponent(r.name)}&state=all`}>merge requests</a>
          <a href={`/events?repo=${encodeURIComponent(r.name)}`}>events</a>
          <span class="c-when"><Ago t={r.updatedAt ?? r.createdAt} /></span>
        </div>
      ))}</div> : <Empty title="No repository yet"><p>Make one above, then push to it. A repository of another forge needs none here: give it a webhook instead.</p></Empty>)}</Wait>
    </>
  );
}
