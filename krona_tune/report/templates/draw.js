// Draws a chart when it comes near the window, and loads plotly for the first one, from the page itself or from the
// service that sent it; before printing draws all of them, as wide as a sheet of paper takes.
(() => {
  const OPTIONS = { responsive: true, displaylogo: false, displayModeBar: false };
  const packed = async () => {
    const text = atob(document.getElementById("plotly").textContent);
    const bytes = new Uint8Array(text.length);
    for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  };
  const served = (address) => new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = address;
    script.addEventListener("load", done);
    script.addEventListener("error", failed);
    document.head.append(script);
  });
  let ready = null;
  const load = () => document.body.dataset.plotly ? served(document.body.dataset.plotly) : packed();
  const figureOf = (place) => JSON.parse(document.getElementById(place.dataset.figure).textContent);
  const plot = (place, plotted) => {
    const { data, layout } = figureOf(place);
    place.dataset.height = layout.height;
    place.style.height = `${layout.height}px`;
    return plotted(place, data, { ...layout, legend: { ...layout.legend, maxheight: 1 }, uirevision: "kept" }, OPTIONS);
  };
  // A chart's height has room for one line of its legend; a narrow window breaks that into several.
  const fit = (place) => {
    const [rows, first] = [".scrollbox", ".scrollbox .traces"].map((part) => place.querySelector(`.legend ${part}`)?.getBBox().height ?? 0);
    const height = Math.ceil(Number(place.dataset.height) + rows - first);
    if (height === parseFloat(place.style.height)) return;
    place.style.height = `${height}px`;
    Plotly.relayout(place, { height, autosize: place.layout.autosize !== false }); // else its width stays, too
  };
  const draw = (place) => {
    if (place.dataset.drawn || !window.Plotly || !place.isConnected) return;
    place.dataset.drawn = "yes";
    plot(place, Plotly.newPlot).then(() => { place.on("plotly_afterplot", () => fit(place)); fit(place); });
  };
  const redraw = (place) => plot(place, Plotly.react);
  const watcher = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      ready ??= load();
      ready.then(() => draw(target));
    }
  }, { rootMargin: "400px" });
  const prepare = (root) => root.querySelectorAll(".chart:not([data-drawn])").forEach((place) => watcher.observe(place));
  prepare(document);
  window.charts = { prepare, redraw };
  const everywhere = (width) => window.Plotly && document.querySelectorAll(".chart").forEach((place) => {
    draw(place);
    Plotly.relayout(place, { width, autosize: width === null });
  });
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details.search").forEach((each) => { each.open = true; });
    everywhere(620);
  });
  window.addEventListener("afterprint", () => everywhere(null));
})();
