// Packed signals, as packed_signals.py writes them: 15 bits a character, deflated; residuals of a
// linear prediction in whole numbers; codes with a minimum and a step for each block of 10 s.
"use strict";

const FIRST_CHARACTER = 0x4000, BITS = 15, SHIFT = 12;

function bytesOf(text) {
  const size = text.length - 1, fill = text.charCodeAt(0) - FIRST_CHARACTER;
  const bytes = new Uint8Array(Math.floor((size * BITS - fill) / 8));
  let held = 0, bits = 0, place = 0;
  for (let i = 1; i <= size; i++) {
    held = (held << BITS) | (text.charCodeAt(i) - FIRST_CHARACTER);
    bits += BITS;
    while (bits >= 8 && place < bytes.length) {
      bits -= 8;
      bytes[place++] = held >>> bits;
    }
    held &= (1 << bits) - 1;
  }
  return bytes;
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Turns residuals into codes, in place. The loop for the usual order keeps the codes before in
// variables: it goes over a night of 23 million samples while the page opens.
function restore(codes, block, coefficients) {
  const order = coefficients.length, half = 1 << (SHIFT - 1);
  for (let start = 0; start < codes.length; start += block) {
    const end = Math.min(codes.length, start + block), steady = Math.min(end, start + order);
    for (let i = start + 1; i < steady; i++) codes[i] += codes[i - 1];
    if (order === 8) {
      const [a, b, c, d, e, f, g, h] = coefficients;
      let p1 = codes[steady - 1] - 128, p2 = codes[steady - 2] - 128, p3 = codes[steady - 3] - 128;
      let p4 = codes[steady - 4] - 128, p5 = codes[steady - 5] - 128, p6 = codes[steady - 6] - 128;
      let p7 = codes[steady - 7] - 128, p8 = codes[steady - 8] - 128;
      for (let i = steady; i < end; i++) {
        const total = half + a * p1 + b * p2 + c * p3 + d * p4 + e * p5 + f * p6 + g * p7 + h * p8;
        p8 = p7; p7 = p6; p6 = p5; p5 = p4; p4 = p3; p3 = p2; p2 = p1;
        const code = (codes[i] + (total >> SHIFT) + 128) & 255;
        codes[i] = code;
        p1 = code - 128;
      }
      continue;
    }
    for (let i = steady; i < end; i++) {
      let total = half;
      for (let k = 0; k < order; k++) total += coefficients[k] * (codes[i - 1 - k] - 128);
      codes[i] += (total >> SHIFT) + 128;
    }
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
    restore(this.codes, this.block, this.coefficients);
  }

  // Samples first to last - 1, which may lie outside the night; NaN where there is none.
  values(first, last) {
    const out = new Float32Array(last - first).fill(NaN);
    for (let i = Math.max(0, first); i < Math.min(last, this.size);) {
      const number = Math.floor(i / this.block), low = this.low[number], step = this.step[number];
      const end = Math.min(last, this.size, (number + 1) * this.block);
      for (; i < end; i++) if (this.codes[i]) out[i - first] = low + step * (this.codes[i] - 1);
    }
    return out;
  }
}
