// Begins a study: asks the service what its form offers, shows the fields that are about the chosen data, sends the form,
// and says what is refused at its field. What was filled in stays until a study was begun.
(() => {
  const dialog = document.getElementById("new-study");
  const form = dialog.querySelector("form");
  const fields = document.getElementById("new-study-fields");
  const plan = document.getElementById("new-study-plan");
  const said = form.querySelector(":scope > .said");
  const say = (text, refused = false) => { said.textContent = text; said.classList.toggle("refused", refused); };

  // Shows a refusal at the field that its place names, or below the form.
  const refuse = ({ held, why }) => {
    const name = held?.place?.replace(/^body\./, "").split(".")[0];
    const place = document.getElementById(`new-${name}-refused`);
    if (!place) { say(why, true); return; }
    say("Refused: see the field.", true);
    place.textContent = why.replace(`Refused: ${held.place}: `, "");
    const field = place.parentElement.querySelector("input, select");
    field?.setAttribute("aria-invalid", "true");
    field?.focus();
  };
  const clear = () => {
    say("");
    plan.hidden = true;
    for (const each of fields.querySelectorAll(".refused")) each.textContent = "";
    for (const each of fields.querySelectorAll("[aria-invalid]")) each.removeAttribute("aria-invalid");
  };
  const asked = async (address, content) => {
    const answer = await window.ask(address, content);
    if (!answer.ok) refuse(answer);
    return answer.ok ? answer.held : null;
  };

  const GUESSES = { label: /^(label|labels|target|class|category|answer|score|y)$/i, second_text: /^$/ };
  const fillColumns = (names) => {
    const label = names.find((name) => GUESSES.label.test(name.trim())) ?? names.at(-1);
    const guesses = { label, text: names.find((name) => name !== label) ?? "", second_text: "" };
    for (const select of fields.querySelectorAll("[data-column]")) {
      const kept = names.includes(select.value) ? select.value : guesses[select.name];
      const empty = select.dataset.empty ? [new Option(select.dataset.empty, "")] : [];
      select.replaceChildren(...empty, ...names.map((name) => new Option(name, name)));
      select.value = kept;
    }
  };
  let choosing = 0;
  const choose = async () => {
    const mine = ++choosing;
    const data = form.elements.data.selectedOptions[0];
    const tasks = data.dataset.tasks.split(" ");
    for (const field of fields.querySelectorAll("[data-kinds]")) {
      field.hidden = !field.dataset.kinds.split(" ").includes(data.dataset.kind);
    }
    for (const box of fields.querySelectorAll('[name="tasks"]')) box.parentElement.hidden = !tasks.includes(box.value);
    fillColumns([]);
    if (data.dataset.kind !== "file") return;
    const held = await asked(`/api/data/columns?${new URLSearchParams({ file: data.value })}`);
    if (held && mine === choosing) fillColumns(held.columns);
  };
  const open = async () => {
    dialog.showModal();
    if (fields.childElementCount) return;
    say("Looking through the folders…");
    const page = await asked("/new");
    if (!page) return;
    fields.replaceChildren(...page.body.childNodes);
    say("");
    form.elements.name.focus();
    await choose();
  };

  const content = () => {
    const found = {};
    for (const field of fields.querySelectorAll("input, select")) {
      if (field.closest("[hidden]")) continue;
      if (field.type === "checkbox") (found[field.name] ??= []).push(...(field.checked ? [field.value] : []));
      else found[field.name] = field.matches("select") ? field.value : field.value.trim();
    }
    return found;
  };
  const sends = {
    plan: async () => {
      say("Making the plan. This may take two minutes…");
      const held = await asked("/api/plan", content());
      if (!held) return;
      say("");
      plan.textContent = held.text;
      plan.hidden = false;
      plan.focus();
    },
    begin: async () => {
      say("Checking the study. This may take two minutes…");
      const held = await asked("/api/studies", content());
      if (!held) return;
      fields.replaceChildren();
      dialog.close();
      const told = document.getElementById("said");
      told.textContent = `${held.entry.name} is number ${held.entry.id} of the queue.`;
      setTimeout(() => { told.textContent = ""; }, 12000);
    },
  };

  document.addEventListener("click", ({ target }) => {
    if (target.closest("[data-new-study]")) open();
    if (target.closest("#new-study [data-close]")) dialog.close();
  });
  form.addEventListener("change", ({ target }) => { if (target.name === "data") choose(); });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.dataset.busy || !fields.childElementCount) return;
    const buttons = form.querySelectorAll(".actions button[value]");
    form.dataset.busy = "yes";
    buttons.forEach((each) => each.setAttribute("aria-disabled", "true"));
    clear();
    await sends[event.submitter?.value || "plan"]();
    buttons.forEach((each) => each.removeAttribute("aria-disabled"));
    delete form.dataset.busy;
  });
})();
