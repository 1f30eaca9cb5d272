// The exported files, CSV and BIDS events, and their way back: formats/review.py is the same table
// in Python, byte for byte.

const FACTS = ["lights_off", "lights_on", "scorer", "model", "recording", "sha256"];
const VERSION = "1", MISSING = "n/a";

const decimal = x => x.toFixed(6).replace(/0+$/, "").replace(/\.$/, "");

// A name fit for a cell: one line, no formula, of some length.
function plainName(text) {
  const line = text.normalize("NFC").replace(/[\s\u0000-\u001f\u007f-\u009f]+/g, " ")
    .replace(/"/g, "").replace(/^[=+\-@'\s]+/, "");
  return Array.from(line).slice(0, 80).join("").trim();
}

function clock(night, i) {
  if (night.beginMicros === null) return "";
  const day = 86400e6, passed = Math.round(i * night.epochSeconds * 1e6);
  const micros = night.dated ? night.beginMicros + passed : (night.beginMicros + passed) % day;
  const fraction = ((micros % 1e6) + 1e6) % 1e6, date = new Date((micros - fraction) / 1e3);
  const text = date.toISOString().slice(night.dated ? 0 : 11, 19);
  return fraction ? `${text}.${String(fraction).padStart(6, "0")}` : text;
}

function epochCells(review, i) {
  const night = review.night, p = night.names.map((_, k) => review.p(i, k));
  return {
    epoch: String(i), onset: decimal(night.onset + i * night.epochSeconds),
    duration: decimal(night.epochSeconds), time: clock(night, i),
    stage: review.word(review.stages[i]), hand: review.hand(i),
    artefact: String(review.artefact[i]), proposed: review.word(review.proposed[i]),
    p: p.map(value => (value === null ? "" : decimal(value))),
  };
}

function factCells(review) {
  const lights = review.lights.map(t => (t === null ? "" : decimal(t)));
  return [...lights, plainName(review.scorer), review.model, review.night.id, review.night.sha256,
    VERSION];
}

function csvText(review) {
  const names = review.night.names.map(n => `p_${n}`), facts = factCells(review);
  const rows = [["epoch", "onset", "duration", "time", "stage", "hand", "artefact", "proposed",
    ...names, ...FACTS, "review_version"]];
  for (let i = 0; i < review.stages.length; i++) {
    const c = epochCells(review, i);
    rows.push([c.epoch, c.onset, c.duration, c.time, c.stage, c.hand, c.artefact, c.proposed,
      ...c.p, ...facts]);
  }
  const cell = text => (/[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
  return rows.map(row => row.map(cell).join(",") + "\n").join("");
}

function bidsText(review) {
  const names = review.night.names.map(n => `p_${n}`), facts = factCells(review);
  const head = ["onset", "duration", "trial_type", "epoch", "time", "hand", "artefact", "proposed",
    ...names, ...FACTS, "review_version"];
  const rows = [];
  for (let i = 0; i < review.stages.length; i++) {
    const c = epochCells(review, i), word = c.stage === "unannotated" ? MISSING : c.stage;
    rows.push([c.onset, c.duration, word, c.epoch, c.time, c.hand, c.artefact, c.proposed, ...c.p,
      ...facts]);
  }
  const gap = Array(5 + names.length).fill(""), marks = ["lights off", "lights on"];
  review.lights.forEach((t, k) => {
    if (t !== null) rows.push([decimal(t), "0", marks[k], ...gap, ...facts]);
  });
  rows.sort((a, b) => a[0] - b[0] || !marks.includes(a[2]) - !marks.includes(b[2]));
  return [head, ...rows.map(row => row.map(cell => cell || MISSING))]
    .map(row => row.join("\t") + "\n").join("");
}

// --- the way back ---

function cellsOf(line, separator) {
  if (separator === "\t" || !line.includes('"')) return line.split(separator);
  return [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)]
    .map(m => (m[1] === undefined ? m[2] : m[1].replace(/""/g, '"')));
}

function tableOf(text) {
  const lines = text.replace(/^\uFEFF/, "").split(/\r?\n/).filter(line => line);
  const separator = (lines[0] || "").includes("\t") ? "\t" : ",";
  const head = cellsOf(lines[0] || "", separator);
  return lines.slice(1).map((line, number) => {
    const cells = cellsOf(line, separator);
    if (cells.length !== head.length) {
      throw new Error(`Line ${number + 2} has ${cells.length} cells, the header ${head.length}.`);
    }
    return Object.fromEntries(head.map((name, k) => [name, cells[k] === MISSING ? "" : cells[k]]));
  });
}

// Facts of a review as `Review.load` takes them; throws an Error that says why a file will not do.
function reviewIn(text, night) {
  const rows = tableOf(text), first = rows[0] || {};
  const lacking = ["epoch", "hand", "artefact", "proposed", ...FACTS, "review_version",
    ...night.names.map(n => `p_${n}`)].filter(name => !(name in first));
  if (lacking.length) throw new Error(`This is no export of a review: it lacks ${lacking[0]}.`);
  if (first.review_version !== VERSION) {
    throw new Error(`It has version ${first.review_version}; this page reads ${VERSION}.`);
  }
  if (rows.some(row => row.sha256 !== night.sha256)) {
    throw new Error(`These are edits of another night, ${first.recording}: the SHA-256 of its ` +
      `recording is ${first.sha256.slice(0, 12)}..., that of ${night.id} is ` +
      `${night.sha256.slice(0, 12)}....`);
  }
  const epochs = rows.filter(row => row.epoch !== "");
  if (epochs.length !== night.count) {
    throw new Error(`It has ${epochs.length} epochs, this night ${night.count}.`);
  }
  const words = new Map(night.names.map((n, k) => [n, k]));
  for (const [code, word] of Object.entries(REASON_WORDS)) words.set(word, +code);
  const stageOf = (word, i) => {
    if (!words.has(word || "unannotated")) throw new Error(`Epoch ${i + 1}: no stage "${word}".`);
    return words.get(word || "unannotated");
  };
  const stages = [], proposed = [], density = [];
  epochs.forEach((row, i) => {
    const due = night.onset + i * night.epochSeconds;
    if (row.epoch !== String(i) || Math.abs(row.onset - due) > 1e-4) {
      throw new Error(`Epoch ${i + 1} of this night begins at ${decimal(due)} s; the file has ` +
        `number ${row.epoch} at ${row.onset} s.`);
    }
    stages.push(stageOf("stage" in row ? row.stage : row.trial_type, i));
    proposed.push(stageOf(row.proposed, i));
    if (!["", "confirmed", "changed"].includes(row.hand) || !/^[01]$/.test(row.artefact) ||
        (row.hand === "changed") !== (stages[i] !== proposed[i])) {
      throw new Error(`Epoch ${i + 1}: hand "${row.hand}", artefact "${row.artefact}" cannot be.`);
    }
    for (const n of night.names) {
      const p = row[`p_${n}`];
      if (!(p === "" || (+p >= 0 && +p <= 1))) throw new Error(`Epoch ${i + 1}: p_${n} is "${p}".`);
      density.push(p === "" ? -1 : Math.round(p * 1e4));
    }
  });
  const light = t => (t === "" ? null : +t);
  const facts = {
    stages, proposed, density: density.some(p => p >= 0) ? density : [],
    touched: epochs.map(row => (row.hand ? 1 : 0)).join(""),
    artefact: epochs.map(row => row.artefact).join(""),
    lights: [light(first.lights_off), light(first.lights_on)],
    scorer: first.scorer, model: first.model,
  };
  if (facts.lights.some(Number.isNaN)) throw new Error("The time of the lights is no number.");
  return facts;
}
