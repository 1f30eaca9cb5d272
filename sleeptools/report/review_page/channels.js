// A channel as it is shown: its gain, its filter, and the samples of the last stretches filtered.

const GAINS = [];
for (let ten = -4; ten < 6; ten++) for (const x of [1, 1.5, 2, 3, 5, 7.5]) GAINS.push(x * 10 ** ten);
const SETTLING = 8;  // s beyond the stretch shown, in which a filter forgets where it began
const REMEMBERED = 6;  // stretches

class Channel extends NightSignal {
  constructor(facts, element) {
    super(facts, element);
    this.gain = facts.gain;
    this.isEeg = this.modality === "eeg" || this.modality === "eog";
    this.unitText = this.unit === "uV" ? "\u00b5V" : this.unit;
    this.colour = ["eeg", "eog", "emg", "ecg"].includes(this.modality) ? this.modality : "other";
    this.remembered = new Map();
  }

  filterText(view) {
    const hum = view.notch && this.unit === "uV" && view.notch < this.rate / 2 ? `, no ${view.notch}` : "";
    if (!this.band || !view.filtered) return `as recorded${hum}`;
    const [low, high] = this.band, top = high < 0.49 * this.rate ? high : 0;
    return `${low}\u2013${top || amount(this.rate / 2)} Hz${hum}`;
  }

  changeGain(steps) {  // to more sensitive with steps above 0
    let at = GAINS.findIndex(g => g >= this.gain * 0.999);
    if (at < 0) at = GAINS.length - 1;
    this.gain = GAINS[Math.max(0, Math.min(GAINS.length - 1, at - steps))];
  }

  shown(first, last, view) {
    const notch = this.unit === "uV" ? view.notch : 0, band = view.filtered ? this.band : null;
    const key = `${first} ${last} ${band} ${notch}`;
    if (this.remembered.has(key)) return this.remembered.get(key);
    const sections = sectionsFor(band, notch, this.rate);
    const around = sections.length ? Math.ceil(SETTLING * this.rate) : 0;
    const all = zeroPhase(this.values(first - around, last + around), sections);
    const samples = all.subarray(around, around + last - first);
    if (this.remembered.size >= REMEMBERED) this.remembered.delete(this.remembered.keys().next().value);
    this.remembered.set(key, samples);
    return samples;
  }

  // The value in the middle of the lane: 0 for what a filter has freed of its offset.
  centre(samples, view) {
    if (view.filtered && this.band && this.band[0]) return 0;
    let sum = 0, size = 0;
    for (const v of samples) if (!Number.isNaN(v)) { sum += v; size++; }
    return size ? sum / size : 0;
  }
}
