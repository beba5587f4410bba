import { get } from "../lib/api";
import { useLoad } from "../lib/load";
import { place, setQuery } from "../lib/router";
import type { App, Page } from "../lib/types";
import { Search } from "../ui/filter";
import { Empty, Head, Wait } from "../ui/parts";
import { AppCard } from "../ui/things";

/** Apps shows what runs where, now or at a past moment. */
export function Apps() {
  const q = place.value.query;
  const at = q.get("at") ?? "";
  const words = (q.get("q") ?? "").toLowerCase();
  const apps = useLoad(`apps@${at}`, (s) => get<Page<App>>("/apps", { at: at || undefined }, s).then((p) => p.items ?? []), { tables: at ? [] : ["application", "deployment"] });
  return (
    <>
      <Head title="Applications" sub={at ? <span class="t-wait word">as it was on {new Date(at).toLocaleString()}</span> : <span class="faint">what runs where, now</span>} />
      <div class="bar">
        <Search name="q" placeholder="Name, commit, image" first />
        <label class="at">at <input type="datetime-local" step="1" value={local(at)} onChange={(e) => setQuery({ at: e.currentTarget.value ? new Date(e.currentTarget.value).toISOString() : undefined })} /></label>
        {at && <button type="button" onClick={() => setQuery({ at: undefined })}>Now</button>}
      </div>
      <Wait of={apps}>{(all) => <Groups apps={words ? all.filter((a) => JSON.stringify(a).toLowerCase().includes(words)) : all} at={at} filtered={!!words} />}</Wait>
    </>
  );
}

function Groups({ apps, at, filtered }: { apps: App[]; at: string; filtered: boolean }) {
  if (!apps.length) {
    if (filtered) return <Empty title="No application is like that"><p><a href="/apps">Show all</a></p></Empty>;
    return at ? <Empty title="Nothing ran then"><p>Choose a later time, or look at <a href="/apps">now</a>.</p></Empty>
      : <Empty title="Nothing is deployed yet"><p>An Application in the definitions says what to run and where it comes from. Apply one: <code>tiphys apply app.yaml</code>.</p></Empty>;
  }
  const firm = apps.filter((a) => !a.preview && !a.deleted);
  const previews = apps.filter((a) => a.preview && !a.deleted);
  const gone = apps.filter((a) => a.deleted);
  const repos = [...new Set(previews.map((a) => a.preview?.repo ?? ""))].sort();
  return (
    <>
      {firm.length > 0 && <Group title="Production" apps={firm.sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name))} />}
      {repos.map((r) => <Group key={r} title={`Previews${r ? ` of ${r}` : ""}`} apps={previews.filter((a) => (a.preview?.repo ?? "") === r)} />)}
      {gone.length > 0 && <Group title="Deleted" apps={gone} />}
    </>
  );
}

const rank = (a: App) => (/prod/i.test(a.name) ? 0 : 1);

function Group({ title, apps }: { title: string; apps: App[] }) {
  return <section><h2>{title} <span class="count">{apps.length}</span></h2><div class="cards">{apps.map((a) => <AppCard key={`${a.namespace}/${a.name}`} app={a} />)}</div></section>;
}

/** local writes a time as the field for times wants it. */
function local(t: string): string {
  if (!t) return "";
  const d = new Date(t);
  return Number.isNaN(d.getTime()) ? "" : new Date(d.getTime() - d.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
