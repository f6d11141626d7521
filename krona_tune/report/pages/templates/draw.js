// Draws a chart when it comes near the window, and unpacks plotly for the first one; before printing draws all of them,
// as wide as a sheet of paper takes.
(() => {
  const unpack = async () => {
    const text = atob(document.getElementById("plotly").textContent);
    const bytes = new Uint8Array(text.length);
    for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  };
  let ready = null;
  const draw = (place) => {
    if (place.dataset.drawn || !window.Plotly) return;
    place.dataset.drawn = "yes";
    const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
    Plotly.newPlot(place, figure.data, figure.layout, { responsive: true, displaylogo: false, displayModeBar: false });
  };
  const places = [...document.querySelectorAll(".chart")];
  const watcher = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      ready ??= unpack();
      ready.then(() => draw(target));
    }
  }, { rootMargin: "400px" });
  places.forEach((place) => watcher.observe(place));
  const everywhere = (width) => window.Plotly && places.forEach((place) => {
    draw(place);
    Plotly.relayout(place, { width, autosize: width === null });
  });
  window.addEventListener("beforeprint", () => everywhere(620));
  window.addEventListener("afterprint", () => everywhere(null));
})();
