// The page: what keys and buttons do, and what is shown of it.

const byId = id => document.getElementById(id);
const night = JSON.parse(byId("facts").textContent);
const review = new Review(night);
const channels = night.channels.map((facts, k) => new Channel(facts, byId(`signal-${k}`)));
const drawings = {signals: new Drawing(byId("signals")), night: new Drawing(byId("night"))};
const SPANS = [...new Set([0.25, 0.5, 1, 2, 3, 5, 10, 20, 60].map(n => n * night.epochSeconds))];
const view = {
  epoch: 0, from: 0, span: night.span, channels, chosen: -1, filtered: true, notch: 0,
  inverted: false, criterion: false, order: null, goOn: true, exported: true,
};

// --- moving ---

function place() {
  const begin = night.onset + view.epoch * night.epochSeconds;
  view.from = begin - Math.max(0, (view.span - night.epochSeconds) / 2);
}

function position() { return view.order ? view.order.indexOf(view.epoch) : view.epoch; }

function goTo(epoch, {say = true} = {}) {
  view.epoch = Math.max(0, Math.min(night.count - 1, epoch));
  place();
  show();
  if (say) tell(describe());
}

function move(steps) {
  const length = view.order ? view.order.length : night.count, at = position();
  const next = Math.max(0, Math.min(length - 1, (at < 0 ? 0 : at + steps)));
  if (next === at) tell(steps > 0 ? "This is the last epoch." : "This is the first epoch.");
  else goTo(view.order ? view.order[next] : next);
}

function goToUnreviewed() {
  const order = view.order || [...review.stages.keys()], at = position();
  const rest = [...order.slice(at + 1), ...order.slice(0, at + 1)];
  const next = rest.find(i => !review.touched[i]);
  if (next === undefined) tell("Every epoch has been reviewed."); else goTo(next);
}

function toggleOrder() {
  const order = review.doubtful();
  if (!view.order && !order.length) return tell("No probabilities are known, so that no epoch is more doubtful than another.");
  view.order = view.order ? null : order;
  if (view.order) goTo(view.order[0], {say: false}); else show();
  return tell(view.order ? `The least certain epochs first. ${describe()}` : `In order of time. ${describe()}`);
}

// --- editing ---

function edited(text, goesOn) {
  view.exported = false;
  autosave.later(review, view, showProgress);
  const last = position() >= (view.order || review.stages).length - 1;
  if (goesOn && view.goOn && !last) {
    move(1);
    tell(`${text}. ${describe()}`);
  } else {
    show();
    tell(`${text}.`);
  }
}

function setStage(stage) {
  review.setStage(view.epoch, stage);
  edited(`Epoch ${view.epoch + 1}: ${review.word(stage)}`, true);
}

function accept() {
  if (review.stages[view.epoch] === UNANNOTATED) return move(1);
  review.confirm(view.epoch);
  const at = position(), length = (view.order || review.stages).length;
  const text = `Epoch ${view.epoch + 1}: ${review.word(review.stages[view.epoch])} accepted`;
  view.exported = false;
  autosave.later(review, view, showProgress);
  if (at < length - 1) move(1); else show();
  return tell(at < length - 1 ? `${text}. ${describe()}` : `${text}; this is the last epoch.`);
}

function toggleArtefact() {
  review.toggleArtefact(view.epoch);
  edited(`Epoch ${view.epoch + 1} ${review.artefact[view.epoch] ? "is marked as artefact" : "is no artefact"}`);
}

function setLights(which) {
  const start = night.onset + view.epoch * night.epochSeconds;
  const before = review.lights[which], same = before !== null && Math.abs(before - start) < 1e-6;
  review.setLights(which, same ? null : start);
  edited(`Lights ${which ? "on" : "off"} ${same ? "unmarked" : `at ${timeText(night, start)}`}`);
}

function step(back) {
  const edit = back ? review.undo() : review.redo();
  if (!edit) return tell(back ? "There is nothing to undo." : "There is nothing to redo.");
  if (edit.after.epoch !== undefined) goTo(edit.after.epoch, {say: false});
  edited(`${back ? "Undone" : "Done again"}. ${describe()}`);
  return undefined;
}

// --- showing ---

function chosenChannels() { return view.chosen < 0 ? channels : [channels[view.chosen]]; }

function changeGain(steps) {
  chosenChannels().forEach(c => c.changeGain(steps));
  show();
  tell(chosenChannels().slice(0, 3).map(c => `${c.label} ${amount(c.gain)} ${c.unitText}`).join(", "));
}

function choose(steps) {
  const size = channels.length + 1;
  view.chosen = (view.chosen + 1 + steps + size) % size - 1;
  show();
  tell(view.chosen < 0 ? "All channels" : channels[view.chosen].label);
}

function changeSpan(steps) {
  const at = SPANS.findIndex(s => s >= view.span - 1e-6);
  view.span = SPANS[Math.max(0, Math.min(SPANS.length - 1, at + steps))];
  place();
  show();
  tell(`${amount(view.span)} seconds are shown.`);
}

function toggle(name, on, off) {
  view[name] = !view[name];
  show();
  tell(view[name] ? on : off);
}

function percent(p) { return `${Math.round(100 * p)} %`; }

function describe() {
  const i = view.epoch, proposed = review.proposed[i], p = proposed < 0 ? null : review.p(i, proposed);
  const begin = timeText(night, night.onset + i * night.epochSeconds);
  const texts = [`Epoch ${i + 1}, ${begin}: ${review.word(review.stages[i])}`];
  if (review.hand(i)) texts.push(review.hand(i));
  if (proposed !== UNANNOTATED) texts.push(`proposed ${review.word(proposed)}${p === null ? "" : ` at ${percent(p)}`}`);
  if (review.artefact[i]) texts.push("artefact");
  return texts.join(", ");
}

let frame = 0;
function show() {
  if (!frame) frame = requestAnimationFrame(draw);
}

function draw() {
  frame = 0;
  drawSignals(drawings.signals, view, review);
  drawOverview(drawings.night, view, review);
  showEpoch();
  showProgress();
}

function showEpoch() {
  const i = view.epoch, begin = timeText(night, night.onset + i * night.epochSeconds);
  const rank = view.order ? `, ${position() + 1}. of ${view.order.length} by doubt` : "";
  byId("epoch").textContent = `Epoch ${i + 1} of ${night.count}, ${begin}${rank}`;
  const stage = document.createElement("b");
  stage.textContent = review.word(review.stages[i]);
  byId("stage").replaceChildren(stage, ` ${review.hand(i) === "changed"
    ? `changed, was ${review.word(review.proposed[i])}` : review.hand(i) || "not reviewed"}`);
  byId("odds").hidden = !review.density.length;
  byId("odds").replaceChildren(...night.names.map((name, k) => oddsItem(name, review.p(i, k))));
  for (const button of document.querySelectorAll("[data-stage]")) {
    button.setAttribute("aria-pressed", String(+button.dataset.stage === review.stages[i]));
  }
  byId("artefact").setAttribute("aria-pressed", String(!!review.artefact[i]));
  byId("doubtful").setAttribute("aria-pressed", String(!!view.order));
  byId("undo").disabled = !review.done.length;
  const chosen = view.chosen < 0 ? "all channels" : channels[view.chosen].label;
  byId("view").textContent = [
    `${amount(view.span)} s`, view.filtered ? "filtered" : "as recorded",
    view.notch ? `${view.notch} Hz removed` : "", view.inverted ? "negative up" : "",
    view.criterion ? "\u00b137.5 \u00b5V lines" : "", view.goOn ? "" : "stays after a stage",
    `keys change ${chosen}`, "H: all keys",
  ].filter(Boolean).join(" \u00b7 ");
}

function oddsItem(name, p) {
  const item = document.createElement("li"), bar = document.createElement("i");
  item.append(p === null ? `${name} \u2013` : `${name} ${p.toFixed(2)}`, bar);
  bar.style.setProperty("--share", `${100 * (p || 0)}%`);
  bar.style.setProperty("--colour", `var(--stage-${name})`);
  return item;
}

function showProgress() {
  const touched = review.touched.reduce((a, b) => a + b, 0), changed = review.count("changed");
  const saved = !autosave.works ? "NOT kept by this browser: export before you close"
    : autosave.savedAt ? `kept in this browser at ${autosave.savedAt.toTimeString().slice(0, 5)}` : "";
  const out = view.exported || !touched ? "" : "not exported yet";
  byId("progress").textContent = [`${touched} of ${night.count} reviewed, ${changed} changed`, saved, out]
    .filter(Boolean).join("; ");
}

function tell(text) { byId("said").textContent = text; }

function notice(text, label, act) {
  const box = byId("notice");
  box.hidden = !text;
  box.replaceChildren(text);
  for (const [words, run] of label ? [[label, act], ["Close", () => {}]] : [["Close", () => {}]]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = words;
    button.addEventListener("click", () => { box.hidden = true; run(); show(); byId("signals").focus(); });
    box.append(button);
  }
}

// --- files ---

function download(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10e3);
}

function needScorer() {
  if (plainName(review.scorer)) return true;
  byId("scorer").focus();
  tell("Write your name, or letters that stand for it, then export again.");
  notice("The file says who scored: write your name, or letters that stand for it, into \u201cScorer\u201d, then export again.");
  return false;
}

function exported(text) {
  view.exported = true;
  autosave.now(review, view);
  byId("notice").hidden = true;
  show();
  tell(text);
}

function exportCsv() {
  if (!needScorer()) return;
  download(`${night.id}-review.csv`, csvText(review), "text/csv");
  exported(`Exported as ${night.id}-review.csv`);
}

function exportBids() {
  if (!needScorer()) return;
  download(`${night.bidsName}_events.tsv`, bidsText(review), "text/tab-separated-values");
  download(`${night.bidsName}_events.json`, night.sidecar, "application/json");
  exported(`Exported as ${night.bidsName}_events.tsv and .json`);
}

async function importFile(file) {
  try {
    const facts = reviewIn(await file.text(), night);
    review.replace(facts, view.epoch);
    byId("scorer").value = review.scorer;
    edited(`${file.name} is loaded`);
    notice(`${file.name} is loaded; undo takes it back.`);
  } catch (error) {
    notice(`${file.name} was not loaded. ${error.message}`);
  }
}

// --- keys ---

const stageKeys = night.names.map((name, k) => ({
  keys: [{N1: "1", N2: "2", N3: "3"}[name] || name[0].toLowerCase()], does: `stage ${name}`,
  act: () => setStage(k),
}));
const COMMANDS = [
  ...stageKeys,
  {keys: ["?"], does: "no stage: cannot be told", act: () => setStage(UNKNOWN)},
  {keys: ["m"], does: "no stage: movement", act: () => setStage(MOVEMENT)},
  {keys: [" "], does: "accept the stage and go on", act: accept},
  {keys: ["ArrowRight"], does: "next epoch", act: () => move(1)},
  {keys: ["ArrowLeft"], does: "previous epoch", act: () => move(-1)},
  {keys: ["PageDown"], does: "ten epochs on", act: () => move(10)},
  {keys: ["PageUp"], does: "ten epochs back", act: () => move(-10)},
  {keys: ["Home"], does: "first epoch", act: () => move(-night.count)},
  {keys: ["End"], does: "last epoch", act: () => move(night.count)},
  {keys: ["j"], does: "next epoch not yet reviewed", act: goToUnreviewed},
  {keys: ["d"], does: "doubtful epochs first, or in order of time", act: toggleOrder},
  {keys: ["u", "Ctrl+z"], does: "undo", act: () => step(true)},
  {keys: ["Shift+u", "Ctrl+y", "Ctrl+Shift+z"], does: "redo", act: () => step(false)},
  {keys: ["a"], does: "mark as artefact, or no longer", act: toggleArtefact},
  {keys: ["o"], does: "lights off at the start of this epoch", act: () => setLights(0)},
  {keys: ["l"], does: "lights on at the start of this epoch", act: () => setLights(1)},
  {keys: ["g"], does: "go on after a stage, or stay", act: () => toggle("goOn", "Goes on after a stage.", "Stays after a stage.")},
  {keys: ["ArrowUp"], does: "choose the channel above (or all)", act: () => choose(-1)},
  {keys: ["ArrowDown"], does: "choose the channel below (or all)", act: () => choose(1)},
  {keys: ["+", "="], does: "larger waves", act: () => changeGain(1)},
  {keys: ["-"], does: "smaller waves", act: () => changeGain(-1)},
  {keys: ["f"], does: "filters on or off", act: () => toggle("filtered", "Filtered.", "As recorded.")},
  {keys: ["k"], does: "remove mains hum: 50 Hz, 60 Hz, none", act: () => {
    view.notch = {0: 50, 50: 60, 60: 0}[view.notch];
    show();
    tell(view.notch ? `${view.notch} Hz removed.` : "Mains hum as recorded.");
  }},
  {keys: ["i"], does: "negative up in EEG and EOG", act: () => toggle("inverted", "Negative up.", "Positive up.")},
  {keys: ["v"], does: "lines 75 \u00b5V apart, for slow waves", act: () => toggle("criterion", "Lines 75 microvolts apart.", "No lines.")},
  {keys: ["]"], does: "show a longer stretch", act: () => changeSpan(1)},
  {keys: ["["], does: "show a shorter stretch", act: () => changeSpan(-1)},
  {keys: ["e"], does: "export as CSV", act: exportCsv},
  {keys: ["b"], does: "export as BIDS events", act: exportBids},
  {keys: ["p"], does: "go on with an exported file", act: () => byId("file").click()},
  {keys: ["h"], does: "this help", act: () => byId("help").showModal()},
];
const byKey = new Map(COMMANDS.flatMap(c => c.keys.map(key => [key, c.act])));

function keyName(event) {
  const letter = /^[a-z]$/i.test(event.key), key = letter ? event.key.toLowerCase() : event.key;
  const shift = event.shiftKey && letter;
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${shift ? "Shift+" : ""}${key}`;
}

function pressed(event) {
  const target = event.target, typing = target.matches("input, textarea, select");
  if (event.altKey || byId("help").open || (typing && event.key !== "Escape")) return;
  if (event.key === "Escape") return void byId("signals").focus();
  if ((event.key === " " || event.key === "Enter") && target.matches("button, summary")) return;
  const act = byKey.get(keyName(event));
  if (!act) return;
  event.preventDefault();
  act();
}

const SHOWN_KEYS = {" ": "Space", ArrowRight: "\u2192", ArrowLeft: "\u2190", ArrowUp: "\u2191", ArrowDown: "\u2193", PageUp: "Page up", PageDown: "Page down"};

function listKeys() {
  byId("help").querySelector("dl").replaceChildren(...COMMANDS.map(({keys, does}) => {
    const row = document.createElement("div"), term = document.createElement("dt"), text = document.createElement("dd");
    keys.forEach((key, k) => {
      const cap = document.createElement("kbd");
      cap.textContent = SHOWN_KEYS[key] || key.replace(/(^|\+)[a-z]$/, c => c.toUpperCase());
      term.append(k ? " " : "", cap);
    });
    text.textContent = does;
    row.append(term, text);
    return row;
  }));
}

// --- beginning ---

function clicked(event, act) {
  if (event.detail) byId("signals").focus();  // by the mouse: the next space accepts, and presses nothing
  act();
}

function listen() {
  document.addEventListener("keydown", pressed);
  for (const button of document.querySelectorAll("[data-key]")) {
    button.addEventListener("click", event => clicked(event, byKey.get(button.dataset.key)));
  }
  for (const button of document.querySelectorAll("[data-stage]")) {
    button.addEventListener("click", event => clicked(event, () => setStage(+button.dataset.stage)));
  }
  byId("import").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", event => {
    const [file] = event.target.files;
    if (file) importFile(file).then(() => { event.target.value = ""; });
  });
  byId("scorer").addEventListener("input", event => {
    review.scorer = plainName(event.target.value);
    view.exported = false;
    autosave.later(review, view, showProgress);
  });
  byId("scorer").addEventListener("keydown", event => {
    if (event.key === "Enter") byId("signals").focus();
  });
  byId("night").addEventListener("pointerdown", event => {
    goTo(epochAt(drawings.night, event.offsetX, night));
    byId("signals").focus();
  });
  new ResizeObserver(show).observe(byId("signals"));
  for (const query of ["(prefers-color-scheme: dark)", "(prefers-contrast: more)"]) {
    matchMedia(query).addEventListener("change", show);
  }
  addEventListener("pagehide", () => { if (review.done.length) autosave.now(review, view); });
  addEventListener("beforeunload", event => {
    if (!autosave.works && !view.exported) event.preventDefault();
  });
  addEventListener("storage", event => {
    if (event.key === autosave.key) notice("This night is being edited in another tab as well: whichever is edited last is kept.");
  });
}

function showKept(kept) {
  byId("scorer").value = review.scorer;
  goTo(Number.isInteger(kept.epoch) ? kept.epoch : 0);
}

function continueKept() {
  autosave.begin(night);
  const kept = autosave.read(night), facts = kept && keptFacts(kept, night);
  if (!facts) return;
  const date = String(kept.saved).slice(0, 16).replace("T", " ");
  if (kept.page === night.fingerprint) {
    review.load(facts);
    showKept(kept);
    notice(`Goes on with the edits that this browser kept at ${date} (UTC).`, "Start over", () => {
      review.replace(night, view.epoch);
      edited("Started over; undo takes it back");
    });
  } else {
    notice(`This browser has edits of this night from ${date} (UTC), made on another page of it.`, "Load them", () => {
      review.replace(facts, view.epoch);
      showKept(kept);
      edited("Loaded; undo takes it back");
    });
  }
}

async function begin() {
  byId("scorer").value = review.scorer;
  listKeys();
  listen();
  continueKept();
  goTo(view.epoch);
  byId("signals").focus({preventScroll: true});
  try {
    await Promise.all(channels.map(channel => channel.load().then(show)));
  } catch (error) {
    notice(`The signals of this page cannot be read: ${error.message}. A browser of 2023 or later opens it; is the file whole?`);
  }
  performance.mark("opened");
  document.documentElement.dataset.state = "open";
}

begin();
