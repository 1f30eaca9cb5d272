// Filters for display: Butterworth sections of second order, run forwards and backwards so that no
// wave moves in time (6 dB down at a corner). A sample that is not there holds the one before it.

function section(kind, hertz, rate, quality = Math.SQRT1_2) {  // R. Bristow-Johnson's cookbook
  const w = 2 * Math.PI * hertz / rate, alpha = Math.sin(w) / (2 * quality), cosine = Math.cos(w);
  const numerator = {
    highpass: [(1 + cosine) / 2, -(1 + cosine), (1 + cosine) / 2],
    lowpass: [(1 - cosine) / 2, 1 - cosine, (1 - cosine) / 2],
    notch: [1, -2 * cosine, 1],
  }[kind];
  return [...numerator, -2 * cosine, 1 - alpha].map(x => x / (1 + alpha));
}

function sectionsFor(band, notch, rate) {
  const made = [], [low, high] = band || [0, 0], below = 0.49 * rate;
  if (low > 0 && low < below) made.push(section("highpass", low, rate));
  if (high > 0 && high < below) made.push(section("lowpass", high, rate));
  if (notch && notch < below) made.push(section("notch", notch, rate, 15));
  return made;
}

function run(x, [b0, b1, b2, a1, a2], backwards) {
  const gain = (b0 + b1 + b2) / (1 + a1 + a2), n = x.length;
  let i = backwards ? n - 1 : 0;
  const step = backwards ? -1 : 1, rest = x[i];
  let s1 = (gain - b0) * rest, s2 = (b2 - a2 * gain) * rest;  // the steady state of that value
  for (let k = 0; k < n; k++, i += step) {
    const value = x[i], y = b0 * value + s1;
    s1 = b1 * value - a1 * y + s2;
    s2 = b2 * value - a2 * y;
    x[i] = y;
  }
}

function zeroPhase(samples, sections) {
  let held = samples.find(Number.isFinite);
  if (held === undefined || !sections.length) return samples;
  const x = Float64Array.from(samples, v => (Number.isFinite(v) ? (held = v) : held));
  for (const each of sections) {
    run(x, each, false);
    run(x, each, true);
  }
  for (let i = 0; i < x.length; i++) if (!Number.isFinite(samples[i])) x[i] = NaN;
  return x;
}
