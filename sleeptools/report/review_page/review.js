// What the scorer has done so far: a stage, a hand and an artefact mark for each epoch, and the
// lights. A stage is its number in `names`, or minus the number of the reason why there is none.

const UNKNOWN = -1, MOVEMENT = -2, UNANNOTATED = -3;
const REASON_WORDS = {[UNKNOWN]: "unknown", [MOVEMENT]: "movement", [UNANNOTATED]: "unannotated"};

class Review {
  constructor(night) {
    this.night = night;
    this.done = [];
    this.undone = [];
    this.load(night);
  }

  load(facts) {
    const flags = text => Uint8Array.from(text, c => +c);
    this.stages = Int8Array.from(facts.stages);
    this.proposed = Int8Array.from(facts.proposed);
    this.density = facts.density;
    this.touched = flags(facts.touched);
    this.artefact = flags(facts.artefact);
    this.lights = [...facts.lights];
    this.scorer = facts.scorer;
    this.model = facts.model;
  }

  facts() {
    return {
      stages: [...this.stages], proposed: [...this.proposed], density: this.density,
      touched: this.touched.join(""), artefact: this.artefact.join(""),
      lights: [...this.lights], scorer: this.scorer, model: this.model,
    };
  }

  word(stage) { return stage >= 0 ? this.night.names[stage] : REASON_WORDS[stage]; }

  hand(i) {
    return !this.touched[i] ? "" : this.stages[i] !== this.proposed[i] ? "changed" : "confirmed";
  }

  count(hand) {
    let total = 0;
    for (let i = 0; i < this.stages.length; i++) total += this.hand(i) === hand;
    return total;
  }

  // Probability of a stage in an epoch, as it is exported; null where there is none.
  p(i, stage) {
    const value = this.density.length ? this.density[i * this.night.names.length + stage] : -1;
    return value < 0 ? null : value / 1e4;
  }

  // Distance of the two likeliest stages; null where there are no probabilities.
  margin(i) {
    const p = this.night.names.map((_, k) => this.p(i, k));
    if (p.includes(null)) return null;
    p.sort((a, b) => b - a);
    return p[0] - p[1];
  }

  // Epochs, the least certain first; those without probabilities are not among them.
  doubtful() {
    const margins = [...this.stages.keys()].map(i => [this.margin(i), i]);
    return margins.filter(([m]) => m !== null).sort((a, b) => a[0] - b[0] || a[1] - b[1])
      .map(([, i]) => i);
  }

  // --- edits, each of which can be undone ---
  setStage(i, stage) {
    return this.apply({epoch: i, stage, touched: 1, artefact: this.artefact[i]});
  }

  confirm(i) {  // an epoch that nobody has scored cannot be agreed with
    return this.stages[i] !== UNANNOTATED && !this.touched[i] && this.setStage(i, this.stages[i]);
  }

  toggleArtefact(i) {
    return this.apply({
      epoch: i, stage: this.stages[i], touched: this.touched[i], artefact: 1 - this.artefact[i],
    });
  }

  setLights(which, seconds) {
    const lights = [...this.lights];
    lights[which] = seconds;
    return this.apply({lights});
  }

  replace(facts, epoch) { return this.apply({facts, at: epoch}); }

  apply(edit) {
    const before = this.state(edit);
    if (JSON.stringify(before) === JSON.stringify(edit)) return false;
    this.done.push({before, after: edit});
    this.undone = [];
    this.put(edit);
    return true;
  }

  state(edit) {
    if (edit.facts) return {facts: this.facts(), at: edit.at};
    if (edit.lights) return {lights: [...this.lights]};
    const i = edit.epoch;
    return {
      epoch: i, stage: this.stages[i], touched: this.touched[i], artefact: this.artefact[i],
    };
  }

  put(edit) {
    if (edit.facts) return this.load(edit.facts);
    if (edit.lights) { this.lights = [...edit.lights]; return; }
    this.stages[edit.epoch] = edit.stage;
    this.touched[edit.epoch] = edit.touched;
    this.artefact[edit.epoch] = edit.artefact;
  }

  // Both return the edit, so that the page can go where it was; undefined if there is none.
  undo() {
    const edit = this.done.pop();
    if (edit) { this.put(edit.before); this.undone.push(edit); }
    return edit;
  }

  redo() {
    const edit = this.undone.pop();
    if (edit) { this.put(edit.after); this.done.push(edit); }
    return edit;
  }
}
