// Figures with their last minute, and the pipeline: stations, and the blocks on their way.

const SECONDS_KEPT = 60;
const FIGURES = [
  ["first", "First frame", "ms"],
  ["fps", "Frames per second", ""],
  ["onset", "Voice to mouth, p50", "ms"],
  ["jitter", "Jitter, p95", "ms"],
  ["late", "Late frames", ""],
  ["offset", "Sound after picture", "ms"],
];
const FRAME_MS = 40, BLOCK_MS = 750, WINDOW_MS = 3600;
const BLOCK_COLOURS = ["#4c86b8", "#3f9c76", "#c58a2c", "#8a6bb5", "#c0605a"];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A canvas's context in CSS pixels, cleared. */
function cleared(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const scale = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

export class Figures {
  constructor(list) {
    this.shown = {};
    for (const [name, title, unit] of FIGURES) {
      const box = document.createElement("div");
      box.dataset.figure = name;
      box.innerHTML = `<dt>${title}</dt><dd><span>–</span><small>${unit}</small></dd>`;
      const canvas = document.createElement("canvas");
      canvas.setAttribute("aria-hidden", "true");
      box.append(canvas);
      list.append(box);
      this.shown[name] = { text: box.querySelector("span"), canvas, values: [] };
    }
  }

  clear() {
    for (const figure of Object.values(this.shown)) { figure.values = []; figure.text.textContent = "–"; }
  }

  /** A value, or null where there is none yet. */
  add(name, value) {
    const figure = this.shown[name], now = performance.now();
    if (value === null || value === undefined || !Number.isFinite(value)) return;
    figure.text.textContent = Math.abs(value) < 10 && !Number.isInteger(value) ? value.toFixed(1) : Math.round(value);
    figure.values.push([now, value]);
    while (figure.values[0][0] < now - 1000 * SECONDS_KEPT) figure.values.shift();
    this.#plot(figure, now);
  }

  #plot({ canvas, values }, now) {
    const { context, width, height } = cleared(canvas);
    const all = values.map(([, value]) => value);
    const low = Math.min(0, ...all), high = Math.max(...all, low + 1);
    const at = ([time, value]) => [width * (1 - (now - time) / (1000 * SECONDS_KEPT)), height - 3 - (height - 6) * (value - low) / (high - low)];
    context.strokeStyle = colour("--line");
    context.beginPath(); context.moveTo(0, height - 0.5); context.lineTo(width, height - 0.5); context.stroke();
    context.strokeStyle = colour("--accent");
    context.lineWidth = 1.6; context.lineJoin = "round";
    context.beginPath();
    values.forEach((entry, index) => context[index ? "lineTo" : "moveTo"](...at(entry)));
    context.stroke();
  }
}

/** The names of the stations as people say them. */
const station = (name) => ({ audio_encoder: "hears", vae_decoder: "paints", dit_window: "denoises" })[name] ?? name.replace("dit_stage_", "denoises ");

export class Pipeline {
  constructor(canvas, words) {
    Object.assign(this, { canvas, words, blocks: [] });
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.drawn = 0;
    requestAnimationFrame((now) => this.#draw(now));
  }

  clear() {
    this.blocks = [];
    this.words.textContent = "";
  }

  /** The block that begins to be shown now, and the milliseconds that its stations took. */
  add(block, timings) {
    const { total, queued, audio_encoder, vae_decoder, ...stages } = timings;
    const rows = Object.entries({ audio_encoder, ...stages, vae_decoder }).filter(([, ms]) => ms !== undefined);
    this.blocks.push({ block, rows, total, shown: performance.now() });
    if (this.blocks.length > 12) this.blocks.shift();
    const told = rows.map(([name, ms]) => `${station(name)} ${Math.round(ms)}`).join(" · ");
    const waits = queued ? ` · waits ${Math.round(queued)}` : "";
    this.words.textContent = `Block ${block}: ${told}${waits} ms, ${Math.round(total)} ms in all`;
  }

  #draw(now) {
    requestAnimationFrame((next) => this.#draw(next));
    if (document.hidden || now - this.drawn < (this.calm.matches ? 1000 : 33)) return;
    this.drawn = now;
    const { context, width, height } = cleared(this.canvas);
    const names = [...(this.blocks.at(-1)?.rows.map(([name]) => station(name)) ?? ["hears", "denoises 0", "paints"]), "is shown"];
    const left = 84, row = height / names.length, bar = Math.min(22, row - 8);
    context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    context.textBaseline = "middle";
    names.forEach((name, index) => {
      context.fillStyle = colour("--soft");
      context.textAlign = "left";
      context.fillText(name, 0, row * (index + 0.5));
      context.fillStyle = colour("--line");
      context.fillRect(left, Math.round(row * (index + 0.5)), width - left, 1);
    });
    context.save();
    context.beginPath(); context.rect(left, 0, width - left, height); context.clip();
    const x = (time) => left + (width - left) * (1 - (now - time) / WINDOW_MS);
    this.blocks.forEach((block, index) => {
      const until = this.blocks[index + 1]?.shown ?? now;
      this.#drawBlock(context, block, x, row, bar, until);
    });
    context.restore();
  }

  /** Bars from station to station, the last one ending where the block begins to be shown. */
  #drawBlock(context, { block, rows, shown }, x, row, bar, until) {
    context.fillStyle = BLOCK_COLOURS[block % BLOCK_COLOURS.length];
    let begin = shown - rows.reduce((sum, [, ms]) => sum + ms, 0);
    const drawn = [...rows.map(([, ms]) => ms), Math.min(BLOCK_MS, until - shown)];
    drawn.forEach((ms, index) => {
      const from = x(begin), to = x(begin + ms), middle = row * (index + 0.5);
      context.beginPath();
      context.roundRect(from, middle - bar / 2, Math.max(2, to - from - 1), bar, 5);
      context.fill();
      if (to - from > 22) {
        context.save();
        context.fillStyle = "#fff"; context.textAlign = "center";
        context.fillText(block, (from + to) / 2, middle + 0.5);
        context.restore();
      }
      begin += ms;
    });
  }
}

/** Rate and jitter of the pictures that a video really shows; `shown` hears of each of them. */
export class Shown {
  constructor(video, shown) {
    this.times = [];
    this.count = 0;
    const next = (_, metadata) => {
      this.times.push(metadata.expectedDisplayTime);
      while (this.times[0] < metadata.expectedDisplayTime - 4000) this.times.shift();
      this.count += 1;
      shown(metadata);
      video.requestVideoFrameCallback(next);
    };
    video.requestVideoFrameCallback?.(next);
  }

  clear() {
    this.times = [];
    this.count = 0;
  }

  get fps() {
    const [first, last] = [this.times[0], this.times.at(-1)];
    return this.times.length > 1 ? (1000 * (this.times.length - 1)) / (last - first) : null;
  }

  /** How far from 40 ms the time between two pictures is, in ms, for 95 of 100. */
  get jitter() {
    const off = this.times.slice(1).map((time, index) => Math.abs(time - this.times[index] - FRAME_MS)).sort((a, b) => a - b);
    return off.length > 10 ? off[Math.floor(0.95 * off.length)] : null;
  }
}
