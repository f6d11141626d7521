// Keeps a served page up to date, and gives orders. It runs before the tables are prepared, so that it knows each part
// as the service sent it. Parts that have not changed since are left alone; a part that has keeps what its reader did:
// open details, sorted and unfolded tables, drawn charts with their zoom, places in scrolled regions, and the focus.
(() => {
  const { source, events, orders, stamp: first } = document.body.dataset;
  const RETRY = 3000;
  const keyOf = (part) => part.getAttribute("aria-labelledby") || part.getAttribute("aria-label") || part.tagName;
  const partsOf = (root) => new Map([...root.querySelectorAll("header, nav > ul, main > :not(.live)")].map((part) => [keyOf(part), part]));
  const sources = new Map([...partsOf(document)].map(([key, part]) => [key, part.outerHTML]));
  let stamp = first;

  const FOCUSABLE = "a, button, summary, input, [tabindex]";
  const nameOf = (element) => [element.tagName, element.id, element.getAttribute("aria-label"), element.getAttribute("aria-labelledby"), element.textContent].join("|");
  const focusIn = (part) => {
    const held = document.activeElement;
    if (!part.contains(held)) return () => {};
    const same = (root) => [...root.querySelectorAll(FOCUSABLE)].filter((each) => nameOf(each) === nameOf(held));
    const place = same(part).indexOf(held);
    return (fresh) => (same(fresh)[place] || fresh.querySelector(FOCUSABLE))?.focus({ preventScroll: true });
  };
  const detailsIn = (part) => {
    const named = (root) => [...root.querySelectorAll("details")].map((each) => [each.querySelector("summary")?.textContent, each]);
    const known = new Map(named(part).map(([name, each]) => [name, each.open]));
    return (fresh) => named(fresh).forEach(([name, each]) => { if (known.has(name)) each.open = known.get(name); });
  };
  const choicesIn = (part) => {
    const boxes = (root) => [...root.querySelectorAll('input[type="checkbox"]')];
    const chosen = new Set(boxes(part).filter((each) => each.checked).map((each) => each.value));
    return (fresh) => boxes(fresh).forEach((each) => { each.checked = chosen.has(each.value); });
  };
  const scrollsIn = (part) => {
    const regions = (root) => [...root.querySelectorAll(".scroll")].map((each) => [each.getAttribute("aria-labelledby"), each]);
    const places = new Map(regions(part).map(([name, each]) => [name, [each.scrollLeft, each.scrollTop]]));
    return (fresh) => regions(fresh).forEach(([name, each]) => { [each.scrollLeft, each.scrollTop] = places.get(name) || [0, 0]; });
  };
  const unfolded = new Set();
  const unfold = (table) => {
    const rest = table.querySelector("template");
    if (!rest || !unfolded.has(table.id)) return;
    table.tBodies[0].append(rest.content);
    rest.remove();
    document.querySelector(`button.more[aria-controls="${table.id}"]`)?.remove();
  };
  const tablesIn = (part) => {
    const named = (root) => [...root.querySelectorAll("table.sortable")].map((each) => [each.id || each.caption?.id, each]);
    const sortedBy = (table) => [...table.tHead.rows[0].cells].find((cell) => cell.hasAttribute("aria-sort"));
    const states = new Map(named(part).map(([name, table]) => [name, sortedBy(table)]));
    return (fresh) => named(fresh).forEach(([name, table]) => {
      unfold(table);
      const by = states.get(name);
      const heading = by && [...table.tHead.rows[0].cells].find((cell) => cell.textContent === by.textContent);
      if (heading) window.tables.sortBy(table, heading, by.getAttribute("aria-sort") === "ascending" ? 1 : -1);
    });
  };
  const chartsIn = (part) => {
    const drawn = new Map([...part.querySelectorAll(".chart[data-drawn]")].map((place) => [place.dataset.figure, [place, part.querySelector(`[id="${place.dataset.figure}"]`)?.textContent]]));
    return (fresh) => fresh.querySelectorAll(".chart").forEach((place) => {
      const [kept, figure] = drawn.get(place.dataset.figure) || [];
      if (!kept) return;
      kept.setAttribute("aria-label", place.getAttribute("aria-label"));
      place.replaceWith(kept);
      if (document.getElementById(kept.dataset.figure).textContent !== figure) window.charts.redraw(kept);
    });
  };

  const replace = (part, fresh) => {
    const keep = [chartsIn, tablesIn, detailsIn, choicesIn, scrollsIn, focusIn].map((look) => look(part));
    part.replaceWith(fresh);
    window.tables.prepare(fresh);
    keep.forEach((restore) => restore(fresh));
    window.charts?.prepare(fresh);
  };
  const insert = (part, before) => {
    if (before) before.after(part);
    else document.getElementById("main").prepend(part);
    window.tables.prepare(part);
    window.charts?.prepare(part);
  };
  const forgetAnswered = () => document.querySelectorAll("[data-ordered]").forEach((place) => {
    if (!document.querySelector(`#orders-table [data-answered="${place.dataset.ordered}"]`)) return;
    place.textContent = "";
    delete place.dataset.ordered;
  });
  const show = (page) => {
    const present = partsOf(document);
    const wanted = partsOf(page);
    let before = document.querySelector("main > .live");
    for (const [key, part] of wanted) {
      const text = part.outerHTML;
      const there = present.get(key);
      const fresh = document.adoptNode(part);
      if (!there) insert(fresh, before);
      else if (sources.get(key) !== text) replace(there, fresh);
      sources.set(key, text);
      const now = partsOf(document).get(key);
      if (now.parentElement.id === "main") before = now;
    }
    for (const [key, part] of present) {
      if (wanted.has(key)) continue;
      part.remove();
      sources.delete(key);
    }
    forgetAnswered();
  };

  let asked = null;
  let again = false;
  const update = async (newest) => {
    if (asked) { again = newest; return; }
    asked = newest;
    const { ok, held, stamp: come } = await window.ask(source);
    connection.hidden = ok;
    asked = null;
    if (ok) {
      show(held);
      stamp = come;
      // What came may be older than what was told of, or newer: the service says which, if it is asked again.
      if (stamp !== newest) setTimeout(() => { if (!document.hidden) listen(); }, RETRY);
    } else setTimeout(() => update(newest), RETRY);
    if (again && again !== stamp) update(again);
    again = null;
  };

  // Makes one element like another, child by child, so that a button that is pressed and a field that is filled in stay.
  const merge = (old, fresh) => {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeType !== Node.ELEMENT_NODE || old.nodeName !== fresh.nodeName) { old.replaceWith(fresh); return; }
    if (old.hasAttribute("data-keep")) return;
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    let at = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      const named = child.id ? [...old.children].find((each) => each.id === child.id) : null;
      const match = named || (!child.id && at && !at.id ? at : null);
      if (!match) { old.insertBefore(child, at); continue; }
      if (match === at) at = at.nextSibling;
      else old.insertBefore(match, at);
      merge(match, child);
    }
    while (at) { const next = at.nextSibling; at.remove(); at = next; }
  };

  const connection = document.getElementById("connection");
  let stream = null;
  const listen = () => {
    stream?.close();
    const address = new URL(events, location);
    address.searchParams.set("since", stamp);
    stream = new EventSource(address);
    stream.addEventListener("open", () => { connection.hidden = true; });
    stream.addEventListener("now", ({ data }) => {
      const fresh = new DOMParser().parseFromString(data, "text/html").querySelector(".live");
      const old = document.querySelector("main > .live");
      if (!fresh || !old) return;
      const figures = () => [...old.querySelectorAll(".chart[data-drawn]")].map((place) => [place, document.getElementById(place.dataset.figure).textContent]);
      const before = new Map(figures());
      merge(old, document.adoptNode(fresh));
      for (const [place, figure] of figures()) if (before.get(place) !== figure) window.charts.redraw(place);
      window.charts?.prepare(old);
    });
    stream.addEventListener("changed", ({ data }) => { if (data !== stamp) update(data); });
    stream.addEventListener("error", async () => {
      connection.hidden = false;
      if (stream.readyState !== EventSource.CLOSED) return;
      await window.ask(source); // the login is shown to a browser that the service no longer knows
      setTimeout(listen, RETRY);
    });
  };
  // A browser opens few connections to one host; a page that nobody sees leaves its own to the others.
  document.addEventListener("visibilitychange", () => { if (document.hidden) stream?.close(); else listen(); });
  document.addEventListener("click", ({ target }) => {
    const more = target.closest("button.more");
    if (more) unfolded.add(more.getAttribute("aria-controls"));
  }, true);
  window.addEventListener("DOMContentLoaded", () => { if (!document.hidden) listen(); });

  document.addEventListener("submit", (event) => {
    const { least } = event.target.dataset;
    const place = event.target.querySelector(".said");
    const few = least && new FormData(event.target).getAll("study").length < least;
    if (few) event.preventDefault();
    if (least) place.textContent = few ? `Choose ${least} studies or more.` : "";
  });

  if (!orders) return;
  const said = document.getElementById("said");
  const say = (place, text, refused) => {
    place.textContent = text;
    place.classList.toggle("refused", refused);
    delete place.dataset.ordered;
    if (place === said) { clearTimeout(say.timer); say.timer = setTimeout(() => { said.textContent = ""; }, 12000); }
  };
  const give = async (order, place) => {
    say(place, "Sending the order…", false);
    const { ok, held, why } = await window.ask(orders, order);
    if (!ok) { say(place, why, true); return ok; }
    const { answers, waits } = document.getElementById("now").dataset;
    const when = answers.split(" ").includes(held.what) ? "The driver answers within a few seconds." : waits;
    say(place, `Ordered: ${[held.what.replaceAll("_", " "), held.trial, ...held.settings, held.value].filter(Boolean).join(" ")}. ${when}`, false);
    place.dataset.ordered = held.id;
    return ok;
  };
  const confirmed = (text) => new Promise((done) => {
    const dialog = document.getElementById("confirm");
    document.getElementById("confirm-text").textContent = text;
    dialog.returnValue = "";
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });
  const clone = document.getElementById("clone");
  const MOST_CLONES = 10;
  const fields = document.getElementById("clone-fields");
  const cloneSaid = clone.querySelector(".said");
  const cloneButton = clone.querySelector("button.strong");
  // Each value of a field with those of the others: one clone for each combination but that of the trial itself.
  const clones = () => {
    const asked = [...fields.querySelectorAll("input")]
      .map((each) => [each, [...new Set(each.value.split(";").map((value) => value.trim()))]]);
    const settings = (each, value) => (value === each.dataset.was ? [] : [`${each.dataset.key}=${value}`]);
    const all = asked.reduce((found, [each, values]) => found.flatMap((one) => values.map((value) => [...one, ...settings(each, value)])), [[]]);
    const every = all.length > 1 ? all.filter((one) => one.length) : all;
    const from_last_rung = clone.querySelector("form").elements.from_last_rung.checked;
    return every.map((settings) => ({ what: "clone_trial", trial: clone.dataset.trial, settings, from_last_rung }));
  };
  let checking = 0;
  const check = async () => {
    const mine = ++checking;
    const wanted = clones();
    if (wanted.length > MOST_CLONES) { say(cloneSaid, `${wanted.length} clones: order at most ${MOST_CLONES} at once.`, true); return false; }
    if (!wanted[0].settings.length) { say(cloneSaid, "", false); return false; }
    for (const order of wanted) {
      const { ok, why } = await window.ask(`${orders}/check`, order);
      if (mine !== checking) return false;
      if (ok) continue;
      say(cloneSaid, why.replace(/^Refused/, "Would be refused"), true);
      return false;
    }
    say(cloneSaid, wanted.length > 1 ? `${wanted.length} clones can be made.` : "This can be ordered.", false);
    return true;
  };
  clone.addEventListener("input", () => { clearTimeout(check.timer); check.timer = setTimeout(check, 300); });
  const openClone = async (original) => {
    clone.querySelector("h2 code").textContent = original;
    clone.dataset.trial = original;
    say(cloneSaid, "", false);
    fields.replaceChildren();
    clone.showModal();
    const { ok, held, why } = await window.ask(`${location.pathname}/clone/${encodeURIComponent(original)}`);
    if (clone.dataset.trial !== original) return;
    if (!ok) { say(cloneSaid, why, true); return; }
    fields.replaceChildren(...held.body.childNodes);
    fields.querySelector("input")?.focus();
  };
  document.addEventListener("click", async ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    const { order, trial, confirm, clone: original } = button.dataset;
    if ("close" in button.dataset) button.closest("dialog").close();
    if (original) await openClone(original);
    if (!order || button.disabled || (confirm && !await confirmed(confirm))) return;
    button.disabled = true;
    const place = document.getElementById(trial ? `said-${trial}` : "said-study") || said;
    await give({ what: order, ...(trial ? { trial } : {}) }, place);
    button.disabled = false;
  });
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.dataset.order) return;
    event.preventDefault();
    const what = form.dataset.order;
    const place = form.querySelector(".said");
    if (form.dataset.busy) return;
    if (form.elements.value) {
      const value = form.elements.value.value.trim();
      const prefix = form.dataset.prefix || "";
      form.dataset.busy = true;
      const taken = await give({ what, value: value.startsWith(prefix) ? value : prefix + value }, place);
      delete form.dataset.busy;
      if (taken) form.reset();
      return;
    }
    if (!clones()[0].settings.length) { say(place, "Nothing is changed yet: the same would be trained again.", true); return; }
    form.dataset.busy = cloneButton.disabled = true;
    clearTimeout(check.timer); // it would ask whether what is ordered now can be ordered once more
    const wanted = clones();
    let given = 0;
    if (await check()) while (given < wanted.length && await give(wanted[given], place)) given += 1;
    delete form.dataset.busy;
    cloneButton.disabled = false;
    if (given < wanted.length) { if (given) place.textContent += ` ${given} of ${wanted.length} were ordered.`; return; }
    say(said, given > 1 ? `${given} clones are ordered.` : place.textContent, false);
    form.reset();
    clone.close();
  });
})();
