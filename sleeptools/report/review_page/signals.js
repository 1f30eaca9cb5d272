// Packed signals, as packed_signals.py writes them: 15 bits a character, deflated; residuals of a
// linear prediction in whole numbers; codes with a minimum and a step for each block of 10 s.
"use strict";

const FIRST_CHARACTER = 0x4000, BITS = 15, SHIFT = 12;

// 8 characters are 15 bytes; the rest of the text goes bit by bit.
function bytesOf(text) {
  const size = text.length - 1, fill = text.charCodeAt(0) - FIRST_CHARACTER;
  const bytes = new Uint8Array(Math.floor((size * BITS - fill) / 8));
  const at = i => text.charCodeAt(i) - FIRST_CHARACTER;
  let place = 0, i = 1;
  for (; i + 8 <= size; i += 8, place += 15) {
    const a = at(i), b = at(i + 1), c = at(i + 2), d = at(i + 3);
    const e = at(i + 4), f = at(i + 5), g = at(i + 6), h = at(i + 7);
    bytes[place] = a >> 7;
    bytes[place + 1] = a << 1 | b >> 14;
    bytes[place + 2] = b >> 6;
    bytes[place + 3] = b << 2 | c >> 13;
    bytes[place + 4] = c >> 5;
    bytes[place + 5] = c << 3 | d >> 12;
    bytes[place + 6] = d >> 4;
    bytes[place + 7] = d << 4 | e >> 11;
    bytes[place + 8] = e >> 3;
    bytes[place + 9] = e << 5 | f >> 10;
    bytes[place + 10] = f >> 2;
    bytes[place + 11] = f << 6 | g >> 9;
    bytes[place + 12] = g >> 1;
    bytes[place + 13] = g << 7 | h >> 8;
    bytes[place + 14] = h;
  }
  for (let held = 0, bits = 0; i <= size; i++) {
    held = held << BITS | at(i);
    bits += BITS;
    for (; bits >= 8 && place < bytes.length; bits -= 8) bytes[place++] = held >>> bits - 8;
    held &= (1 << bits) - 1;
  }
  return bytes;
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Turns the residuals of one block into codes, in place.
function restore(codes, coefficients) {
  const order = coefficients.length, half = 1 << (SHIFT - 1);
  for (let i = 1; i < Math.min(order, codes.length); i++) codes[i] += codes[i - 1];
  for (let i = order; i < codes.length; i++) {
    let total = half;
    for (let k = 0; k < order; k++) total += coefficients[k] * (codes[i - 1 - k] - 128);
    codes[i] += (total >> SHIFT) + 128;
  }
}

class NightSignal {
  constructor(facts, element) {
    Object.assign(this, facts);  // label, unit, modality, rate, block, coefficients, size, ...
    this.element = element;
    this.codes = null;
  }

  async load() {
    const data = await inflate(bytesOf(this.element.textContent));
    this.element.remove();  // its text is no longer needed
    const blocks = Math.ceil(this.size / this.block);
    const scales = new DataView(data.buffer, data.byteOffset, 8 * blocks);
    const float = i => scales.getFloat32(4 * i, true);
    this.low = Float32Array.from({length: blocks}, (_, i) => float(i));
    this.step = Float32Array.from({length: blocks}, (_, i) => float(blocks + i));
    this.codes = data.subarray(8 * blocks, 8 * blocks + this.size);
    if (this.codes.length !== this.size) throw new Error(`${this.label}: the page is cut short`);
    this.restored = new Uint8Array(blocks);
  }

  // A block is restored when it is first looked at, so that a night opens at once.
  restoreBlock(number) {
    if (this.restored[number]) return;
    this.restored[number] = 1;
    restore(this.codes.subarray(number * this.block, (number + 1) * this.block), this.coefficients);
  }

  // Samples first to last - 1, which may lie outside the night; NaN where there is none.
  values(first, last) {
    const out = new Float32Array(last - first).fill(NaN);
    for (let i = Math.max(0, first); i < Math.min(last, this.size);) {
      const number = Math.floor(i / this.block);
      this.restoreBlock(number);
      const low = this.low[number], step = this.step[number];
      const end = Math.min(last, this.size, (number + 1) * this.block);
      for (; i < end; i++) if (this.codes[i]) out[i - first] = low + step * (this.codes[i] - 1);
    }
    return out;
  }
}
