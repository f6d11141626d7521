// Asks the service something, for all scripts of a page; with content, which is sent as JSON. Returns whether that was
// done, what came, JSON or a page, with its stamp, and in words why it was not done. A browser that the service no longer
// knows loads its page again, which is the login then.
window.ask = async (address, content, method = content ? "POST" : "GET") => {
  try {
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch(address, { method, headers, body: content && JSON.stringify(content), redirect: "manual" });
    if (answer.type === "opaqueredirect" || answer.status === 401) {
      location.reload();
      return new Promise(() => {});
    }
    const text = await answer.text();
    const isPage = answer.headers.get("Content-Type")?.startsWith("text/html");
    const held = isPage ? new DOMParser().parseFromString(text, "text/html") : JSON.parse(text || "null");
    const why = () => isPage ? held.querySelector(".headline").textContent : `Refused: ${held.place}: ${held.problem}${held.fix ? `; ${held.fix}` : ""}`;
    return { ok: answer.ok, held, stamp: answer.headers.get("X-Stamp"), why: answer.ok ? "" : why() };
  } catch {
    return { ok: false, why: `The service does not answer${method === "GET" ? "." : ": look what it has done before you ask again."}` };
  }
};
