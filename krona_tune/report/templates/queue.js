// Changes the queue. Its part of the page is replaced whenever something has changed, so what a reader has typed, what
// was refused and whether the ended studies are shown is kept here, and put into the part that comes.
(() => {
  const typed = new Map();
  const refused = new Map();
  const busy = new Set();
  let unfolded = false;

  const put = () => {
    for (const row of document.querySelectorAll("[data-entry]")) {
      const id = row.dataset.entry;
      const field = row.querySelector("input");
      if (field && typed.has(id)) field.value = typed.get(id);
      const answer = document.getElementById(`answer-${id}`);
      answer.hidden = !refused.has(id);
      answer.querySelector(".said").textContent = refused.get(id) ?? "";
    }
    const ended = document.getElementById("queue-ended");
    if (ended) ended.open = unfolded;
  };
  new MutationObserver(put).observe(document.getElementById("main"), { childList: true });

  const said = document.getElementById("said");
  const say = (text) => {
    said.textContent = text;
    clearTimeout(say.timer);
    say.timer = setTimeout(() => { said.textContent = ""; }, 12000);
  };
  // Asks the service for one change; returns the changed entry, or null if it was refused.
  const change = async (id, method, end, content) => {
    if (busy.has(id)) return null;
    busy.add(id);
    const { ok, held, why } = await window.ask(`/api/queue/${id}${end}`, content, method);
    busy.delete(id);
    if (ok) refused.delete(id);
    else refused.set(id, why);
    put();
    return ok ? held : null;
  };

  const dialog = document.getElementById("queue-confirm");
  const confirmed = (study, text) => new Promise((done) => {
    dialog.querySelector("h2 span").textContent = study;
    document.getElementById("queue-confirm-text").textContent = text;
    dialog.returnValue = "";
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });
  const changes = {
    remove: async (id, study, { id: button, dataset }) => {
      const sure = await confirmed(study, dataset.confirm);
      document.getElementById(button)?.focus();
      const made = sure && await change(id, "DELETE", "");
      if (made) say(made.state === "removed" ? `${study} is removed.` : `The driver of ${study} is asked to end.`);
    },
    again: async (id, study) => {
      if (await change(id, "POST", "/again", {})) say(`${study} has a place in the queue again.`);
    },
  };

  document.addEventListener("click", ({ target }) => {
    const button = target.closest("[data-change]");
    if (!button) return;
    const { entry, study } = button.closest("tr").dataset;
    changes[button.dataset.change](entry, study, button);
  });
  document.addEventListener("submit", async (event) => {
    if (!event.target.matches(".priority")) return;
    event.preventDefault();
    const { entry, study } = event.target.closest("tr").dataset;
    const { value } = event.target.elements.priority;
    if (!await change(entry, "PATCH", "", { priority: Number(value) })) return;
    if (typed.get(entry) === value) typed.delete(entry);
    say(`${study} has priority ${value}.`);
  });
  document.addEventListener("input", ({ target }) => {
    if (!target.matches(".priority input")) return;
    const { entry } = target.closest("tr").dataset;
    if (target.value === target.defaultValue) typed.delete(entry);
    else typed.set(entry, target.value);
  });
  document.addEventListener("toggle", ({ target }) => { if (target.id === "queue-ended") unfolded = target.open; }, true);
})();
