// The two drawings: the signals of a stretch of time, and the overview of the night.

const STAGE_ROWS = {W: 0, Wake: 0, REM: 1, N1: 2, NREM: 2, N2: 3, N3: 4};
const OFF_RED = 37.5;  // uV: half of the 75 uV from peak to peak of a slow wave (AASM)

class Drawing {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  // Fits the canvas to its place on the page; everything after is in CSS pixels.
  begin() {
    const scale = devicePixelRatio || 1;
    [this.width, this.height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const pixels = [Math.round(this.width * scale), Math.round(this.height * scale)];
    if (this.canvas.width !== pixels[0]) this.canvas.width = pixels[0];
    if (this.canvas.height !== pixels[1]) this.canvas.height = pixels[1];
    this.context.setTransform(scale, 0, 0, scale, 0, 0);
    this.context.clearRect(0, 0, this.width, this.height);
    this.style = getComputedStyle(document.body);
  }

  colour(name) { return this.style.getPropertyValue(`--${name}`).trim(); }

  stageColour(word) { return this.colour(`stage-${word}`) || this.colour("stage-none"); }

  rect(x, y, w, h, colour) {
    this.context.fillStyle = colour;
    this.context.fillRect(x, y, w, h);
  }

  line(x0, y0, x1, y1, colour, width = 1, dash = []) {
    const c = this.context;
    c.beginPath();
    c.setLineDash(dash);
    c.moveTo(x0, y0);
    c.lineTo(x1, y1);
    c.strokeStyle = colour;
    c.lineWidth = width;
    c.stroke();
    c.setLineDash([]);
  }

  text(text, x, y, {colour = "ink", size = 11, align = "left", bold = false, most} = {}) {
    const c = this.context;
    c.font = `${bold ? "600 " : ""}${size}px ${this.style.fontFamily || "sans-serif"}`;
    c.fillStyle = this.colour(colour);
    c.textAlign = align;
    c.fillText(most ? fitted(c, text, most) : text, x, y);
  }
}

function fitted(context, text, most) {
  if (context.measureText(text).width <= most) return text;
  let size = text.length;
  while (size > 1 && context.measureText(`${text.slice(0, size)}\u2026`).width > most) size--;
  return `${text.slice(0, size)}\u2026`;
}

// --- signals ---

// Draws the channels from `from` for `span` seconds; `view` says what is shown and how.
function drawSignals(d, view, review) {
  d.begin();
  const left = d.width < 600 ? 66 : 124, bottom = 18, night = review.night;
  const frame = {left, top: 4, right: d.width - 6, bottom: d.height - bottom};
  const x = t => frame.left + (t - view.from) / view.span * (frame.right - frame.left);
  shadeEpochs(d, frame, x, view, review);
  timeGrid(d, frame, x, view, night);
  const lane = (frame.bottom - frame.top) / Math.max(1, view.channels.length);
  view.channels.forEach((channel, k) => {
    const middle = frame.top + (k + 0.5) * lane;
    channelAxis(d, frame, middle, lane, channel, view, k === view.chosen);
    if (channel.codes) trace(d, frame, middle, lane, channel, view);
    else d.text("loading\u2026", frame.left + 8, middle, {colour: "muted"});
  });
  epochBorders(d, frame, x, view, review);
}

function shadeEpochs(d, frame, x, view, review) {
  const {night} = review, height = frame.bottom - frame.top;
  const first = Math.max(0, Math.floor((view.from - night.onset) / night.epochSeconds));
  for (let i = first; i < night.count; i++) {
    const start = night.onset + i * night.epochSeconds;
    if (start >= view.from + view.span) break;
    const [a, b] = [x(start), x(start + night.epochSeconds)].map(
      v => Math.min(frame.right, Math.max(frame.left, v)));
    if (i === view.epoch && view.span > night.epochSeconds * 1.01) {
      d.rect(a, frame.top, b - a, height, d.colour("tint"));
    }
    if (review.artefact[i]) hatch(d, a, frame.top, b - a, height);
  }
}

function hatch(d, left, top, width, height) {
  const c = d.context;
  c.save();
  c.beginPath();
  c.rect(left, top, width, height);
  c.clip();
  c.globalAlpha = 0.28;
  for (let s = left - height; s < left + width; s += 14) {
    d.line(s, top + height, s + height, top, d.colour("warn-line"), 2);
  }
  c.restore();
}

function timeGrid(d, frame, x, view, night) {
  const steps = [1, 5, 10, 30, 60, 300], step = steps.find(s => view.span / s <= 60) || 600;
  const labelled = [...steps, 600, 1800].find(s => view.span / s <= (frame.right < 600 ? 4 : 12));
  for (let t = Math.ceil(view.from / step) * step; t <= view.from + view.span; t += step) {
    const major = t % (step * 5) === 0;
    d.line(x(t), frame.top, x(t), frame.bottom, d.colour(major ? "second" : "line"));
  }
  for (let t = Math.ceil(view.from / labelled) * labelled; t < view.from + view.span;
    t += labelled) {
    d.text(timeText(night, t), x(t), d.height - 5, {colour: "muted", align: "center"});
  }
}

function channelAxis(d, frame, middle, lane, channel, view, chosen) {
  const half = lane / 2, size = d.width < 600 ? 10 : 12, most = frame.left - 22;
  if (chosen) d.rect(0, middle - half + 1, 4, lane - 2, d.colour("accent"));
  d.line(frame.left, middle, frame.right, middle, d.colour("line"));
  d.text(channel.label, 8, middle - 2, {size, bold: true, most, colour: channel.colour});
  const gain = `${amount(channel.gain)} ${channel.unitText}`;
  d.text(gain, 8, middle + size, {size: size - 1, colour: "muted", most});
  if (lane > 62 && d.width >= 600) {
    d.text(channel.filterText(view), 8, middle + 2 * size + 1, {size: 10, colour: "muted", most});
  }
  const bar = half / 2;  // half the gain above the middle, half below
  const at = frame.left - 7, ink = d.colour("muted");
  d.line(at, middle - bar, at, middle + bar, ink, 1.2);
  for (const y of [-bar, 0, bar]) d.line(at - (y ? 3 : 2), middle + y, at + 3, middle + y, ink, 1.2);
  if (view.criterion && channel.modality === "eeg" && channel.unit === "uV") {
    for (const sign of [-1, 1]) {
      const y = middle + sign * OFF_RED / channel.gain * half;
      d.line(frame.left, y, frame.right, y, d.colour("warn-line"), 1, [4, 4]);
    }
  }
}

function trace(d, frame, middle, lane, channel, view) {
  const {rate} = channel, scale = lane / 2 / channel.gain * (view.inverted && channel.isEeg ? 1 : -1);
  const first = Math.floor(view.from * rate), last = Math.ceil((view.from + view.span) * rate) + 1;
  const y = channel.shown(first, last, view), centre = channel.centre(y, view);
  const width = frame.right - frame.left, perPixel = (last - first) / width;
  const place = i => frame.left + ((first + i) / rate - view.from) / view.span * width;
  const c = d.context;
  c.save();
  c.beginPath();
  const top = Math.max(frame.top, middle - lane), bottom = Math.min(frame.bottom, middle + lane);
  c.rect(frame.left, top, width, bottom - top);  // half of each neighbour's lane, and no more
  c.clip();
  c.beginPath();
  c.strokeStyle = d.colour(channel.colour);
  c.lineWidth = 1;
  c.lineJoin = "round";
  if (perPixel > 6) envelope(c, y, place, v => middle + (v - centre) * scale);
  else {
    let down = false;
    for (let i = 0; i < y.length; i++) {
      if (Number.isNaN(y[i])) { down = false; continue; }
      const v = middle + (y[i] - centre) * scale;
      if (down) c.lineTo(place(i), v); else c.moveTo(place(i), v);
      down = true;
    }
  }
  c.stroke();
  c.restore();
}

// Smallest and largest value of every pixel: many samples look the same, in a tenth of the time.
function envelope(c, y, place, height) {
  let column = NaN, low = Infinity, high = -Infinity;
  const flush = () => {
    if (low > high) return;
    c.moveTo(column, height(low));
    c.lineTo(column, height(high) + 0.5);
  };
  for (let i = 0; i < y.length; i++) {
    const x = Math.round(place(i)) + 0.5;
    if (x !== column) {
      flush();
      [column, low, high] = [x, Infinity, -Infinity];
    }
    if (y[i] < low) low = y[i];
    if (y[i] > high) high = y[i];
  }
  flush();
}

function epochBorders(d, frame, x, view, review) {
  const {night} = review;
  if (view.span > night.epochSeconds * 1.01) {
    const first = Math.max(0, Math.floor((view.from - night.onset) / night.epochSeconds));
    for (let i = first; i <= night.count; i++) {
      const t = night.onset + i * night.epochSeconds;
      if (t > view.from + view.span) break;
      if (t < view.from - night.epochSeconds) continue;
      const here = i === view.epoch || i - 1 === view.epoch;
      if (t >= view.from) {
        d.line(x(t), frame.top, x(t), frame.bottom, d.colour(here ? "accent" : "second"), here ? 2 : 1);
      }
      const wide = (frame.right - frame.left) * night.epochSeconds / view.span > 26;
      if (i < night.count && wide) {
        const at = Math.min(frame.right - 14, Math.max(frame.left + 16,
          x(t + night.epochSeconds / 2)));
        d.text(shortWord(review, i), at, frame.top + 12, {align: "center", bold: true});
      }
    }
  }
  review.lights.forEach((t, k) => {
    if (t === null || t < view.from || t > view.from + view.span) return;
    d.line(x(t), frame.top, x(t), frame.bottom, d.colour("accent"), 2, [6, 3]);
    const end = x(t) > frame.right - 70;
    d.text(k ? "lights on" : "lights off", x(t) + (end ? -4 : 4), frame.bottom - 5,
      {colour: "accent", align: end ? "right" : "left"});
  });
}

const shortWord = (review, i) => (review.stages[i] >= 0 ? review.word(review.stages[i])
  : {[UNKNOWN]: "?", [MOVEMENT]: "M", [UNANNOTATED]: "\u2013"}[review.stages[i]]);

const amount = x => (x >= 100 ? x.toFixed(0) : String(+x.toPrecision(3)));

function timeText(night, seconds, fine = true) {
  let total = Math.round(seconds);
  if (night.beginMicros !== null) {
    total = Math.round(night.beginMicros / 1e6 + seconds - night.onset);
    total = ((total % 86400) + 86400) % 86400;
  }
  const two = v => String(v).padStart(2, "0");
  const text = `${two(Math.floor(total / 3600))}:${two(Math.floor(total / 60) % 60)}`;
  return fine ? `${text}:${two(total % 60)}` : text;
}

// --- overview ---

function overviewFrame(d) {
  return {left: d.width < 600 ? 38 : 124, right: d.width - 6, top: 6, bottom: d.height - 16};
}

function drawOverview(d, view, review) {
  d.begin();
  const {night} = review, frame = overviewFrame(d), words = night.names;
  const lines = [...new Set(words.map(w => STAGE_ROWS[w]))].sort();
  const share = review.density.length ? 0.6 : 0.9, strip = 5;
  const curve = Math.round((frame.bottom - frame.top) * share);
  const density = {top: frame.top + curve + 4, bottom: frame.bottom - strip - 2};
  const row = w => frame.top + (lines.indexOf(STAGE_ROWS[w]) + 0.5) * curve / lines.length;
  for (const w of words) {
    d.line(frame.left, row(w), frame.right, row(w), d.colour("line"));
    d.text(w, frame.left - 6, row(w) + 4, {align: "right", colour: "muted"});
  }
  const width = frame.right - frame.left, size = width / night.count;
  for (let px = 0; px < width; px++) {
    const i = Math.min(night.count - 1, Math.floor((px + 0.5) / size));
    densityColumn(d, review, i, frame.left + px, density);
    if (review.touched[i]) d.rect(frame.left + px, frame.bottom - strip, 1, strip, d.colour("done"));
  }
  stageCurve(d, review, frame, size, row, review.proposed, d.colour("second"), 1);
  stageCurve(d, review, frame, size, row, review.stages, d.colour("ink"), 1.5);
  if (d.width >= 600) d.text("reviewed", frame.left - 6, frame.bottom, {align: "right", size: 10, colour: "muted"});
  marksOf(d, review, frame, size, curve);
  hours(d, night, frame);
  const here = frame.left + (view.epoch + 0.5) * size;
  d.line(here, frame.top, here, frame.bottom, d.colour("accent"), 2);
  const c = d.context;
  c.beginPath();
  c.moveTo(here - 6, 0);
  c.lineTo(here + 6, 0);
  c.lineTo(here, 8);
  c.fillStyle = d.colour("accent");
  c.fill();
}

function densityColumn(d, review, i, x, {top, bottom}) {
  const names = review.night.names;
  let y = bottom;
  for (let k = names.length - 1; k >= 0; k--) {
    const p = review.p(i, k);
    if (p === null) return;
    d.rect(x, y - p * (bottom - top), 1, p * (bottom - top) + 0.5, d.stageColour(names[k]));
    y -= p * (bottom - top);
  }
}

function stageCurve(d, review, frame, size, row, stages, colour, width) {
  const c = d.context;
  c.beginPath();
  let down = false;
  stages.forEach((stage, i) => {
    if (stage < 0) { down = false; return; }
    const y = row(review.night.names[stage]), x = frame.left + i * size;
    if (down) c.lineTo(x, y); else c.moveTo(x, y);
    c.lineTo(x + size, y);
    down = true;
  });
  c.strokeStyle = colour;
  c.lineWidth = width;
  c.stroke();
  if (width > 1) {
    stages.forEach((stage, i) => {
      if (stage < 0 || review.night.names[stage] !== "REM") return;
      d.rect(frame.left + i * size, row("REM") - 2, Math.max(size, 1), 4, d.stageColour("REM"));
    });
  }
}

function marksOf(d, review, frame, size, curve) {
  review.artefact.forEach((flag, i) => {
    if (flag) d.rect(frame.left + i * size, frame.top, Math.max(2, size), 4, d.colour("warn-line"));
  });
  review.lights.forEach((t, k) => {
    if (t === null) return;
    const x = frame.left + (t - review.night.onset) / review.night.epochSeconds * size;
    d.line(x, frame.top, x, frame.top + curve, d.colour("accent"), 1.5, [4, 3]);
    const right = k === 1 ? x < frame.right - 20 : x < frame.left + 24;
    d.text(k ? "on" : "off", x + (right ? 3 : -3), frame.top + curve - 2,
      {size: 10, colour: "accent", align: right ? "left" : "right"});
  });
}

function hours(d, night, frame) {
  const seconds = night.count * night.epochSeconds, wide = frame.right - frame.left;
  const step = [300, 900, 1800, 3600, 7200, 14400, 28800].find(s => seconds / s * 48 < wide) || 86400;
  const origin = night.beginMicros === null ? night.onset
    : ((night.beginMicros / 1e6) % 86400 + 86400) % 86400;
  for (let t = Math.ceil(origin / step) * step; t < origin + seconds; t += step) {
    const x = frame.left + (t - origin) / seconds * wide;
    d.line(x, frame.bottom, x, frame.bottom + 4, d.colour("second"));
    const at = night.onset + t - origin;
    if (x > frame.left + 14 && x < frame.right - 14) {
      d.text(timeText(night, at, false), x, d.height - 3, {size: 10, align: "center", colour: "muted"});
    }
  }
}

function epochAt(d, x, night) {
  const frame = overviewFrame(d);
  const i = Math.floor((x - frame.left) / (frame.right - frame.left) * night.count);
  return Math.max(0, Math.min(night.count - 1, i));
}
