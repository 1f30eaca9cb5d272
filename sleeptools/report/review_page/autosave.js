// Edits kept in the browser, under the recording's id and SHA-256 and the page's fingerprint: another
// page of the night, with other proposals, neither takes them over by itself nor writes over them.

const autosave = {
  key: "", works: true, timer: 0, savedAt: null,

  begin(night) {
    this.night = `sleeptools-review ${night.id} ${night.sha256}`;
    this.key = `${this.night} ${night.fingerprint}`;
  },

  // What this page has kept; else the latest that another page of the night has and that fits.
  read(night) {
    try {
      const own = keptUnder(this.key, night);
      if (own) return own;
      const others = Object.keys(localStorage).filter(key => key.startsWith(this.night));
      return others.map(key => keptUnder(key, night)).filter(kept => kept)
        .sort((a, b) => (a.saved < b.saved ? 1 : -1))[0] || null;
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
    const kept = {
      page: review.night.fingerprint, grid: gridOf(review.night), saved: new Date().toISOString(),
      epoch: view.epoch, facts,
    };
    try {
      localStorage.setItem(this.key, JSON.stringify(kept));
      [this.works, this.savedAt] = [true, new Date()];
    } catch {
      this.works = false;  // storage is full or forbidden; the page says so
    }
  },
};

// Stages and epochs of a night; edits of another grid are not these.
const gridOf = night => [night.names.join(" "), night.epochSeconds, night.onset].join(" ");

function keptUnder(key, night) {
  try {
    const kept = JSON.parse(localStorage.getItem(key) || "null");
    const readable = kept && Array.isArray(kept.facts && kept.facts.stages);
    const fits = readable && (kept.grid === undefined || kept.grid === gridOf(night));
    return fits && keptFacts(kept, night) ? kept : null;
  } catch {
    return null;
  }
}

function keptFacts(kept, night) {
  // Probabilities that were not kept are those of the page that kept the rest, and of no other.
  const density = kept.page === night.fingerprint ? night.density : [];
  const facts = {density, ...kept.facts}, n = night.count;
  const fits = facts.stages.length === n && facts.proposed.length === n &&
    facts.touched.length === n && facts.artefact.length === n &&
    facts.stages.every(s => Number.isInteger(s) && s >= UNANNOTATED && s < night.names.length);
  return fits ? facts : null;
}
