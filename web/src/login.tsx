import { useEffect } from "preact/hooks";
import { call, Failure, loggedOut } from "./lib/api";
import { restart } from "./lib/live";

const mark = "#login=";

/** codeOf is the code of a login link; it stands behind the #, so that no server's log has it. */
export function codeOf(hash: string): string {
  return hash.startsWith(mark) ? decodeURIComponent(hash.slice(mark.length)) : "";
}

/** Arrive exchanges the code of a login link for a session. */
export function Arrive({ code, done }: { code: string; done: (error: string) => void }) {
  useEffect(() => {
    call("POST", "/login", { code })
      .then(() => { loggedOut.value = false; restart(); done(""); })
      .catch((e: unknown) => { loggedOut.value = true; done(e instanceof Failure ? [e.message, e.hint].filter(Boolean).join(". ") : String(e)); });
  }, [code]);
  return <p class="quiet" role="status">Logging in…</p>;
}

/** LoggedOut says what to do without a session. */
export function LoggedOut({ error }: { error: string }) {
  return (
    <section class="login">
      <h1>Log in to Tiphys</h1>
      {error && <p class="note t-bad" role="alert">{error}</p>}
      <p>In a terminal on this machine, or wherever your token is, type</p>
      <pre><code>tiphys login</code></pre>
      <p>and open the link that it prints. It is good once, for ten minutes.</p>
      <p class="faint">Without a token of your own ask an administrator, who gets a link for you by <code>tiphys user login-link NAME</code>.</p>
    </section>
  );
}
