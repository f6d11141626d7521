// Puts a study that does not run into the queue, to be resumed or trained in full, and exports what it has chosen.
(() => {
  const filledIn = (form) => {
    const given = [...form.elements].filter((each) => each.name && (each.type === "checkbox" ? each.checked : each.value.trim()));
    const value = (each) => each.type === "checkbox" || ("number" in each.dataset ? Number(each.value) : each.value.trim());
    return Object.fromEntries(given.map((each) => [each.name, value(each)]));
  };
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    const { queue, to } = form.dataset;
    if (!queue && !to) return;
    event.preventDefault();
    if (form.dataset.busy) return;
    form.dataset.busy = "yes";
    const place = form.querySelector(".said");
    const say = (text, refused) => { place.textContent = text; place.classList.toggle("refused", refused); };
    say(queue ? "Asking the queue…" : "Exporting: this may take minutes…", false);
    const content = { ...(queue && { name: form.dataset.study }), ...filledIn(form) };
    const { ok, held, why } = await window.ask(to ?? `/api/queue/${queue}`, content);
    if (ok) form.reset();
    say(!ok ? why : queue ? `It is number ${held.id} of the queue, and runs when it has slots.` : `It is in ${held.folder}. `, !ok);
    if (ok && held.download) {
      const link = place.appendChild(document.createElement("a"));
      Object.assign(link, { href: held.download, download: "", textContent: "Download it" });
    }
    delete form.dataset.busy;
  });
})();
