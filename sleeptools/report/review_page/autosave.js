// Edits kept in the browser, under the recording's id and SHA-256; another page of the night, with
// other proposals, does not take them over by itself.

const autosave = {
  key: "", works: true, timer: 0, savedAt: null,

  begin(night) { this.key = `sleeptools-review ${night.id} ${night.sha256}`; },

  read() {
    try {
      const kept = JSON.parse(localStorage.getItem(this.key) || "null");
      return kept && Array.isArray(kept.facts && kept.facts.stages) ? kept : null;
    } catch {
      return null;
    }
  },

  // Soon, so that a row of keys is written once.
  later(review, view, done) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => { this.now(review, view); done(); }, 250);
  },

  now(review, view) {
    clearTimeout(this.timer);
    const facts = review.facts();
    if (review.density === review.night.density) delete facts.density;  // the page has it
    const kept = {page: review.night.fingerprint, saved: new Date().toISOString(), epoch: view.epoch, facts};
    try {
      localStorage.setItem(this.key, JSON.stringify(kept));
      [this.works, this.savedAt] = [true, new Date()];
    } catch {
      this.works = false;  // storage is full or forbidden; the page says so
    }
  },
};

function keptFacts(kept, night) {
  const facts = {density: night.density, ...kept.facts}, n = night.count;
  const fits = facts.stages.length === n && facts.proposed.length === n &&
    facts.touched.length === n && facts.artefact.length === n &&
    facts.stages.every(s => Number.isInteger(s) && s >= UNANNOTATED && s < night.names.length);
  return fits ? facts : null;
}
