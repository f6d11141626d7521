// Puts a study that does not run into the queue: to be resumed, or for a full training.
(() => {
  const filledIn = (form) => {
    const given = [...form.elements].filter((each) => each.name && (each.type === "checkbox" ? each.checked : each.value.trim()));
    const value = (each) => each.type === "checkbox" || ("number" in each.dataset ? Number(each.value) : each.value.trim());
    return Object.fromEntries(given.map((each) => [each.name, value(each)]));
  };
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.dataset.queue) return;
    event.preventDefault();
    if (form.dataset.busy) return;
    form.dataset.busy = "yes";
    const place = form.querySelector(".said");
    const say = (text, refused) => { place.textContent = text; place.classList.toggle("refused", refused); };
    say("Asking the queue…", false);
    try {
      const body = JSON.stringify({ name: form.dataset.study, ...filledIn(form) });
      const answer = await fetch(`/api/queue/${form.dataset.queue}`, { method: "POST", headers: { "Content-Type": "application/json" }, body });
      const held = await answer.json();
      if (answer.ok) form.reset();
      if (answer.ok) say(`It is number ${held.id} of the queue, and runs when it has slots.`, false);
      else say(`Refused: ${held.place}: ${held.problem}${held.fix ? `; ${held.fix}` : ""}`, true);
    } catch { say("The service does not answer: look at the queue before you ask again.", true); }
    delete form.dataset.busy;
  });
})();
