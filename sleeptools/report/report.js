// What is printed though it is folded away; and zooming of the hypnograms: the inner drawing of each has the epoch as its unit, so a change of
// its viewBox is all it takes; the labels of the hours are set anew.
"use strict";
addEventListener("beforeprint", () => document.querySelectorAll("details.printed:not([open])")
  .forEach(d => { d.open = true; d.dataset.shut = ""; }));
addEventListener("afterprint", () => document.querySelectorAll("details[data-shut]")
  .forEach(d => { d.open = false; delete d.dataset.shut; }));
for (const region of document.querySelectorAll(".zooms")) {
  const night = region.querySelector("svg.night"), time = night.querySelector(".time");
  const hours = night.querySelector(".hours"), all = time.viewBox.baseVal.width;
  const height = time.viewBox.baseVal.height, least = Math.min(all, 20);
  const start = +night.dataset.start, epoch = +night.dataset.epoch;
  const [left, top, bottom] = ["left", "top", "bottom"].map(name => +hours.dataset[name]);
  const width = time.width.baseVal.value, original = hours.innerHTML;
  const steps = [10, 30, 60, 300, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800];
  let from = 0, span = all, grip = null;

  const day = +night.dataset.day || Infinity;
  const clock = (s, fine) => timeText(s % day, fine);
  const timeText = (s, fine) => Math.floor(s / 3600) + ":" + String(Math.floor(s / 60) % 60)
    .padStart(2, "0") + (fine ? ":" + String(Math.round(s % 60)).padStart(2, "0") : "");
  const make = (name, attributes, text = "") => {
    const made = document.createElementNS(night.namespaceURI, name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    made.textContent = text;
    return made;
  };
  const bar = document.createElement("div");
  bar.className = "zoombar";
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "Zoom " + region.getAttribute("aria-label"));
  const said = document.createElement("output");

  function label() {
    hours.replaceChildren();
    const first = start + from * epoch, last = first + span * epoch;
    const step = steps.find(s => (last - first) / s <= 13) || 172800;
    for (let s = Math.ceil(first / step) * step; s <= last; s += step) {
      const x = left + (s - first) / (last - first) * width;
      hours.append(make("path", {d: `M${x} ${top}V${bottom + 4}`, style: "stroke:var(--line)"}),
        make("text", {x, y: bottom + 17, "text-anchor": "middle", "font-size": 11,
          style: "fill:var(--muted)"}, clock(s, step < 60)));
    }
    said.textContent = `${clock(first, false)} to ${clock(last, false)}`;
  }
  function show(f, s) {
    span = Math.max(least, Math.min(all, s));
    from = Math.max(0, Math.min(all - span, f));
    time.setAttribute("viewBox", `${from} 0 ${span} ${height}`);
    const whole = span === all;
    if (whole) { hours.innerHTML = original; said.textContent = "whole recording"; } else label();
    region.classList.toggle("zoomed", !whole);
    back.disabled = less.disabled = whole;
    earlier.disabled = from <= 0;
    later.disabled = from >= all - span;
    more.disabled = span <= least;
  }
  const zoom = (factor, at = 0.5) => show(from + span * at * (1 - factor), span * factor);
  const move = part => show(from + part * span, span);
  const place = e => {
    const part = night.getBoundingClientRect();
    const scale = part.width / night.viewBox.baseVal.width;
    return Math.max(0, Math.min(1, (e.clientX - part.left - left * scale) / (width * scale)));
  };
  const button = (text, name, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.title = name;
    made.setAttribute("aria-label", name);
    made.addEventListener("click", act);
    bar.append(made);
    return made;
  };
  const more = button("+", "Zoom in", () => zoom(0.5));
  const less = button("\u2212", "Zoom out", () => zoom(2));
  const earlier = button("\u2190", "Earlier", () => move(-0.25));
  const later = button("\u2192", "Later", () => move(0.25));
  const back = button("Whole recording", "Show the whole recording", () => show(0, all));
  bar.append(said);
  region.before(bar);

  const keys = {"+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2),
    ArrowLeft: () => move(-0.25), ArrowRight: () => move(0.25),
    0: () => show(0, all), Home: () => show(0, all)};
  region.addEventListener("keydown", e => {
    if (e.ctrlKey || e.metaKey || e.altKey || !keys[e.key]) return;
    if (e.key.startsWith("Arrow") && span === all) return;  // let a narrow page scroll
    e.preventDefault();
    keys[e.key]();
  });
  region.addEventListener("wheel", e => {  // without focus the page scrolls on, as it should
    if (!e.ctrlKey && !region.contains(document.activeElement)) return;
    e.preventDefault();
    zoom(e.deltaY < 0 ? 0.8 : 1.25, place(e));
  }, {passive: false});
  region.addEventListener("pointerdown", e => {
    region.focus({preventScroll: true});
    if (span < all && e.button === 0) grip = {x: place(e), from};
  });
  addEventListener("pointermove", e => {
    if (grip) show(grip.from + (grip.x - place(e)) * span, span);
  });
  addEventListener("pointerup", () => { grip = null; });
  addEventListener("pointercancel", () => { grip = null; });
  region.addEventListener("dblclick", e => zoom(0.5, place(e)));
  show(0, all);
}
