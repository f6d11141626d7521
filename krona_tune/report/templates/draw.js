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
  const draw = (place) => {
    if (place.dataset.drawn || !window.Plotly || !place.isConnected) return;
    place.dataset.drawn = "yes";
    const figure = figureOf(place);
    Plotly.newPlot(place, figure.data, { ...figure.layout, uirevision: "kept" }, OPTIONS);
  };
  const redraw = (place) => {
    const figure = figureOf(place);
    place.style.height = `${figure.layout.height}px`;
    Plotly.react(place, figure.data, { ...figure.layout, uirevision: "kept" }, OPTIONS);
  };
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
