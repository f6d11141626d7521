// Draws a chart when it comes near the window; before printing all of them, as wide as a sheet of paper takes.
(() => {
  const draw = (place) => {
    if (place.dataset.drawn) return;
    place.dataset.drawn = "yes";
    const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
    Plotly.newPlot(place, figure.data, figure.layout, { responsive: true, displaylogo: false, displayModeBar: false });
  };
  const places = [...document.querySelectorAll(".chart")];
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        watcher.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, { rootMargin: "400px" });
  places.forEach((place) => watcher.observe(place));
  const everywhere = (width) => places.forEach((place) => {
    draw(place);
    Plotly.relayout(place, { width, autosize: width === null });
  });
  window.addEventListener("beforeprint", () => everywhere(620));
  window.addEventListener("afterprint", () => everywhere(null));
})();
